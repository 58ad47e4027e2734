"""Settings: those without effect, those that look misspelt, and those that are dangerous."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from pyqs_celery.app.config import OLD_NAMES
from pyqs_celery.app.config_idle import IDLE_DEFAULTS, MISSED, WITHOUT_EFFECT
from pyqs_celery.app.config_table import SETTINGS
from pyqs_celery.doctor.finding import Context, Finding
from pyqs_celery.exceptions import ImproperlyConfigured

PICKLES = {"pickle", "application/x-python-serialize"}
NEW_NAMES = (*SETTINGS, *WITHOUT_EFFECT)
PREFIXES = tuple(
    {f"{name.split('_')[0]}_" for name in NEW_NAMES} - {"control_", "cache_", "database_", "redis_", "enable_"}
)


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
            yield from _unknown(name, conf.namespace)
    yield from _broker(context.app)
    yield from _pickle(conf)
    yield from _results(str(conf.result_backend or ""))
    if conf.task_acks_late is False:
        yield Finding(
            "info",
            "early-acks",
            "task_acks_late",
            "task_acks_late = False is kept: messages are deleted before their tasks run, so a crash loses them",
            "take the setting out to have messages deleted after success only",
        )


def _unknown(name: str, namespace: str | None) -> Iterator[Finding]:
    """A name that is nobody's, if it is spelt nearly like one that is: as new names are, or as those in capitals."""
    space = (namespace or "CELERY").rstrip("_")
    if name.isupper():
        known = [*OLD_NAMES, *(f"{space}_{each.upper()}" for each in NEW_NAMES)]
        is_likely = name.startswith((f"{space}_", "CELERY", "BROKER_"))
    else:
        known, is_likely = [*NEW_NAMES], name.startswith(PREFIXES)
    meant = difflib.get_close_matches(name, known, n=1, cutoff=0.9) if is_likely else []
    if meant:
        yield Finding(
            "warning", "setting-unknown", name, f"{name} is no setting; it looks like {meant[0]}", f"write {meant[0]}"
        )


def _broker(app: Any) -> Iterator[Finding]:
    try:
        app.broker_config()
    except ImproperlyConfigured as exc:
        yield Finding("error", "broker", "broker_url", str(exc), "set broker_url, or broker_transport_options, to that")


def _pickle(conf: Any) -> Iterator[Finding]:
    if PICKLES & {*(conf.accept_content or ()), conf.task_serializer}:
        yield Finding(
            "warning",
            "pickle",
            "accept_content",
            "pickle is accepted: whoever may send to a queue may run code on the workers",
            "send JSON; until no pickles are left, name the classes that may be in them with pickle_allowed_classes",
        )
    if PICKLES & {*(conf.result_accept_content or ()), conf.result_serializer}:
        yield Finding(
            "error",
            "pickle",
            "result_serializer",
            "results are pickled: whoever may write to the result back end may run code in every process that reads a result, "
            "web servers too",
            "set result_serializer and result_accept_content to json",
        )


def _results(backend: str) -> Iterator[Finding]:
    scheme = backend.partition(":")[0]
    if scheme in ("rpc", "amqp"):
        yield Finding(
            "error",
            "result-backend",
            "result_backend",
            f"results over {scheme}:// need a broker that SQS is not",
            "use redis://, dynamodb://, s3://, db+..., or none",
        )
