"""What the stores at AWS share: a client that is made when it is needed, calls in bounded time, botocore's errors as ours.

botocore itself tries nothing again: ``Backend`` does, for ten seconds in all, and each try takes a few at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pyqs_celery.backends.keyvalue import KeyValueStoreBackend
from pyqs_celery.exceptions import (
    BackendGetMetaError,
    BackendStoreError,
    CeleryError,
    ImproperlyConfigured,
    OperationalError,
    ResultTooLarge,
)

CONNECTIONS = 50
"""Open at most: as many threads of one process may be in a call before one waits."""

_DENIED = frozenset("AccessDenied AccessDeniedException AllAccessDisabled OptInRequired 403".split())
_UNKNOWN_KEYS = frozenset(
    "InvalidAccessKeyId SignatureDoesNotMatch UnrecognizedClientException InvalidClientTokenId InvalidToken "
    "InvalidSignatureException MissingAuthenticationToken IncompleteSignature".split()
)
_EXPIRED = frozenset("ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired".split())
_PASSING = _EXPIRED | frozenset(
    "Throttling ThrottlingException ThrottledException ProvisionedThroughputExceededException RequestLimitExceeded "
    "RequestThrottled RequestThrottledException TooManyRequestsException LimitExceededException SlowDown "
    "BandwidthLimitExceeded RequestTimeout RequestTimeoutException TransactionConflictException "
    "TransactionInProgressException PriorRequestNotComplete OperationAborted ConditionalRequestConflict "
    "ReplicatedWriteConflictException InternalServerError InternalError InternalFailure ServiceUnavailable".split()
)


class Unavailable(CeleryError, OperationalError):
    """AWS did not answer, or asks to come back: the same call may succeed later."""


class Refused(BackendStoreError, BackendGetMetaError):
    """AWS answered no, and will again. ``code`` is its error code."""

    def __init__(self, *args: Any, code: str = "", **kwargs: Any) -> None:
        self.code = code
        super().__init__(*args, **kwargs)

    @property
    def is_denial(self) -> bool:
        """True if a permission is missing."""
        return self.code in _DENIED


class AwsBackend(KeyValueStoreBackend):
    """A store behind one of boto3's clients, which all threads share. Credentials are given ones or AWS's own chain."""

    thread_safe = True
    service = ""
    """boto3's name of it, with which its IAM actions begin."""
    region_setting = ""
    """Where a user says in which region it is."""
    connect_timeout = 2.0
    read_timeout = 5.0
    aws_region: str | None = None
    endpoint_url: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    wall_clock: Callable[[], float] = staticmethod(time.time)
    """Epoch seconds, of which a fleet's machines are taken to have about the same."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client: Any = None
        self._lock = threading.RLock()

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {"url": self.url, **(kwargs or {})})

    @property
    def place(self) -> str:
        """What is asked, for error messages."""
        raise NotImplementedError

    def use_keys(self, key: str | None, secret: str | None, names: str) -> None:
        """Credentials that were given, if any. Raises ImproperlyConfigured for half of them."""
        if bool(key) != bool(secret):
            raise ImproperlyConfigured(f"give both or none of {names}; with none AWS's credential chain is used")
        self.aws_access_key_id, self.aws_secret_access_key = key or None, secret or None

    # -- calls -------------------------------------------------------------------------------------

    @property
    def client(self) -> Any:
        """boto3's client."""
        found = self._client
        if found is None:
            with self._lock:
                found = self._client = self._client or self._make_client()
        return found

    def _make_client(self) -> Any:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=self.aws_access_key_id,
            aws_secret_access_key=self.aws_secret_access_key,
            region_name=self.aws_region,
        )
        config = Config(
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            retries={"total_max_attempts": 1},
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
        )
        return session.client(self.service, endpoint_url=self.endpoint_url, config=config)

    def call(self, action: str, read: Callable[[Any], Any] | None = None, /, **request: Any) -> Any:
        """One call; ``read`` takes from the answer what is wanted. Raises Unavailable and Refused, nothing of botocore's."""
        try:
            answer = getattr(self.client, action)(**request)
            return answer if read is None else read(answer)
        except Exception as exc:
            error = self._error(exc, "".join(word.title() for word in action.split("_")))
            if error is exc:
                raise
            raise error from exc

    def _error(self, exc: Exception, action: str) -> Exception:
        from botocore import exceptions as boto

        where = f"{action} on {self.place}"
        if isinstance(exc, boto.ClientError):
            return self._answer(exc.response, action, where)
        if isinstance(exc, (boto.NoCredentialsError, boto.PartialCredentialsError)):
            self._client = None
            return Refused(
                f"{where}: no AWS credentials were found ({exc}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a "
                "profile, or run under a role",
                code="NoCredentials",
            )
        if isinstance(exc, boto.NoRegionError):
            return Refused(
                f"{where}: no region is known; set {self.region_setting} or AWS_DEFAULT_REGION", code="NoRegion"
            )
        wrong = (boto.BaseEndpointResolverError, boto.ValidationError, boto.ParamValidationError, boto.ProfileNotFound)
        if isinstance(exc, wrong) or (self._client is None and isinstance(exc, ValueError)):
            return Refused(f"{where}: {exc}", code=type(exc).__name__)
        if isinstance(exc, boto.BotoCoreError):
            return Unavailable(f"{where}: {type(exc).__name__}: {exc}")
        return exc

    def _answer(self, response: Mapping[str, Any], action: str, where: str) -> Exception:
        error = response.get("Error", {})
        code, text = str(error.get("Code", "")), str(error.get("Message", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        if code in _EXPIRED:
            self._client = None  # the next one looks for credentials again
        if code in _PASSING or status >= 500 or status == 429:
            return Unavailable(f"{where}: {code}: {text}")
        return Refused(self.refusal(action, where, code, text), code=code)

    def refusal(self, action: str, where: str, code: str, text: str) -> str:
        """The sentence of an error, and what to do about it."""
        if code in _DENIED:
            return f"{where} was denied ({code}: {text}); the credentials need {self.service}:{action} on it"
        if code in _UNKNOWN_KEYS:
            return f"{where}: AWS does not take these credentials ({code}: {text})"
        return f"{where} failed: {code}: {text}"

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True for what AWS may answer otherwise in a moment."""
        return isinstance(exc, Unavailable)

    def _too_large(self, key: bytes, size: int, limit: int) -> ResultTooLarge:
        if key.startswith(self.group_keyprefix):
            group_id = key[len(self.group_keyprefix) :].decode()
            return ResultTooLarge(
                f"group {group_id} is {size} bytes and {type(self).__name__} takes {limit}: make it of fewer members, or "
                "set result_compression"
            )
        return self.too_large(key[len(self.task_keyprefix) :].decode(), size, limit)
