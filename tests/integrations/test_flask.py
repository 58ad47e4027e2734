"""Flask's recipe: tasks run inside the application's context."""

from __future__ import annotations

import uuid

import pytest

flask = pytest.importorskip("flask")

from pyqs_celery import Celery, Task, shared_task  # noqa: E402
from pyqs_celery.contrib.testing.worker import start_worker  # noqa: E402


def celery_init_app(app):
    """As Flask's documentation writes it, with our import."""

    class FlaskTask(Task):
        def __call__(self, *args, **kwargs):
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


@shared_task(ignore_result=False)
def greet(name):
    return f"{flask.current_app.config['GREETING']} {name}"


def test_a_task_of_a_flask_application_runs_in_its_context():
    app = flask.Flask("shop")
    app.config.from_mapping(
        GREETING="Hello",
        CELERY={
            "broker_url": f"memory://{uuid.uuid4().hex}",
            "result_backend": "cache+memory://flask",
            "broker_transport_options": {"wait_time_seconds": 1},
        },
    )
    celery_app = celery_init_app(app)

    with start_worker(celery_app, perform_ping_check=False):
        assert greet.delay("world").get(timeout=10) == "Hello world"


def test_the_context_task_of_older_applications():
    app = flask.Flask("old")
    app.config["GREETING"] = "Ahoy"
    celery = Celery("old", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)

    class ContextTask(celery.Task):
        abstract = True

        def __call__(self, *args, **kwargs):
            with app.app_context():
                return super().__call__(*args, **kwargs)

    celery.Task = ContextTask

    @celery.task
    def hail(name):
        return f"{flask.current_app.config['GREETING']} {name}"

    assert hail.apply(("you",)).get() == "Ahoy you"
