"""Every error this package raises, in one tree.

::

    Exception
     +- CeleryError                      base; Celery's name, kept for drop-in use
     |   +- ImproperlyConfigured         a setting is missing or contradicts another
     |   +- SecurityError
     |   |   +- ContentDisallowed*       content type not in accept_content
     |   +- TaskPredicate                control flow, not failure
     |   |   +- Ignore
     |   |   +- Reject
     |   |   +- Retry
     |   +- TaskError
     |   |   +- NotRegistered, AlreadyRegistered, QueueNotFound, TimeoutError
     |   |   +- MaxRetriesExceededError, TaskRevokedError, InvalidTaskError, ChordError
     |   |   +- IncompleteStream
     |   +- BackendError
     |   |   +- BackendGetMetaError
     |   |   +- BackendStoreError
     |   |       +- ResultTooLarge       the store does not take a value of this size
     |   +- WireError                    this body is not what it claims to be
     |   |   +- EnvelopeError*           outer text, base64 or JSON broken
     |   |   +- ForeignMessage           readable, but neither Celery's nor PyQS's
     |   |   +- BodyDecodeError*         the arguments cannot be deserialised
     |   |   |   +- MissingExtra         ... with what is installed here
     |   |   |   +- CannotVerify         ... with the certificates that are here
     |   |   +- UnacceptedContent*       a WireError and a ContentDisallowed
     |   +- BrokerError**                SQS answered no, or did not answer
     |   |   +- MessageTooLarge          over the queue's size limit
     |   |   +- QueueDoesNotExist, AccessDenied, Throttled, BrokerUnavailable
     |   |   +- InvalidRequest           SQS refuses what was asked
     |   |   +- ReceiptExpired           the lease was lost; the message will be seen again
     |   |   +- BatchError               some entries failed
     |   +- WorkerError
     |       +- BootError                exit code 3; do not respawn
     |       +- WorkerLostError, TimeLimitExceeded, SoftTimeLimitExceeded, Terminated
     +- OperationalError                 kombu's own, what a broker outage raises
    SystemExit
     +- WorkerShutdown, WorkerTerminate
    UserWarning
     +- CeleryWarning
         +- AlwaysEagerIgnored, NotConfigured, SecurityWarning, FixupWarning
         +- DuplicateTaskNameWarning, DuplicateNodenameWarning
         +- CDeprecationWarning, CPendingDeprecationWarning

``*`` also derives from kombu's class of the same meaning, ``**`` also from kombu's
``OperationalError``, so ``except`` clauses written for Celery keep working. Those are in ``kombu_errors.py``, and are
imported when one of them is first asked for, so that a process which only sends loads no kombu: the modules that it needs
write ``exceptions.InvalidRequest`` where they raise or catch one. A class's docstring is its default message.
Names and meanings: https://docs.celeryq.dev/en/stable/reference/celery.exceptions.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pyqs_celery.utils.lazy import first_use

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from kombu.exceptions import EncodeError as EncodeError  # noqa: PLC0414 - given away, though it is not ours
    from kombu.exceptions import OperationalError

    from pyqs_celery.kombu_errors import (
        AccessDenied,
        BatchError,
        BodyDecodeError,
        BrokerError,
        BrokerUnavailable,
        CannotVerify,
        ContentDisallowed,
        EnvelopeError,
        InvalidRequest,
        MessageTooLarge,
        MissingExtra,
        QueueDoesNotExist,
        ReceiptExpired,
        Throttled,
        UnacceptedContent,
    )

__all__ = (
    "AccessDenied",
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "BatchError",
    "BodyDecodeError",
    "BootError",
    "BrokerError",
    "BrokerUnavailable",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CannotVerify",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "ContentDisallowed",
    "ControlUnavailable",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EnvelopeError",
    "FixupWarning",
    "ForeignMessage",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidRequest",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "MessageTooLarge",
    "MissingExtra",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueDoesNotExist",
    "QueueNotFound",
    "ReceiptExpired",
    "Reject",
    "ResultTooLarge",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "Throttled",
    "TimeLimitExceeded",
    "TimeoutError",
    "UnacceptedContent",
    "WireError",
    "WorkerError",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
    "reraise",
)


class CeleryError(Exception):
    """Base of all errors of this package."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").strip().splitlines()[0]


class ImproperlyConfigured(CeleryError):
    """A setting is missing or contradicts another."""


class SecurityError(CeleryError):
    """Something was refused for safety's sake."""


# --- control flow --------------------------------------------------------------------------------


class TaskPredicate(CeleryError):
    """Base of what a task raises to say how its run shall count."""


class Ignore(TaskPredicate):
    """The task's state shall not be touched; its message is deleted."""


class Reject(TaskPredicate):
    """The task's message shall go back (``requeue=True``) or to the dead-letter queue."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task shall be run again later.

    ``message`` is free text, ``exc`` the error that caused it (an exception or its repr), ``when``
    seconds from now or an instant, ``sig`` the signature that was or will be sent.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        self.message = message
        self.exc: BaseException | None = None if isinstance(exc, str) else exc
        self.excs: str | None = exc if isinstance(exc, str) else repr(exc) if exc else None
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(self, exc, when, **kwargs)

    def humanize(self) -> str:
        """When the retry happens: ``in 20s`` or ``at 2031-02-03 04:05:06``."""
        if isinstance(self.when, (int, float)):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        if self.excs:
            return f"Retry {self.humanize()}: {self.excs}"
        return f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.exc, self.when)


# --- tasks ---------------------------------------------------------------------------------------


class TaskError(CeleryError):
    """Base of errors about tasks."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is registered."""

    def __str__(self) -> str:
        return f"Task of kind {super().__repr__()} never registered, please make sure it's imported."

    def __repr__(self) -> str:
        return self.__str__()


class AlreadyRegistered(TaskError):
    """A task of that name is registered already."""


class QueueNotFound(KeyError, TaskError):
    """The queue a task is routed to is not in task_queues."""


class TimeoutError(TaskError):  # noqa: A001 - Celery's name
    """The operation did not finish in the time given."""


class MaxRetriesExceededError(TaskError):
    """The task has been retried as often as it may."""

    def __init__(self, *args: Any, task_args: Any = (), task_kwargs: Any = None) -> None:
        self.task_args = task_args
        self.task_kwargs = task_kwargs if task_kwargs is not None else {}
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked, so it has no result."""


class InvalidTaskError(TaskError):
    """The message names a task but cannot be run as one."""


class ControlUnavailable(CeleryError, NotImplementedError):
    """Remote control was asked for something that needs a broadcast, which SQS does not have."""


class CeleryCommandException(CeleryError):
    """A command failed; ``exit_code`` is what its process is to end with."""

    def __init__(self, message: str = "", exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class IncompleteStream(TaskError):
    """The end of the data was reached before it was complete."""


class ChordError(TaskError):
    """A member of the chord failed, so its body was not run."""


class BackendError(CeleryError):
    """Base of errors of result back ends."""


class BackendGetMetaError(BackendError):
    """A result could not be read."""

    def __init__(self, *args: Any, task_id: str = "") -> None:
        self.task_id = task_id
        super().__init__(*args)


class BackendStoreError(BackendError):
    """A result could not be stored."""

    def __init__(self, *args: Any, state: str = "", task_id: str = "") -> None:
        self.state = state
        self.task_id = task_id
        super().__init__(*args)


class ResultTooLarge(BackendStoreError):
    """A result is larger than the store takes; nothing was stored."""


# --- the wire ------------------------------------------------------------------------------------


class WireError(CeleryError):
    """The message is not what it claims to be."""


class ForeignMessage(WireError):
    """The message is readable but neither Celery's nor PyQS's."""


# --- the worker ----------------------------------------------------------------------------------


class WorkerError(CeleryError):
    """Base of errors of the worker's own processes."""


class BootError(WorkerError):
    """The worker cannot start; starting it again would not help."""


class WorkerLostError(WorkerError):
    """The process that ran the task died."""


class TimeLimitExceeded(WorkerError):
    """The task ran longer than its hard time limit and was killed."""


class SoftTimeLimitExceeded(WorkerError):
    """The task ran longer than its soft time limit; raised inside it."""


class Terminated(WorkerError):
    """The task was ended on request."""


class WorkerTerminate(SystemExit):
    """Ends the worker at once."""


class WorkerShutdown(SystemExit):
    """Ends the worker once running tasks are done."""


# --- warnings ------------------------------------------------------------------------------------


class CeleryWarning(UserWarning):
    """Base of warnings of this package."""


class AlwaysEagerIgnored(CeleryWarning):
    """send_task sends although task_always_eager is on."""


class NotConfigured(CeleryWarning):
    """No configuration was found."""


class SecurityWarning(CeleryWarning):
    """Something is unsafe as configured."""


class FixupWarning(CeleryWarning):
    """A framework could not be set up as expected."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two functions are declared as tasks of one name."""


class DuplicateNodenameWarning(CeleryWarning):
    """Several workers share a node name."""


class CDeprecationWarning(DeprecationWarning):
    """Will be removed."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """Will be deprecated."""


def reraise(
    tp: type[BaseException],  # noqa: ARG001 - Celery's signature
    value: BaseException,
    tb: TracebackType | None = None,
) -> NoReturn:
    """Raise ``value`` with the traceback ``tb``."""
    if value.__traceback__ is not tb:
        raise value.with_traceback(tb)
    raise value


# --- those that are kombu's as well --------------------------------------------------------------

_OF_KOMBU = dict.fromkeys(
    "AccessDenied BatchError BodyDecodeError BrokerError BrokerUnavailable CannotVerify ContentDisallowed EnvelopeError "
    "InvalidRequest MessageTooLarge MissingExtra QueueDoesNotExist ReceiptExpired Throttled UnacceptedContent".split(),
    "pyqs_celery.kombu_errors",
) | dict.fromkeys(("EncodeError", "OperationalError"), "kombu.exceptions")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        return first_use(globals(), _OF_KOMBU, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_KOMBU})
