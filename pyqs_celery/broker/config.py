"""Where the queues are and who we are to them: ``broker_url`` and ``broker_transport_options`` as one frozen value.

Forms and options: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/sqs.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from pyqs_celery.broker.limits import MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS, WAIT_SECONDS
from pyqs_celery.exceptions import ImproperlyConfigured

DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair, with a session token where temporary."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PredefinedQueue:
    """One entry of ``predefined_queues``: a queue known by URL, perhaps with credentials of its own."""

    name: str
    url: str
    region: str | None = None
    credentials: Credentials | None = None
    sts_role_arn: str | None = None
    backoff_policy: Mapping[int, int] = field(default_factory=dict)
    backoff_tasks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Everything the broker room needs to know. Durations in seconds.

    ``endpoint_url`` None means AWS's own (or what boto3 finds in its environment). ``visibility_timeout`` caps leases
    and is the timeout of queues we create. ``sts_token_timeout`` is how long a role is assumed for,
    ``sts_token_buffer_time`` how long before its end that is renewed (0: five minutes). ``in_memory`` names the embedded
    SQS of this process (``memory://``).
    """

    region: str | None = None
    endpoint_url: str | None = None
    credentials: Credentials | None = None
    queue_name_prefix: str = ""
    visibility_timeout: int | None = None
    wait_time_seconds: int = WAIT_SECONDS
    predefined_queues: Mapping[str, PredefinedQueue] = field(default_factory=dict)
    sts_role_arn: str | None = None
    sts_token_timeout: int = 900
    sts_token_buffer_time: int = 0
    client_config: Mapping[str, Any] = field(default_factory=dict)
    creation_attributes: Mapping[str, str] = field(default_factory=dict)
    queue_tags: Mapping[str, str] = field(default_factory=dict)
    base64_body: bool = True
    body_encoding: str = "base64"
    in_memory: str | None = None

    def predefined(self, name: str | None, url: str | None) -> PredefinedQueue | None:
        """The predefined queue behind a URL, or of this name on SQS or in the application."""
        queues = self.predefined_queues
        for queue in queues.values():
            if url is not None and queue.url == url:
                return queue
        if name is None or name in queues:
            return queues.get(name or "")
        return next((queue for queue in queues.values() if queue.url.rsplit("/", 1)[-1] == name), None)

    @property
    def shown(self) -> str:
        """The broker as a person may see it: no secrets."""
        if self.in_memory is not None:
            return "memory://"
        host = self.endpoint_url.split("://", 1)[-1] if self.endpoint_url else (self.region or DEFAULT_REGION)
        return f"sqs://{host}//"


def broker_config(
    broker_url: Any, options: Mapping[str, Any], environ: Mapping[str, str], *, use_ssl: bool | None = None
) -> BrokerConfig:
    """Read ``broker_url`` and ``broker_transport_options``. Raises ImproperlyConfigured with what to change.

    ``broker_url`` is text (``;`` separates alternatives, of which the first is taken), a list, or None for
    ``sqs://``. ``environ`` is looked at for AWS_ENDPOINT_URL_SQS and AWS_ENDPOINT_URL. A host in ``broker_url`` is spoken
    to by https, unless its port (any but 443 and 8443), ``is_secure`` or ``http://`` says otherwise.
    """
    url = _first(broker_url)
    if url.startswith("memory://"):
        name = url[len("memory://") :].strip("/") or "default"
        return _with_options(BrokerConfig(in_memory=name, region=DEFAULT_REGION), options)
    parts = urlsplit(url)
    is_https_form = parts.scheme != "sqs"
    if parts.scheme not in ("sqs", "https", "http", "sqs+https", "sqs+http"):
        raise ImproperlyConfigured(
            f"broker_url {_masked(url)!r} is not for SQS: this worker speaks SQS only; use sqs:// (credentials from the "
            "environment), sqs://KEY:SECRET@ or memory://"
        )
    endpoint = _endpoint(parts, options, environ, is_https_form, use_ssl)
    config = BrokerConfig(
        region=_text(options, "region") or region_of(endpoint or ""),
        endpoint_url=endpoint,
        credentials=_credentials(parts.username, parts.password, _text(options, "session_token")),
    )
    return _with_options(config, options)


def _first(broker_url: Any) -> str:
    if isinstance(broker_url, (list, tuple)):
        broker_url = broker_url[0] if broker_url else None
    if broker_url is None or broker_url == "":
        return "sqs://"
    if not isinstance(broker_url, str):
        raise ImproperlyConfigured(f"broker_url must be text, not {type(broker_url).__name__}")
    url = broker_url.split(";")[0].strip()
    return "sqs://" if url == "sqs" else url


def _masked(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://***{at}{tail}" if at else url


def _credentials(key: str | None, secret: str | None, token: str | None) -> Credentials | None:
    if not key and not secret:
        return None
    if not key or not secret:
        raise ImproperlyConfigured(
            "broker_url has an access key without its secret (or the other way round): write sqs://KEY:SECRET@, with the "
            "secret URL-quoted, or leave both out to use AWS's credential chain"
        )
    return Credentials(unquote(key), unquote(secret), token)


def _endpoint(
    parts: Any, options: Mapping[str, Any], environ: Mapping[str, str], is_https_form: bool, use_ssl: bool | None
) -> str | None:
    explicit = _text(options, "endpoint_url")
    if explicit:
        return _with_scheme(explicit, "endpoint_url in broker_transport_options")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ImproperlyConfigured(f"broker_url has a port that is no number: {exc}") from exc
    if host:
        secure = options.get("is_secure", use_ssl)
        secure = port in (None, 443, 8443) if secure is None else secure
        scheme = parts.scheme.removeprefix("sqs+") if is_https_form else "https" if secure else "http"
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}" + (f":{port}" if port else "")
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"):
        if environ.get(name):
            return _with_scheme(environ[name], name)
    return None


def _with_scheme(endpoint: str, source: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ImproperlyConfigured(f"{source} is {endpoint!r}: an endpoint begins with http:// or https://")
    return endpoint


def _with_options(config: BrokerConfig, options: Mapping[str, Any]) -> BrokerConfig:
    from dataclasses import replace

    wait = _number(options, "wait_time_seconds", WAIT_SECONDS)
    if not 0 <= wait <= MAX_WAIT_SECONDS:
        raise ImproperlyConfigured(f"wait_time_seconds is {wait}: SQS polls wait 0 to {MAX_WAIT_SECONDS} seconds")
    visibility = _number(options, "visibility_timeout", None)
    if visibility is not None and not 0 < visibility <= MAX_VISIBILITY_SECONDS:
        raise ImproperlyConfigured(f"visibility_timeout is {visibility}: SQS takes 1 to 43,200 seconds")
    attributes = {str(key): str(value) for key, value in (options.get("sqs-creation-attributes") or {}).items()}
    return replace(
        config,
        queue_name_prefix=_text(options, "queue_name_prefix") or "",
        visibility_timeout=visibility,
        wait_time_seconds=wait,
        predefined_queues=_predefined(options.get("predefined_queues"), config.credentials),
        sts_role_arn=_text(options, "sts_role_arn"),
        sts_token_timeout=_number(options, "sts_token_timeout", 900),
        sts_token_buffer_time=_number(options, "sts_token_buffer_time", 0),
        client_config=_dictionary(options, "client-config"),
        creation_attributes=attributes,
        queue_tags={str(key): str(value) for key, value in (options.get("queue_tags") or {}).items()},
        base64_body=bool(options.get("sqs_base64_encoding", True)),
        body_encoding="base64" if options.get("body_encoding", "base64") == "base64" else "utf-8",
    )


def _text(options: Mapping[str, Any], key: str) -> str | None:
    value = options.get(key)
    if value is not None and not isinstance(value, str):
        raise ImproperlyConfigured(f"broker_transport_options[{key!r}] must be text, not {type(value).__name__}")
    return value


def _number(options: Mapping[str, Any], key: str, default: Any) -> Any:
    value = options.get(key, default)
    if value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as exc:
        raise ImproperlyConfigured(f"broker_transport_options[{key!r}] must be a number, not {value!r}") from exc


def _dictionary(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = options.get(key) or {}
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(
            f"broker_transport_options[{key!r}] must be a dictionary, not {type(value).__name__}"
        )
    return dict(value)


def _predefined(value: Any, credentials: Credentials | None) -> dict[str, PredefinedQueue]:
    if not value:
        return {}
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured("predefined_queues must be a dictionary of queue name to settings with a url")
    return {str(name): _predefined_queue(str(name), entry, credentials) for name, entry in value.items()}


def _predefined_queue(name: str, entry: Any, shared: Credentials | None) -> PredefinedQueue:
    url = entry.get("url") if isinstance(entry, Mapping) else None
    if not isinstance(url, str) or not url:
        raise ImproperlyConfigured(f"predefined_queues[{name!r}] needs a url, the QueueUrl or the ARN that AWS shows")
    url = url_of_arn(url) if url.startswith("arn:") else url
    tail = url.rsplit("/", 1)[-1]
    if name.endswith(".fifo") != tail.endswith(".fifo"):
        raise ImproperlyConfigured(
            f"predefined_queues[{name!r}] contradicts its url {url!r}: only one of them ends in .fifo; "
            "name a FIFO queue with .fifo in both"
        )
    region = entry.get("region") or region_of(url)
    credentials = _own_credentials(name, entry, shared)
    policy = entry.get("backoff_policy") or {}
    try:
        backoff = {int(count): int(seconds) for count, seconds in policy.items()}
    except (AttributeError, TypeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"predefined_queues[{name!r}]: backoff_policy must map receive counts to seconds"
        ) from exc
    return PredefinedQueue(
        name,
        url,
        region,
        credentials,
        entry.get("sts_role_arn"),
        backoff,
        frozenset(entry.get("backoff_tasks") or ()),
    )


def _own_credentials(name: str, entry: Mapping[str, Any], shared: Credentials | None) -> Credentials | None:
    """The queue's own keys; a session token alone belongs to those of ``broker_url``."""
    key, secret, token = (entry.get(each) for each in ("access_key_id", "secret_access_key", "session_token"))
    if key and secret:
        return Credentials(key, secret, token)
    if key or secret:
        raise ImproperlyConfigured(
            f"predefined_queues[{name!r}] has only one of access_key_id and secret_access_key; give both or none"
        )
    if token and shared is None:
        raise ImproperlyConfigured(
            f"predefined_queues[{name!r}] has a session_token without keys; give access_key_id and secret_access_key too"
        )
    return Credentials(shared.access_key, shared.secret_key, token) if token and shared is not None else None


def region_of(url: str) -> str | None:
    """The region in an AWS queue URL or ARN, None elsewhere."""
    if url.startswith("arn:"):
        parts = url.split(":")
        return parts[3] if len(parts) > 5 else None
    labels = (urlsplit(url).hostname or "").split(".")
    if not is_at_aws(url):
        return None
    for service in ("sqs", "sqs-fips"):
        if service in labels:
            return labels[labels.index(service) + 1]
    return labels[0] if len(labels) > 3 and labels[1] == "queue" else DEFAULT_REGION if labels[0] == "queue" else None


def is_at_aws(url: str) -> bool:
    """True for hosts of AWS's own, endpoints in a VPC among them."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"))


def url_of_arn(arn: str) -> str:
    """The URL at AWS of a queue by its ARN. Raises ImproperlyConfigured."""
    parts = arn.split(":")
    if len(parts) != 6 or parts[2] != "sqs" or not all(parts[3:]):
        raise ImproperlyConfigured(f"{arn!r} is no ARN of a queue, which is arn:aws:sqs:REGION:ACCOUNT:NAME")
    suffix = "amazonaws.com.cn" if parts[1] == "aws-cn" else "amazonaws.com"
    return f"https://sqs.{parts[3]}.{suffix}/{parts[4]}/{parts[5]}"


def endpoint_of(url: str) -> str | None:
    """The endpoint that a queue's URL asks for by itself: one in a VPC, or a server that is not AWS's; else None."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or (is_at_aws(url) and ".vpce." not in f"{parts.hostname}"):
        return None
    return f"{parts.scheme}://{parts.netloc}"
