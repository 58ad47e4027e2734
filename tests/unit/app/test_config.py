"""Settings under all their names, from all their sources."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from pyqs_celery import Celery
from pyqs_celery.app.config_idle import WITHOUT_EFFECT
from pyqs_celery.app.config_table import SETTINGS
from pyqs_celery.app.loader import AppNotFound, find_app
from pyqs_celery.exceptions import ImproperlyConfigured


def make(**settings):
    return Celery("c", set_as_current=False, **settings)


class Old:
    BROKER_URL = "sqs://old"
    CELERY_ACKS_LATE = True
    CELERYD_CONCURRENCY = 7


class New:
    broker_url = "sqs://new"
    task_acks_late = True
    worker_concurrency = 7


class Namespaced:
    CELERY_BROKER_URL = "sqs://namespaced"
    CELERY_TASK_ACKS_LATE = True
    CELERY_WORKER_CONCURRENCY = 7
    OTHER = 1


@pytest.mark.parametrize(
    ("source", "namespace", "url"),
    [(Old, None, "sqs://old"), (New, None, "sqs://new"), (Namespaced, "CELERY", "sqs://namespaced")],
)
def test_names_of_every_age(source, namespace, url):
    app = make()
    app.config_from_object(source, namespace=namespace)

    assert (app.conf.broker_url, app.conf["task_acks_late"], app.conf.worker_concurrency) == (url, True, 7)


def test_a_module_by_name(monkeypatch):
    module = types.ModuleType("proj_settings")
    module.task_default_queue = "mine"
    monkeypatch.setitem(sys.modules, "proj_settings", module)
    app = make()
    app.config_from_object("proj_settings")

    assert app.conf.task_default_queue == "mine"


def test_a_module_that_is_not_there():
    app = make()
    app.config_from_object("no.such.module")

    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.module"):
        app.conf.broker_url  # noqa: B018 - reading it is what is tested


def test_what_is_set_later_wins_and_unknown_names_are_kept():
    app = make(task_default_queue="first")
    app.conf.task_default_queue = "second"
    app.conf.update(my_own_setting=1)

    assert (app.conf.task_default_queue, app.conf.my_own_setting) == ("second", 1)


def test_old_and_new_names_do_not_mix():
    class Mixed:
        BROKER_URL = "sqs://"
        task_acks_late = True

    app = make()
    app.config_from_object(Mixed)

    with pytest.raises(ImproperlyConfigured, match="mixes"):
        app.conf.broker_url  # noqa: B018 - reading it is what is tested


@pytest.mark.parametrize(("name", "value"), [("worker_lease_seconds", "soon"), ("task_protocol", "two")])
def test_a_value_of_the_wrong_kind_is_refused(name, value):
    with pytest.raises(ImproperlyConfigured, match=name):
        make(**{name: value}).conf[name]


def test_every_setting_is_documented():
    text = (Path(__file__).parents[3] / "docs" / "settings.rst").read_text()
    rows = {name: rest.strip() for name, rest in re.findall(r"^``(\w+)``(?: \\\*)? +(.*)$", text, flags=re.MULTILINE)}

    assert rows.keys() == {*SETTINGS, *WITHOUT_EFFECT}
    assert [name for name, each in SETTINGS.items() if not rows[name].endswith(f" {each.doc}")] == []
    assert [name for name, reason in WITHOUT_EFFECT.items() if rows[name] != reason] == []
    shown = {name: re.match(r"``(.*?)`` ", f"{rows[name]} ") for name in SETTINGS}
    assert [name for name, found in shown.items() if found and found[1] != repr(SETTINGS[name].default)] == []


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package ``demo_proj`` with an app in its module celery and another elsewhere."""
    folder = tmp_path / "demo_proj"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "celery.py").write_text("from pyqs_celery import Celery\napp = Celery('in celery')\n")
    (folder / "other.py").write_text("from pyqs_celery import Celery\nmine = Celery('mine')\nnumber = 3\n")
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("demo_proj")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "main"),
    [
        ("demo_proj", "in celery"),
        ("demo_proj.celery", "in celery"),
        ("demo_proj.celery:app", "in celery"),
        ("demo_proj.other:mine", "mine"),
        ("demo_proj.other", "mine"),
    ],
)
def test_the_app_that_is_named(project, spec, main):
    assert find_app(spec).main == main


@pytest.mark.parametrize(
    "spec", ["no_such_module", "demo_proj.empty", "demo_proj.other:number", "demo_proj.other:absent"]
)
def test_no_app_is_said_in_a_sentence(project, spec):
    with pytest.raises(AppNotFound, match=spec.split(":", maxsplit=1)[0].replace(".", r"\.")):
        find_app(spec)
