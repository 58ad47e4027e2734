"""Who we are to AWS: keys that are given, keys that AWS's own chain finds, or those of an assumed role.

botocore asks for them whenever it signs, by its public provider interface, so a client lives on while its keys are
renewed. Imported by ``connections.py`` only.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pyqs_celery.broker.config import DEFAULT_REGION, BrokerConfig, Credentials
from pyqs_celery.broker.errors import NO_CREDENTIALS, NO_ROLE, CredentialsError, are_old_keys, code_of
from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.log import Sometimes

logger = logging.getLogger("celery.worker.consumer.consumer")
RENEW_AHEAD_SECONDS = 300.0
RENEW_APART_SECONDS = 600.0
"""A role's keys are renewed this long before they end, but not sooner than this after the last time: once in their life."""
FORCED_APART_SECONDS = 5.0
"""Keys that were refused before their time are replaced at most this often."""
STILL_DUE_SECONDS = 20.0
"""How long to wait after a renewal that gave keys which are due as well: the same ones, or some that do not live long."""
STS_CONNECT_SECONDS = 2.0
STS_READ_SECONDS = 5.0
SERVICES = ("sqs", "sts")
"""What clients are made for."""
LEAST_ROLE_SECONDS = 900
"""AWS: AssumeRole, DurationSeconds."""

State = TypeVar("State")


class Keys:
    """The keys of one identity, for any number of clients and threads.

    One thread renews them, and early: while the present ones are good the others go on with those, and a renewal that
    fails is only told, once a minute. When they have ended everybody waits for the renewal; while it fails, everybody
    gets its error at once until the next attempt is due. Raises CredentialsError.
    """

    who = "the given keys"

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._lock = threading.Lock()
        self._used = threading.local()
        self._held: Any = None
        self._failures = 0
        self._failure = CredentialsError("no credentials yet", NO_CREDENTIALS, denied=True)
        self._next_try = float("-inf")
        self._next_forced = float("-inf")
        self._tell = Sometimes()
        self._making = threading.Lock()
        self._session: Any = None

    # -- what each kind says for itself ------------------------------------------------------------

    def fetch(self, *, afresh: bool) -> Any:
        """Keys in botocore's frozen form; ``afresh`` if those in hand were refused. Raises any error."""
        raise NotImplementedError

    def is_due(self) -> bool:
        """True if the keys in hand should be renewed."""
        return False

    def have_ended(self) -> bool:
        """True if the keys in hand are of no use any more."""
        return False

    def error(self, exc: Exception) -> CredentialsError:
        """What a failure to fetch means."""
        raise exc

    # -- for botocore ------------------------------------------------------------------------------

    def current(self) -> Any:
        """The keys to sign with now."""
        held = self._held
        if held is None or self.is_due():
            held = self._renewed()
        self._used.keys = held
        return held

    def client(self, service: str, region: str | None, **settings: Any) -> Any:
        """A client of botocore's that signs with these keys, for one of ``SERVICES``; boto3's are the same."""
        with self._making:  # botocore's sessions are not thread-safe, its clients are
            session = self._made_session()
            region = region or session.get_config_variable("region") or DEFAULT_REGION
            return session.create_client(service, region_name=region, **settings)

    def setting(self, name: str) -> Any:
        """What environment and profile say about one of botocore's configuration variables; None if nothing."""
        with self._making:
            return self._made_session().get_config_variable(name)

    def _made_session(self) -> Any:
        if self._session is None:
            self._session = _session(self)
        return self._session

    # -- for the client ----------------------------------------------------------------------------

    def renew(self) -> bool:
        """The keys this thread has signed with last were refused: get others. True if there are others now."""
        refused = getattr(self._used, "keys", None)
        if refused is None:
            return False
        with self._lock:
            if self._held == refused and self._timer() >= max(self._next_forced, self._next_try):
                self._next_forced = self._timer() + FORCED_APART_SECONDS
                self._try(afresh=True)
            return bool(self._held != refused)

    def _renewed(self) -> Any:
        good = self._is_good()
        if not self._lock.acquire(blocking=not good):
            return self._held
        try:
            if self._held is not None and not self.is_due():
                return self._held  # another thread was faster
            if self._timer() >= self._next_try or not (self._failures or self._is_good()):
                self._try(afresh=False)
            if not self._is_good():
                raise self._failure.again()
            return self._held
        finally:
            self._lock.release()

    def _is_good(self) -> bool:
        return self._held is not None and not self.have_ended()

    def _try(self, *, afresh: bool) -> None:
        """Fetch once, and note what came of it."""
        try:
            held = self.fetch(afresh=afresh)
        except Exception as exc:  # noqa: BLE001 - a chain may run programs and ask servers, whose errors are many
            self._failed(self.error(exc))
            return
        if self._failures:
            logger.info("The credentials of %s are renewed again", self.who)
        self._held, self._failures = held, 0
        self._next_try = self._timer() + (STILL_DUE_SECONDS if self.is_due() else 0)

    def _failed(self, error: CredentialsError) -> None:
        self._failures += 1
        self._next_try = self._timer() + backoff(self._failures)
        if self._held is not None:
            # they were there once, so this may pass
            error = CredentialsError(error.sentence, error.code, denied=False)
        self._failure = error
        if self._is_good() and self._tell(error.code, self._timer()):
            logger.warning("%s; the present credentials are used while they last; trying again", error.sentence)


class GivenKeys(Keys):
    """Keys that somebody wrote down; nobody can renew them."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    def fetch(self, *, afresh: bool) -> Any:
        """The same, always."""
        return _frozen(self._credentials.access_key, self._credentials.secret_key, self._credentials.token)

    def renew(self) -> bool:
        """There are no others. Raises CredentialsError if they were temporary: that their time is over is no passing trouble."""
        if self._credentials.token is None:
            return False
        raise CredentialsError(
            "the session token in broker_url or broker_transport_options has expired, and it cannot be renewed; put a new one "
            "there, or leave keys out of the settings to use AWS's credential chain",
            "ExpiredToken",
            denied=True,
        )


class ChainKeys(Keys):
    """What botocore's chain finds: environment, profiles, SSO, web identity, containers, instances.

    botocore renews them by itself from 15 minutes before their end; keys that were refused are looked for afresh.
    """

    who = "AWS's credential chain"

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        super().__init__(timer)
        self._source: Any = None

    def fetch(self, *, afresh: bool) -> Any:
        """Ask the chain."""
        if afresh or self._source is None:
            self._source = self._found()
        with _overhearing() as heard:
            frozen = self._source.get_frozen_credentials()
        if heard.exception is not None:
            raise heard.exception
        return frozen

    def _found(self) -> Any:
        import botocore.session

        session = botocore.session.get_session()
        # for STS, which some links of the chain ask
        session.set_default_client_config(_quick())
        source = session.get_credentials()
        if source is None:
            from botocore.exceptions import NoCredentialsError

            raise NoCredentialsError
        return source

    def is_due(self) -> bool:
        """True from 15 minutes before their end, as botocore has it."""
        return self._needs_refresh()

    def have_ended(self) -> bool:
        """True if their time is over."""
        return self._needs_refresh(0)

    def _needs_refresh(self, *ahead: int) -> bool:
        asks = getattr(self._source, "refresh_needed", None)
        return asks is not None and bool(asks(*ahead))

    def error(self, exc: Exception) -> CredentialsError:
        """No credentials at all, or why the chain's renewal fails."""
        from botocore import exceptions as boto

        if isinstance(exc, boto.NoCredentialsError):
            sentence = (
                f"no AWS credentials were found ({exc}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or run "
                "under a role"
            )
            return CredentialsError(sentence, NO_CREDENTIALS, denied=True)
        passing = _may_pass(exc)
        sentence = f"AWS's credential chain fails ({_one_line(exc)})"
        return CredentialsError(sentence, code_of(exc) if passing else NO_CREDENTIALS, denied=not passing)


@dataclass(frozen=True, slots=True)
class _Lease:
    """From when to when a role's keys are to be used; epoch seconds."""

    renew_at: float
    ends_at: float


class RoleKeys(Keys):
    """The keys of a role that ``base`` may assume (AWS: AssumeRole), each time for ``seconds``.

    ``ahead`` is how long before their end they are renewed; None for five minutes and once in their life.
    """

    def __init__(
        self,
        base: Keys,
        role: str,
        *,
        seconds: int = LEAST_ROLE_SECONDS,
        ahead: float | None = None,
        region: str | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(timer)
        self.who = f"role {role}"
        self._role = role
        self._base = base
        self._seconds = max(LEAST_ROLE_SECONDS, seconds)
        self._ahead = ahead
        self._region = region
        self._clock = clock
        self._sts: Any = None
        self._lease = _Lease(0.0, 0.0)

    def is_due(self) -> bool:
        """True ahead of their end."""
        return self._clock() >= self._lease.renew_at

    def have_ended(self) -> bool:
        """True if their time is over."""
        return self._clock() >= self._lease.ends_at

    def fetch(self, *, afresh: bool) -> Any:
        """AssumeRole, once more if the keys that may assume it have ended meanwhile."""
        try:
            answer = self._assume()
        except Exception as exc:
            if not are_old_keys(exc) or not self._base.renew():
                raise
            answer = self._assume()
        now, keys = self._clock(), answer["Credentials"]
        ends = keys["Expiration"].timestamp()
        if ends <= now:
            ends = now + self._seconds  # this machine's clock is wrong, and they live as long as was asked for
        if self._ahead is None:
            renew = min(ends, max(ends - RENEW_AHEAD_SECONDS, now + RENEW_APART_SECONDS))
        else:
            renew = ends - self._ahead if now < ends - self._ahead else ends
        self._lease = _Lease(renew, ends)
        return _frozen(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])

    def _assume(self) -> Any:
        if self._sts is None:
            self._sts = self._base.client("sts", self._region, config=_quick())
        return self._sts.assume_role(RoleArn=self._role, RoleSessionName="pyqs-celery", DurationSeconds=self._seconds)

    def error(self, exc: Exception) -> CredentialsError:
        """Why it cannot be assumed, and what to allow if it may not be."""
        if isinstance(exc, CredentialsError):
            return exc.again()
        sentence = f"{self.who} could not be assumed ({_one_line(exc)})"
        if _may_pass(exc):
            return CredentialsError(sentence, code_of(exc), denied=False)
        advice = "allow sts:AssumeRole on it to these credentials, and them in its trust policy"
        return CredentialsError(f"{sentence}; {advice}", NO_ROLE, denied=True)


class OfProcess(Generic[State]):
    """One state for each process: a child that was forked begins with a new one, without its parent's locks and connections."""

    def __init__(self, make: Callable[[], State]) -> None:
        self._make = make
        self._states: dict[int, State] = {}

    def get(self) -> State:
        """The state of the present process."""
        pid = os.getpid()
        state = self._states.get(pid)
        if state is None:
            state = self._states.setdefault(pid, self._make())
            for other in [each for each in self._states if each != pid]:
                self._states.pop(other, None)
        return state


class Identities:
    """The identities of a configuration in this process, each once. Safe under threads and forks."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._known = OfProcess[dict[tuple[Credentials | None, str | None], Keys]](dict)

    def of(self, credentials: Credentials | None, role: str | None, region: str | None) -> Keys:
        """The keys for given credentials (None: AWS's chain), or of a role that these may assume."""
        known = self._known.get()
        keys = known.get((credentials, role))
        if keys is None:
            keys = known.setdefault((credentials, role), self._made(credentials, role, region))
        return keys

    def _made(self, credentials: Credentials | None, role: str | None, region: str | None) -> Keys:
        if role is None:
            return ChainKeys() if credentials is None else GivenKeys(credentials)
        ahead = self._config.sts_token_buffer_time or None
        base = self.of(credentials, None, region)
        return RoleKeys(base, role, seconds=self._config.sts_token_timeout, ahead=ahead, region=region)


def _quick() -> Any:
    from botocore.config import Config

    return Config(connect_timeout=STS_CONNECT_SECONDS, read_timeout=STS_READ_SECONDS, retries={"total_max_attempts": 1})


def _frozen(access_key: str, secret_key: str, token: str | None) -> Any:
    from botocore.credentials import Credentials as BotoCredentials

    return BotoCredentials(access_key, secret_key, token).get_frozen_credentials()


def _session(keys: Keys) -> Any:
    """A session of botocore's whose only credential provider is ``keys``; boto3's own would add what takes long to import."""
    import botocore.session
    from botocore.credentials import CredentialProvider, CredentialResolver
    from botocore.credentials import Credentials as BotoCredentials

    class Renewed(BotoCredentials):  # type: ignore[misc]
        def get_frozen_credentials(self) -> Any:
            return keys.current()

    class Provider(CredentialProvider):  # type: ignore[misc]
        METHOD = CANONICAL_NAME = "pyqs-celery"

        def load(self) -> Any:
            return Renewed("renewed", "renewed", method=self.METHOD)

    session = botocore.session.get_session()
    session.register_component("credential_provider", CredentialResolver([Provider()]))
    session.register_component("data_loader", _descriptions(tuple(session.get_component("data_loader").search_paths)))
    return session


@cache
def _descriptions(folders: tuple[str, ...]) -> Any:
    """The descriptions that botocore has of services and endpoints, which are read once in a process."""
    from botocore.loaders import Loader

    class OfOurServices(Loader):  # type: ignore[misc]
        def list_available_services(self, type_name: str) -> list[str]:
            """Those that we call; botocore would look into the folders of all there are, over four hundred."""
            return list(SERVICES)

        def load_data_with_path(self, name: str) -> Any:
            """Of the endpoints those of these services: all are 7 MiB, and lengthen each collection of garbage."""
            return _endpoints(folders) if name == "endpoints" else super().load_data_with_path(name)

    return OfOurServices(extra_search_paths=list(folders), include_default_search_paths=False)


@cache
def _endpoints(folders: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The endpoints of ``SERVICES`` in every partition, and the file they are from."""
    from botocore.loaders import Loader

    everything, path = Loader(list(folders), include_default_search_paths=False).load_data_with_path("endpoints")
    partitions = [
        {**each, "services": {name: each["services"][name] for name in SERVICES if name in each["services"]}}
        for each in everything["partitions"]
    ]
    # a copy shares no text with the rest, whose memory can then be given back
    return json.loads(json.dumps({**everything, "partitions": partitions})), path


def _may_pass(exc: Exception) -> bool:
    """True for outages, throttling and errors on the way; False for a refusal, which needs somebody to change something."""
    from botocore import exceptions as boto

    if isinstance(exc, boto.ClientError):
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        return status >= 500 or status == 429 or code_of(exc) in _PASSING
    return isinstance(exc, (boto.HTTPClientError, boto.MetadataRetrievalError, boto.CredentialRetrievalError, OSError))


_PASSING = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError", "SlowDown"})


def _one_line(exc: Exception) -> str:
    return " ".join(f"{type(exc).__name__}: {exc}".split())


@dataclass(slots=True)
class _Heard:
    exception: Exception | None = None


class _Overheard(logging.Filter):
    """Takes botocore's own lines about a renewal that failed: ours say it once a minute, and with the cause.

    botocore logs them, traceback and all, at each attempt, and tells its caller nothing while the old keys still serve.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listeners = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a failure that ``_overhearing`` wants to hear of."""
        heard: _Heard | None = getattr(self.listeners, "heard", None)
        exception = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if heard is None or not isinstance(exception, Exception):
            return True
        heard.exception = exception
        return False


_OVERHEARD = _Overheard()


@contextmanager
def _overhearing() -> Iterator[_Heard]:
    """Catch what botocore logs in this thread about a renewal that failed."""
    logging.getLogger("botocore.credentials").addFilter(_OVERHEARD)
    heard = _Heard()
    _OVERHEARD.listeners.heard = heard
    try:
        yield heard
    finally:
        _OVERHEARD.listeners.heard = None
