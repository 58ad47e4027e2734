"""What botocore raises, as our errors: one table of codes, chained, and nowhere else."""

from __future__ import annotations

from pyqs_celery.exceptions import (
    AccessDenied,
    BrokerError,
    BrokerUnavailable,
    InvalidRequest,
    MessageTooLarge,
    QueueDoesNotExist,
    ReceiptExpired,
    Throttled,
)

NO_CREDENTIALS = "NoCredentials"
"""The code of the error that says that nobody is logged in at all."""

_EXACT: dict[str, type[BrokerError]] = {
    "QueueDoesNotExist": QueueDoesNotExist,
    "NonExistentQueue": QueueDoesNotExist,
    "QueueDeletedRecently": QueueDoesNotExist,
    "AccessDenied": AccessDenied,
    "AccessDeniedException": AccessDenied,
    "AuthFailure": AccessDenied,
    "AuthorizationError": AccessDenied,
    "UnrecognizedClientException": AccessDenied,
    "InvalidClientTokenId": AccessDenied,
    "InvalidSecurity": AccessDenied,
    "SignatureDoesNotMatch": AccessDenied,
    "OptInRequired": AccessDenied,
    "KmsAccessDenied": AccessDenied,
    "ExpiredToken": BrokerUnavailable,
    "ExpiredTokenException": BrokerUnavailable,
    "RequestExpired": BrokerUnavailable,
    "RequestThrottled": Throttled,
    "ThrottlingException": Throttled,
    "Throttling": Throttled,
    "RequestLimitExceeded": Throttled,
    "TooManyRequestsException": Throttled,
    "SlowDown": Throttled,
    "KmsThrottled": Throttled,
    "OverLimit": Throttled,
    "MessageNotInflight": ReceiptExpired,
    "ReceiptHandleIsInvalid": ReceiptExpired,
    "InvalidMessageContents": InvalidRequest,
    "BatchRequestTooLong": MessageTooLarge,
    "InternalFailure": BrokerUnavailable,
    "InternalError": BrokerUnavailable,
    "ServiceUnavailable": BrokerUnavailable,
}


def error_class(code: str, message: str, status: int = 400) -> type[BrokerError]:
    """The class of our errors for an SQS error code."""
    bare = code.rsplit(".", 1)[-1]
    if bare.startswith("Kms") and bare not in _EXACT:
        return AccessDenied
    if bare in ("InvalidParameterValue", "InvalidParameterValueException"):
        if "visibility timeout" in message or "ReceiptHandle" in message or "receipt handle" in message:
            return ReceiptExpired
        return MessageTooLarge if "shorter than" in message or "bytes" in message else InvalidRequest
    found = _EXACT.get(bare)
    if found is not None:
        return found
    if status >= 500:
        return BrokerUnavailable
    return AccessDenied if status == 403 else InvalidRequest


def broker_error(exc: Exception, action: str, queue: str | None) -> BrokerError:
    """Our error for an exception of botocore's, saying what was asked of which queue."""
    from botocore import exceptions as boto

    where = f"{action} on {queue}" if queue else action
    if isinstance(exc, boto.ClientError):
        error = exc.response.get("Error", {})
        code, message = str(error.get("Code", "")), str(error.get("Message", ""))
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        kind = error_class(code, message, status)
        return kind(_sentence(kind, where, code, message), code=code, queue=queue)
    if isinstance(exc, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return AccessDenied(
            f"{where}: no AWS credentials were found ({exc}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or "
            "run under a role",
            code=NO_CREDENTIALS,
            queue=queue,
        )
    if isinstance(exc, boto.NoRegionError):
        return InvalidRequest(
            f"{where}: no AWS region is known; set broker_transport_options['region'] or AWS_DEFAULT_REGION",
            code="NoRegion",
            queue=queue,
        )
    if isinstance(exc, (boto.ParamValidationError, boto.InvalidRegionError)):
        return InvalidRequest(f"{where}: {exc}", code="Invalid", queue=queue)
    if isinstance(exc, (boto.HTTPClientError, boto.BotoCoreError, OSError)):
        return BrokerUnavailable(f"{where}: SQS cannot be reached: {exc}", code=type(exc).__name__, queue=queue)
    raise exc


def _sentence(kind: type[BrokerError], where: str, code: str, message: str) -> str:
    if kind is AccessDenied:
        action = where.split(" ", 1)[0]
        return f"{where} was denied ({code}: {message}); the credentials need sqs:{action} on this queue"
    if kind is QueueDoesNotExist:
        return f"{where}: there is no such queue in this account and region ({code})"
    return f"{where} failed: {code}: {message}"
