"""What botocore raises, as our errors: one table of codes, chained, and nowhere else."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus

from pyqs_celery import exceptions

NO_CREDENTIALS = "NoCredentials"
"""The code of the error that says that nobody is logged in at all."""
NO_ROLE = "NoRole"
"""The code of the error that says that a role may not be assumed."""
OLD_KEYS = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
"""Codes with which AWS refuses keys whose time is over."""
UNKNOWN_KEYS = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"})
"""Codes with which AWS refuses keys it does not know (any more)."""
WRONG_SIGNATURE = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException"})
"""Codes of signatures that were made with another key, or too long ago, or ahead of time."""
WRONG_KEYS = UNKNOWN_KEYS | WRONG_SIGNATURE | {"InvalidSecurity", "AuthFailure"}
NOT_LOGGED_IN = OLD_KEYS | WRONG_KEYS | {NO_CREDENTIALS, NO_ROLE}
"""Codes of an AccessDenied that is about who we are and not about what we may."""


@cache
def _classes() -> dict[str, type[exceptions.BrokerError]]:
    """The class of our errors for each of SQS's codes that needs no closer look."""
    return {
        "QueueDoesNotExist": exceptions.QueueDoesNotExist,
        "NonExistentQueue": exceptions.QueueDoesNotExist,
        "QueueDeletedRecently": exceptions.QueueDoesNotExist,
        "AccessDenied": exceptions.AccessDenied,
        "AccessDeniedException": exceptions.AccessDenied,
        "AuthFailure": exceptions.AccessDenied,
        "AuthorizationError": exceptions.AccessDenied,
        "UnrecognizedClientException": exceptions.AccessDenied,
        "InvalidClientTokenId": exceptions.AccessDenied,
        "InvalidSecurity": exceptions.AccessDenied,
        "SignatureDoesNotMatch": exceptions.AccessDenied,
        "InvalidSignatureException": exceptions.AccessDenied,
        "OptInRequired": exceptions.AccessDenied,
        "KmsAccessDenied": exceptions.AccessDenied,
        "ExpiredToken": exceptions.BrokerUnavailable,
        "ExpiredTokenException": exceptions.BrokerUnavailable,
        "RequestExpired": exceptions.BrokerUnavailable,
        "RequestThrottled": exceptions.Throttled,
        "ThrottlingException": exceptions.Throttled,
        "Throttling": exceptions.Throttled,
        "RequestLimitExceeded": exceptions.Throttled,
        "TooManyRequestsException": exceptions.Throttled,
        "SlowDown": exceptions.Throttled,
        "KmsThrottled": exceptions.Throttled,
        "OverLimit": exceptions.Throttled,
        "MessageNotInflight": exceptions.ReceiptExpired,
        "ReceiptHandleIsInvalid": exceptions.ReceiptExpired,
        "InvalidMessageContents": exceptions.InvalidRequest,
        "BatchRequestTooLong": exceptions.MessageTooLarge,
        "InternalFailure": exceptions.BrokerUnavailable,
        "InternalError": exceptions.BrokerUnavailable,
        "ServiceUnavailable": exceptions.BrokerUnavailable,
    }


class CredentialsError(Exception):
    """There are no keys to sign a request with.

    ``sentence`` says why and what to do, ``code`` is AWS's where there is one; ``denied`` if waiting will not help.
    """

    def __init__(self, sentence: str, code: str, *, denied: bool) -> None:
        self.sentence = sentence
        self.code = code
        self.denied = denied
        super().__init__(sentence)

    def again(self) -> CredentialsError:
        """The same error, to be raised once more."""
        return CredentialsError(self.sentence, self.code, denied=self.denied)


def code_of(exc: BaseException) -> str:
    """AWS's error code in an answer of botocore's, without its namespace; the class's name of other errors."""
    response = getattr(exc, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code).rsplit(".", 1)[-1] if code else type(exc).__name__


def are_old_keys(exc: Exception) -> bool:
    """True if a request was refused for the keys it was signed with, and may succeed with newer ones."""
    return code_of(exc) in OLD_KEYS | UNKNOWN_KEYS


def error_class(code: str, message: str, status: int = 400) -> type[exceptions.BrokerError]:
    """The class of our errors for an SQS error code, or for the HTTP status of an answer without one we know."""
    bare = code.rsplit(".", 1)[-1]
    if _is_out_of_time(bare, message):
        return exceptions.BrokerUnavailable
    if bare in ("InvalidParameterValue", "InvalidParameterValueException"):
        return _invalid(message)
    found = _classes().get(bare)
    if found is not None:
        return found
    return exceptions.AccessDenied if bare.startswith("Kms") else _by_status(status)


def _invalid(message: str) -> type[exceptions.BrokerError]:
    if "visibility timeout" in message or "ReceiptHandle" in message or "receipt handle" in message:
        return exceptions.ReceiptExpired
    return exceptions.MessageTooLarge if "shorter than" in message or "bytes" in message else exceptions.InvalidRequest


def _by_status(status: int) -> type[exceptions.BrokerError]:
    """What gateways and proxies answer, who have no codes of SQS's."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return exceptions.BrokerUnavailable
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return exceptions.Throttled
    return exceptions.AccessDenied if status == HTTPStatus.FORBIDDEN else exceptions.InvalidRequest


def _is_out_of_time(code: str, message: str) -> bool:
    """True if a signature was refused for its time: a clock is wrong, or the request waited (boto3 issue 190)."""
    told = message.startswith(("Signature expired", "Signature not yet current"))
    return code == "RequestTimeTooSkewed" or (code in WRONG_SIGNATURE and told)


def unreadable_answer(exc: Exception, action: str, queue: str | None) -> exceptions.BrokerError:
    """Our error for an answer that lacks what SQS's has, or has it in another form."""
    where = f"{action} on {queue}" if queue else action
    told = f"{where}: the answer is not SQS's ({type(exc).__name__}: {exc}); see what answers at this endpoint"
    return exceptions.BrokerUnavailable(told, code="UnreadableAnswer", queue=queue)


def broker_error(exc: Exception, action: str, queue: str | None) -> exceptions.BrokerError:
    """Our error for an exception of botocore's, saying what was asked of which queue."""
    from botocore import exceptions as boto

    if isinstance(exc, exceptions.BrokerError):
        return exc
    where = f"{action} on {queue}" if queue else action
    if isinstance(exc, CredentialsError):
        refused = exceptions.AccessDenied if exc.denied else exceptions.BrokerUnavailable
        return refused(f"{where}: {exc.sentence}", code=exc.code, queue=queue)
    if isinstance(exc, boto.ClientError):
        error = exc.response.get("Error", {})
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        kind = error_class(code, message, status)
        return kind(_sentence(kind, where, code, message), code=code, queue=queue)
    if isinstance(exc, boto.NoRegionError):
        return exceptions.InvalidRequest(
            f"{where}: no AWS region is known; set broker_transport_options['region'] or AWS_DEFAULT_REGION",
            code="NoRegion",
            queue=queue,
        )
    if isinstance(exc, (boto.ParamValidationError, boto.InvalidRegionError, *_wrong_settings(), ValueError)):
        return exceptions.InvalidRequest(f"{where}: {exc}", code="Invalid", queue=queue)
    if isinstance(exc, (boto.HTTPClientError, boto.BotoCoreError, OSError)):
        return exceptions.BrokerUnavailable(
            f"{where}: SQS cannot be reached: {exc}", code=type(exc).__name__, queue=queue
        )
    raise exc


def _wrong_settings() -> tuple[type[Exception], ...]:
    """Errors of botocore's about its environment and files, which trying again does not mend."""
    from botocore import exceptions as boto

    return (
        boto.ProfileNotFound,
        boto.ConfigNotFound,
        boto.ConfigParseError,
        boto.InvalidConfigError,
        boto.InvalidRetryConfigurationError,
        boto.InvalidRetryModeError,
        boto.InvalidMaxRetryAttemptsError,
    )


def _sentence(kind: type[exceptions.BrokerError], where: str, code: str, message: str) -> str:
    if _is_out_of_time(code, message):
        return f"{where} was refused ({code}: {message}): this machine's clock is wrong, or it stood still"
    if code in WRONG_KEYS:
        return f"{where} was refused ({code}: {message}): AWS does not know these credentials; see where they come from"
    if kind is exceptions.AccessDenied:
        action = where.split(" ", 1)[0]
        return f"{where} was denied ({code}: {message}); the credentials need sqs:{action} on this queue"
    if code in OLD_KEYS:
        return f"{where} was refused ({code}: {message}) and there are no newer credentials yet"
    if kind is exceptions.QueueDoesNotExist:
        return f"{where}: there is no such queue in this account and region ({code})"
    return f"{where} failed: {code}: {message}"
