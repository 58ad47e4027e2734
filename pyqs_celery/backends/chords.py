"""Chords that are counted in the store: each member adds one, and the last calls the body, exactly once.

A member may run more than once (its process was killed, its message came again), and the last may die between counting
and calling. So a store counts a member once however often it reports; whoever completes the chord first claims it, for a
few seconds, and marks it as done once the body's message is safe. A member that finds a chord complete but not done waits
for that, and takes over when the claim has run out; its own message is not deleted before.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pyqs_celery.backends.spreading import chord_error, culprit
from pyqs_celery.exceptions import BackendStoreError, ChordError, OperationalError
from pyqs_celery.utils.backoff import backoff

logger = logging.getLogger("celery.backends.base")
DONE = "done"
WAIT_FOR_OTHERS_SECONDS = 20.0


def claim_seconds(app: Any) -> int:
    """How long one worker may take to collect the values and call the body, before another takes over.

    Twice ``result_chord_join_timeout``, at least five seconds, as in Celery 5.7.
    """
    return max(5, int((app.conf.result_chord_join_timeout or 5.0) * 2))


def claimed(backend: Any, group_id: str, claim: Callable[[str, int], str]) -> tuple[str | None, bool]:
    """The token with which this worker may complete a chord (None if it is done), and whether another had it before.

    ``claim(token, seconds)`` asks the store and gives "won", "held" or "done". Raises BackendStoreError if another worker
    holds it all the time, so that this member's message is looked at again later.
    """
    token, seconds = uuid.uuid4().hex, claim_seconds(backend.app)
    until = backend.clock() + max(WAIT_FOR_OTHERS_SECONDS, seconds + 1)
    attempt = 0
    while True:
        answer = claim(token, seconds)
        if answer != "held":
            return (token if answer == "won" else None), attempt > 0
        attempt += 1
        if backend.clock() > until:
            raise BackendStoreError(f"chord {group_id} is being completed by another worker, which is not done yet")
        backend.sleep(backoff(attempt, first=0.1, most=1.0))


def is_called(backend: Any, request: Any) -> bool:
    """True if a chord's body has run already, or runs: asked where its caller may have died before it could say so."""
    return any(backend.task_result_exists(task_id) for task_id in dict.fromkeys(_ids(request.chord)))


def _ids(signature: Any) -> Iterator[str]:
    """The ids of the tasks that a body begins or ends with; those of its members if it is a group."""
    if not isinstance(signature, Mapping):
        return
    task_id = (signature.get("options") or {}).get("task_id")
    if task_id:
        yield task_id
    kwargs = signature.get("kwargs") or {}
    header = kwargs.get("header") or ()
    for each in (*(kwargs.get("tasks") or ()), *([header] if isinstance(header, Mapping) else header)):
        yield from _ids(each)


def call_body(backend: Any, request: Any, values: Callable[[], list[Any]], members: Callable[[], Any]) -> None:
    """Call a complete chord's body with its members' values, or fail it with the first member's error.

    Raises OperationalError if the body cannot be sent now: the chord stays complete and somebody tries again.
    """
    callback = backend.app.signature(request.chord)
    try:
        found = values()
    except (OperationalError, BackendStoreError):
        raise
    except ChordError as exc:
        _fail(backend, request, callback, exc)
    except Exception as exc:
        if any(backend.exception_safe_to_retry(each) for each in (exc, exc.__cause__) if each is not None):
            raise BackendStoreError(f"the members of chord {request.group} cannot be read: {exc}") from exc
        failed = culprit(members())
        reason = f"Dependency {failed.id} raised {exc!r}" if failed is not None else repr(exc)
        _fail(backend, request, callback, chord_error(reason, exc))
    else:
        try:
            callback.delay(found)
        except OperationalError:
            raise
        except Exception as exc:  # noqa: BLE001 - what cannot be sent now cannot be sent later either
            _fail(backend, request, callback, chord_error(f"Callback error: {exc!r}", exc))


def fail_body(backend: Any, request: Any, reason: str) -> None:
    """Fail a chord's body for a reason of its own."""
    _fail(backend, request, backend.app.signature(request.chord), ChordError(reason))


def _fail(backend: Any, request: Any, callback: Any, error: ChordError) -> None:
    logger.error("Chord %r raised: %s", request.group, error)
    backend.chord_error_from_stack(callback, error)


def size_of(request: Any) -> int | None:
    """How many members the sender says a chord has; None if it does not."""
    found = request.chord.get("chord_size") if hasattr(request.chord, "get") else None
    return None if found is None else int(found)


def parts(group: Any) -> int:
    """How many times members report before a chord is complete: each one of a group among them does."""
    return sum(parts(each) if hasattr(each, "results") else 1 for each in group.results)


def part_of(request: Any) -> str:
    """What names a member of a chord, though two may have one id: the id and its place."""
    return f"{request.id}:{request.group_index if request.group_index is not None else '+inf'}"


def complete_once(backend: Any, request: Any, group: Any, *, doubtful: bool = False) -> bool:
    """Call the body of a chord all of whose members have ended; where the store can tell, only if nobody has yet.

    ``doubtful`` says that somebody may have tried before. True if it was this worker that completed the chord.
    """

    def call() -> None:
        call_body(backend, request, lambda: joined(backend, group), lambda: group.results)

    claim = getattr(backend, "claim_chord", None)
    if claim is None:
        call()
        return True
    token, had = claimed(backend, request.group, lambda token, seconds: str(claim(request.group, token, seconds)))
    if token is None:
        return False
    if not (doubtful or had) or not is_called(backend, request):
        try:
            call()
        except BaseException:
            backend.drop_chord_claim(request.group, token)
            raise
    # by itself: were all of this tried again, the body would be called again
    backend._ensure_retryable(
        backend.mark_chord_done,
        request.group,
        fallback_exc=BackendStoreError,
        fallback_msg=f"chord {request.group} cannot be marked as done",
    )
    return True


def joined(backend: Any, group: Any) -> list[Any]:
    """The values of a chord's members, which have all ended. Raises the error of one that failed."""
    from pyqs_celery.result_base import allow_join_result

    join = group.join_native if group.supports_native_join else group.join
    with allow_join_result():
        found: list[Any] = join(timeout=backend.app.conf.result_chord_join_timeout, propagate=True)
    return found
