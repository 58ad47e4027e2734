"""The errors of this package that are kombu's as well; ``exceptions.py`` gives them away and draws the tree.

In a module of their own, since kombu takes longer to import than all that a producer needs of us.
"""

from __future__ import annotations

from kombu.exceptions import ContentDisallowed as KombuContentDisallowed
from kombu.exceptions import DecodeError as KombuDecodeError
from kombu.exceptions import OperationalError

from pyqs_celery.exceptions import CeleryError, SecurityError, WireError


class ContentDisallowed(SecurityError, KombuContentDisallowed):
    """The content type of a message is not in accept_content."""


class EnvelopeError(WireError, KombuDecodeError):
    """The outer text of the message cannot be read."""


class BodyDecodeError(WireError, KombuDecodeError):
    """The arguments of the message cannot be read."""


class MissingExtra(BodyDecodeError):
    """Reading the message needs an optional dependency that is not installed here."""


class CannotVerify(BodyDecodeError):
    """The message is signed, and there are no certificates here that could tell whether rightly."""


class UnacceptedContent(WireError, ContentDisallowed):
    """The content type of the message is not in accept_content."""


# --- the broker ----------------------------------------------------------------------------------


class BrokerError(CeleryError, OperationalError):
    """SQS refused a request or did not answer.

    ``code`` is SQS's error code where there was one, ``queue`` the SQS queue name, ``retryable`` (on the
    class) whether the same request may succeed later.
    """

    retryable = False

    def __init__(self, message: str = "", *, code: str | None = None, queue: str | None = None) -> None:
        self.code = code
        self.queue = queue
        super().__init__(*((message,) if message else ()))


class MessageTooLarge(BrokerError):
    """The message is over the queue's size limit; nothing was sent."""

    def __init__(
        self, message: str = "", *, size: int = 0, limit: int = 0, code: str | None = None, queue: str | None = None
    ) -> None:
        self.size = size
        self.limit = limit
        super().__init__(message, code=code, queue=queue)


class QueueDoesNotExist(BrokerError):
    """There is no such queue in this account and region."""


class AccessDenied(BrokerError):
    """The credentials do not allow this action on this queue."""


class InvalidRequest(BrokerError):
    """SQS refuses the request as it stands."""


class Throttled(BrokerError):
    """SQS asks to slow down."""

    retryable = True


class BrokerUnavailable(BrokerError):
    """SQS cannot be reached, or fails."""

    retryable = True


class ReceiptExpired(BrokerError):
    """The lease on the message was lost; it will be seen again."""


class BatchError(BrokerError):
    """Some entries of a batch failed.

    ``failed`` holds ``(id, code, message)`` for each.
    """

    def __init__(
        self,
        message: str = "",
        *,
        failed: tuple[tuple[str, str, str], ...] = (),
        code: str | None = None,
        queue: str | None = None,
    ) -> None:
        self.failed = failed
        super().__init__(message, code=code, queue=queue)


for _each in list(globals().values()):
    if isinstance(_each, type) and _each.__module__ == __name__:
        # where users import them from, and where a pickle looks for them
        _each.__module__ = "pyqs_celery.exceptions"
