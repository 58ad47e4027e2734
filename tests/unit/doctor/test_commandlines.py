"""Celery's command lines in files that start things: found as they are written there, and prose is none."""

from __future__ import annotations

import pytest

from pyqs_celery.bin.options import ALL_FLAGS
from pyqs_celery.doctor import Context
from pyqs_celery.doctor.commandlines import command_lines
from pyqs_celery.doctor.deploy_checks import check_deploys

WORKER = [("celery", "worker", ("-A", "shop"), ("-Q", "a,b"))]


def found(name, text):
    return [(each.program, each.verb, each.before, each.behind) for each in command_lines(name, text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Procfile", "worker: celery -A shop worker -Q a,b"),
        ("Procfile", "worker: X=1 exec /venv/bin/celery -A shop worker -Q a,b"),
        ("run.sh", "cd /srv && python -m celery -A shop worker \\\n  # both\n  -Q a,b  # celery -A x beat"),
        ("run.sh", "(celery -A shop worker -Q 'a,b' &)"),
        ("run.sh", "X=$(celery -A shop worker -Q a,b)"),
        ("run.sh", "${CELERY_BIN} -A shop worker -Q a,b"),
        ("w.service", "ExecStart=/bin/sh -c '$CELERY_BIN -A shop \\\n worker -Q a,b'"),
        ("w.service", "ExecStartPre=-/venv/bin/celery -A shop worker -Q a,b"),
        ("s.conf", "[program:w]\ncommand=/venv/bin/celery\n    -A shop worker\n    -Q a,b\n; celery -A x beat"),
        ("Dockerfile", 'ENTRYPOINT ["celery", "-A", "shop"]\nCMD ["worker", "-Q", "a,b"]'),
        ("Dockerfile", "HEALTHCHECK CMD celery -A shop worker -Q a,b"),
        ("c.yml", 'command: ["celery", "-A", "shop", "worker", "-Q", "a,b"]'),
        ("c.yml", "command: [celery, -A, shop,\n  worker, -Q, 'a,b']"),
        ("c.yml", "w:\n  command: celery -A shop\n    worker -Q a,b\n  image: x"),
        ("c.yml", "w:\n  entrypoint: [tini, --, celery]\n  command: -A shop worker -Q a,b"),
        ("c.yml", 'command: >-\n  sh -c "./manage.py migrate &&\n  celery -A shop worker -Q a,b"\nx: 1'),
        ("c.yml", "run: |\n  set -e\n  celery -A shop worker \\\n    -Q a,b\nx: 1"),
        ("k.yaml", '- command: ["celery"]\n  args: ["-A", "shop", "worker", "-Q", "a,b"]'),
        ("k.yaml", "args:\n  - -A\n  - shop\n  # the work\n  - worker\n  - -Q\n  - a,b\ncommand:\n  - celery"),
        ("k.yaml", "command:\n- sh\n- -c\n- |\n  exec celery -A shop worker -Q a,b\n"),
    ],
)
def test_a_command_is_found(name, text):
    assert found(name, text) == WORKER


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.sh", "pip install celery flower"),
        ("run.sh", "echo starting celery worker"),
        ("run.sh", "# celery -A shop worker"),
        ("run.sh", "pkill -f celery worker"),
        ("run.sh", "tail -f /var/log/celery worker"),
        ("w.service", "Description=The celery worker"),
        ("Dockerfile", "COPY celery worker"),
        ("c.yml", "depends_on:\n  - celery\n  - worker"),
        ("c.yml", "image: celery\nname: celery worker"),
        ("c.yml", "note: run the celery worker here"),
        ("c.yml", "celery:\n  image: x"),
    ],
)
def test_prose_is_no_command(name, text):
    assert found(name, text) == []


def test_templates_stay_what_they_are():
    text = 'command: ["celery", "-A", "shop", "worker", "-c", "{{ .Values.slots | default 4 }}"]'

    [(_, _, _, behind)] = found("w.yaml", text)

    assert behind == ("-c", "{{ .Values.slots | default 4 }}")


def test_two_containers_do_not_lend_each_other_words():
    text = '- command: ["celery"]\n  name: a\n- args: ["-A", "shop", "worker"]\n  name: b\n'

    assert found("k.yaml", text) == []


# -- what is said of them ----------------------------------------------------------------------------


@pytest.fixture
def said(tmp_path):
    def say(line):
        (tmp_path / "Procfile").write_text(f"w: {line}\n")
        context = Context(
            paths=(tmp_path,),
            flags=frozenset(name for flag in ALL_FLAGS for name in flag.names),
            switches=frozenset(name for flag in ALL_FLAGS for name in flag.names if flag.switch),
            idle_flags={"-O": "it is so", "--statedb": "no file"},
            gone={"amqp": "no AMQP"},
        )
        return [(each.code, each.fix) for each in check_deploys(context)]

    return say


@pytest.mark.parametrize(
    ("line", "here"),
    [
        ("celery -A shop worker -Q a,b --autoscale=10,3", "pyqs-celery -A shop worker -Q a,b --autoscale=10,3"),
        ("celery worker -A shop -l INFO", "pyqs-celery -A shop worker -l INFO"),
        ("celery worker --app=shop -c 4 --workdir /srv", "pyqs-celery --app=shop --workdir /srv worker -c 4"),
        ("celery -A shop worker -n w#1@%h -Q 'a b'", "pyqs-celery -A shop worker -n 'w#1@%h' -Q 'a b'"),
        ("celery -A $APP worker -c ${SLOTS:-4}", "pyqs-celery -A $APP worker -c ${SLOTS:-4}"),
        ("celery multi start w1 -A shop", "pyqs-celery multi start w1 -A shop"),
    ],
)
def test_the_same_command_here(said, line, here):
    assert said(line) == [("celery-command", f"write: {here}")]


@pytest.mark.parametrize(
    ("flags", "codes"),
    [
        ("-Z", ["unknown-flag"]),
        ("-c -1 -Q -dashed", []),
        ("-BE", ["events"]),
        ("-Ofair -linfo -c4", ["flag-idle"]),
        ("--no-execv --statedb=/x", ["unknown-flag", "flag-idle"]),
        ("-l info -A shop -q", []),
        ("queue key=value -- --what-ever", []),
    ],
)
def test_flags_are_those_of_the_worker(said, flags, codes):
    assert [code for code, _ in said(f"pyqs-celery -A shop worker {flags}")] == codes


def test_what_is_not_here_is_told(said):
    assert said("celery -A shop amqp") == [("command-gone", "no AMQP")]
    assert [code for code, _ in said("celery -A shop events")] == ["events"]
