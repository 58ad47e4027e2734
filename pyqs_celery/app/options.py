"""The options of a task's decorator: which there are, what a misspelt one was meant to be, and how rates are written."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pyqs_celery.exceptions import CeleryWarning, ImproperlyConfigured

if TYPE_CHECKING:
    import inspect

KNOWN = frozenset(
    "abstract acks_late acks_on_failure acks_on_failure_or_timeout acks_on_timeout autoretry_for base bind compression "
    "default_retry_delay delivery_mode dont_autoretry_for exchange expires ignore_result lazy max_retries message_group_id name "
    "override_max_retries priority pydantic pydantic_context pydantic_dump_kwargs pydantic_strict queue rate_limit "
    "reject_on_worker_lost resultrepr_maxsize retry_backoff retry_backoff_max retry_jitter retry_kwargs routing_key "
    "send_events serializer shared soft_time_limit sqs_retry store_errors_even_if_ignored throws time_limit "
    "track_started trail typing Request Strategy".split()
)
"""The options that mean something; any other becomes an attribute of the task, as in Celery."""
_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:/\s*([smh]))?\s*$")


def typo_of(option: str) -> str | None:
    """The option that a name differs from by a letter or two; None for a known option and for any other name."""
    if option in KNOWN:
        return None
    import difflib

    meant = difflib.get_close_matches(option, KNOWN, n=1, cutoff=0.8)
    return meant[0] if meant else None


def warn_of_typos(name: str, options: Iterable[str]) -> None:
    """Warn of options that look misspelt, since as attributes they would do nothing."""
    for option in options:
        meant = typo_of(option)
        if meant:
            warnings.warn(
                f"task {name}: the option {option!r} is not known and only becomes an attribute; did you mean {meant!r}?",
                CeleryWarning,
                stacklevel=4,
            )


def acks_late(task: Any, conf: Any) -> bool:
    """Whether a task's message is deleted after its run: as the task says, else the settings, else the delivery mode."""
    said = task.acks_late if task.acks_late is not None else conf.task_acks_late
    return bool(conf.sqs_delivery != "celery" if said is None else said)


def starts_per_second(rate: Any) -> float | None:
    """``"10/m"``, ``"5/s"``, ``"100/h"`` or a number a second; None, 0 and "" are no limit. Raises ImproperlyConfigured.

    https://docs.celeryq.dev/en/stable/userguide/tasks.html#Task.rate_limit
    """
    if rate is None or rate == "":
        return None
    if isinstance(rate, (int, float)) and not isinstance(rate, bool):
        return float(rate) if rate > 0 else None
    match = _RATE.match(rate) if isinstance(rate, str) else None
    if match is None:
        raise ImproperlyConfigured(f"rate_limit must be a number a second or like '10/m' (s, m or h), not {rate!r}")
    return float(match[1]) / _PER[match[2] or "s"] or None


def positional_counts(signature: inspect.Signature | None) -> range:
    """How many arguments a call may have that has no keywords; empty where it takes more to tell."""
    import inspect

    if signature is None:
        return range(0)
    least = most = 0
    for parameter in signature.parameters.values():
        needed = parameter.default is parameter.empty
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            most, least = most + 1, least + needed
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = sys.maxsize - 1
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and needed:
            return range(0)
    return range(least, most + 1)


def call_signature(fun: Callable[..., Any], bind: bool) -> inspect.Signature | None:
    """What a caller may pass; None where Python cannot tell."""
    import inspect

    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    if (
        bind
        and parameters
        and parameters[0].kind
        in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        )
    ):
        return signature.replace(parameters=parameters[1:])
    return signature
