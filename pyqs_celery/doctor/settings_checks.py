"""Settings: those without effect, those that look misspelt, and those that are dangerous."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from pyqs_celery.app.config_table import IDLE_DEFAULTS, MISSED, SETTINGS, WITHOUT_EFFECT
from pyqs_celery.doctor.finding import Context, Finding

PREFIXES = ("task_", "worker_", "broker_", "result_", "beat_", "celery_", "event_", "sqs_")
PICKLES = {"pickle", "application/x-python-serialize"}


def check_settings(context: Context) -> Iterable[Finding]:
    """Everything about the application's settings."""
    if context.app is None:
        return
    conf = context.app.conf
    given = conf.table(with_defaults=False, censored=False)
    for name in sorted(given):
        if name in WITHOUT_EFFECT and given[name] != IDLE_DEFAULTS[name]:
            severity = "warning" if name in MISSED else "info"
            yield Finding(severity, "setting-idle", name, f"{name} has no effect here", WITHOUT_EFFECT[name])  # type: ignore[arg-type]
        elif name not in SETTINGS and name not in WITHOUT_EFFECT:
            yield from _unknown(name)
    yield from _dangerous(set(conf.accept_content or ()) | {conf.task_serializer}, str(conf.result_backend or ""))
    if conf.task_acks_late is False:
        yield Finding(
            "info",
            "early-acks",
            "task_acks_late",
            "task_acks_late = False is kept: messages are deleted before their tasks run, so a crash loses them",
            "take the setting out to have messages deleted after success only",
        )


def _unknown(name: str) -> Iterator[Finding]:
    lower = name.lower()
    if not lower.startswith(PREFIXES):
        return
    known = [*SETTINGS, *WITHOUT_EFFECT]
    meant = difflib.get_close_matches(lower.removeprefix("celery_"), known, n=1, cutoff=0.85)
    if meant:
        yield Finding(
            "warning", "setting-unknown", name, f"{name} is no setting; it looks like {meant[0]}", f"write {meant[0]}"
        )


def _dangerous(accepted: set[str], backend: str) -> Iterator[Finding]:
    if accepted & PICKLES:
        yield Finding(
            "warning",
            "pickle",
            "accept_content",
            "pickle is accepted: whoever may send to a queue may run code on the workers",
            "send JSON; until no pickles are left, name the classes that may be in them with pickle_allowed_classes",
        )
    scheme = backend.partition(":")[0]
    if scheme in ("rpc", "amqp"):
        yield Finding(
            "error",
            "result-backend",
            "result_backend",
            f"results over {scheme}:// need a broker that SQS is not",
            "use redis://, db+..., or none",
        )
    elif backend and scheme not in ("disabled", "cache+memory"):
        yield Finding(
            "error",
            "result-backend",
            "result_backend",
            f"this release has no {scheme} result back end and refuses to start with it",
            "leave result_backend unset, or keep tasks whose results are read on Celery workers",
        )
