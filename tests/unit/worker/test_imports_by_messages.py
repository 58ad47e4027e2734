"""Which modules a message of PyQS's may cause to be imported, and that no import ends a child."""

from __future__ import annotations

import sys
import types
import uuid

import pytest

from pyqs_celery import Celery
from pyqs_celery.worker.child import ChildLoop
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.policies import may_import

STARTED_WITH = ("shop", "shop.*", "mail*", "*", "?.*", "[a-z]*")


@pytest.mark.parametrize("path", ["shop.tasks.send", "shop.a.b.c", "mailing.send", "mail.send"])
def test_what_the_worker_was_started_with(path):
    assert may_import(path, STARTED_WITH)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "os.system",
            "subprocess.run",
            "shopping.cart.buy",
            "antigravity.x",
            "",
            ".",
            "shop.",
            "shop..tasks",
            ".shop.x",
        ),
        *(
            "shop.__main__.run",
            "shop.__init__.x",
            "shop.tasks.__import__",
            "shop.tasks/../x",
            "shop.tasks\n.x",
            "shop.a b",
        ),
        "shop." + "x." * 600 + "y",
    ],
)
def test_anything_else(path):
    assert not may_import(path, STARTED_WITH)


def test_a_module_that_ends_its_process_when_imported_ends_no_child(monkeypatch, tmp_path, caplog):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit('bye')\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("leaving", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    config = WorkerConfig(hostname="w@h", import_patterns=("leaving.*",))
    loop = ChildLoop(app, config, types.SimpleNamespace(), is_process=False)  # type: ignore[arg-type]

    loop._import("leaving.task")

    assert "cannot be imported" in caplog.text
    assert "leaving" not in sys.modules
    app.close()
