"""Queue names, patterns, and what a worker finds behind them."""

from __future__ import annotations

import json
import logging
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

from pyqs_celery import exceptions
from pyqs_celery.broker.config import BrokerConfig, PredefinedQueue
from pyqs_celery.broker.delivery import QueueInfo, RedrivePolicy
from pyqs_celery.broker.errors import NOT_LOGGED_IN
from pyqs_celery.broker.limits import MAX_RETENTION_SECONDS

logger = logging.getLogger("celery.worker.consumer.consumer")
_TABLE = {ord(char): "_" for char in string.punctuation if char not in "-_."} | {ord("."): "-"}
_PATTERN_TABLE = {code: text for code, text in _TABLE.items() if chr(code) not in "*?[]!"}
_LEGAL = re.compile(r"^[A-Za-z0-9_-]{1,80}$")
_DEAD_LETTER_NAME = re.compile(r"([-_.](dlq|dead-?letter(s|-queue)?)|-deadletterqueue)(\.fifo)?$", re.IGNORECASE)
_PRIVATE_NAME = re.compile(r"(^|[-_.])(celery[-.]pidbox$|celeryev[-.])")


def sqs_queue_name(logical: str, prefix: str = "") -> str:
    """The SQS name of an application's queue, by kombu's table.

    ``.`` becomes ``-``, other punctuation but ``-`` and ``_`` becomes ``_``, a last ``.fifo`` stays, and the prefix is
    translated with the name: ``email.tasks.send`` is ``email-tasks-send``.
    """
    name = prefix + logical
    if name.endswith(".fifo"):
        return name[: -len(".fifo")].translate(_TABLE) + ".fifo"
    return name.translate(_TABLE)


def check_queue_name(logical: str, prefix: str = "") -> str:
    """The SQS name of a queue. Raises InvalidRequest if SQS would refuse it."""
    name = sqs_queue_name(logical, prefix)
    if not _LEGAL.match(name.removesuffix(".fifo")) or len(name) > 80:
        raise exceptions.InvalidRequest(
            f"queue {logical!r} becomes {name!r} on SQS, which takes letters, digits, - and _, 80 at most", queue=name
        )
    return name


def is_pattern(text: str) -> bool:
    """True if ``text`` is a glob (``*``, ``?`` or ``[...]``) and not one queue's name."""
    return any(char in text for char in "*?[")


def sqs_pattern(pattern: str, prefix: str = "") -> str:
    """The glob over SQS names that a glob over the application's names means."""
    text = prefix.translate(_TABLE) + pattern
    if text.endswith(".fifo"):
        return text[: -len(".fifo")].translate(_PATTERN_TABLE) + ".fifo"
    return text.translate(_PATTERN_TABLE)


def matches(pattern: str, name: str, prefix: str = "") -> bool:
    """True if the queue known to SQS as ``name`` is meant by ``pattern``, in the application's spelling or its own."""
    base, translated = name.removesuffix(".fifo"), sqs_pattern(pattern, prefix)
    if fnmatchcase(name, translated) or fnmatchcase(base, translated):
        return True
    return fnmatchcase(name, prefix + pattern)


def looks_private(name: str) -> bool:
    """True for queues that Celery makes for remote control and events; a pattern never takes these."""
    return _PRIVATE_NAME.search(name) is not None


def looks_like_dead_letters(name: str) -> bool:
    """True for names that people give dead-letter queues; a pattern never takes these."""
    return _DEAD_LETTER_NAME.search(name) is not None


def dead_letter_name(name: str, wanted: str | bool | None) -> str | None:
    """Where the worker itself moves a message of queue ``name`` that can never succeed.

    ``wanted`` is the setting ``sqs_dead_letter_queue``: None for ``<queue>-dlq``, False for nowhere, or a name in which
    ``{queue}`` stands for the queue's. A FIFO queue's dead letters need a FIFO queue (AWS: dead-letter queues).
    """
    if wanted is False:
        return None
    fifo = name.endswith(".fifo")
    stem = name.removesuffix(".fifo")
    template = wanted if isinstance(wanted, str) else "{queue}-dlq"
    target = template.replace("{queue}", stem).removesuffix(".fifo").translate(_TABLE)
    return f"{target}.fifo" if fifo else target


class QueueClient(Protocol):
    """What is asked of a client here; ``SqsClient`` is one."""

    def queue_url(self, name: str) -> str:
        """GetQueueUrl."""
        ...

    def queue_attributes(self, url: str, name: str) -> Mapping[str, str]:
        """GetQueueAttributes."""
        ...

    def list_queue_urls(self, prefix: str) -> Iterable[str]:
        """ListQueues, every page."""
        ...

    def create_queue(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """CreateQueue; the queue's URL."""
        ...


@dataclass(frozen=True, slots=True)
class FoundQueues:
    """What names and patterns led to.

    ``missing`` are exact names SQS does not know, ``denied`` those it will not show us, with the reason.
    """

    queues: tuple[QueueInfo, ...] = ()
    missing: tuple[str, ...] = ()
    empty_patterns: tuple[str, ...] = ()
    denied: Mapping[str, str] = field(default_factory=dict)


class QueueDirectory:
    """Finds queues for a worker. Exact names cost GetQueueUrl and GetQueueAttributes once; only patterns list."""

    def __init__(self, client: QueueClient, config: BrokerConfig) -> None:
        self._client = client
        self._config = config
        self._known: dict[str, QueueInfo] = {}

    def find(self, wanted: Iterable[str], exclude: Iterable[str] = (), *, create: bool = False) -> FoundQueues:
        """Look up names and globs of the application. ``create`` makes missing exact names. Raises BrokerError.

        A name or glob that starts with ``!`` excludes. That AWS does not know who we are is an error only if it holds for
        every queue, since each may have keys or a role of its own.
        """
        names = list(wanted)
        excluded = [*exclude, *(name[1:] for name in names if name.startswith("!"))]
        found: dict[str, QueueInfo] = {}
        missing: list[str] = []
        empty: list[str] = []
        denied: dict[str, exceptions.AccessDenied] = {}
        listed: list[str] | None = None
        for name in (name for name in names if not name.startswith("!")):
            if is_pattern(name):
                listed = self._list(names) if listed is None else listed
                matched = self._match(name, listed, denied)
                empty.extend([] if matched else [name])
                for info in matched:
                    found.setdefault(info.name, info)
                continue
            try:
                info = self._exact(name, create)
            except exceptions.QueueDoesNotExist:
                missing.append(name)
            except exceptions.AccessDenied as exc:
                denied[name] = exc
            else:
                found[info.name] = info
        nobody = [exc for exc in denied.values() if exc.code in NOT_LOGGED_IN]
        if nobody and not found:
            raise nobody[0]
        kept = [q for q in found.values() if not any(self._is_meant(entry, q) for entry in excluded)]
        return FoundQueues(tuple(kept), tuple(missing), tuple(empty), {name: str(exc) for name, exc in denied.items()})

    def forget(self, name: str) -> None:
        """Look the queue up afresh next time: it vanished or changed."""
        self._known.pop(name, None)

    def _is_meant(self, entry: str, info: QueueInfo) -> bool:
        prefix = self._config.queue_name_prefix
        if is_pattern(entry):
            return matches(entry, info.name, prefix)
        return info.name in (entry, sqs_queue_name(entry, prefix)) or info.logical == entry

    def _exact(self, logical: str, create: bool) -> QueueInfo:
        predefined = find_predefined(self._config, logical)
        if predefined is not None:
            return self._describe(predefined.url, logical, predefined)
        if self._config.predefined_queues:
            raise exceptions.QueueDoesNotExist(f"queue {logical!r} is not in predefined_queues", queue=logical)
        name = check_queue_name(logical, self._config.queue_name_prefix)
        known = self._known.get(name)
        if known is not None:
            return known
        try:
            url = self._client.queue_url(name)
        except exceptions.QueueDoesNotExist:
            if not create:
                raise
            url = self._client.create_queue(name, creation_attributes(self._config, name), self._config.queue_tags)
        return self._describe(url, logical, None)

    def _list(self, names: list[str]) -> list[str]:
        if self._config.predefined_queues:
            return [entry.url for entry in self._config.predefined_queues.values()]
        patterns = [sqs_pattern(n, self._config.queue_name_prefix) for n in names if is_pattern(n) and n[0] != "!"]
        return list(self._client.list_queue_urls(common_prefix(patterns)))

    def _match(self, pattern: str, urls: Iterable[str], denied: dict[str, exceptions.AccessDenied]) -> list[QueueInfo]:
        prefix = self._config.queue_name_prefix
        found = []
        for url in urls:
            name = url.rsplit("/", 1)[-1]
            if looks_like_dead_letters(name) or looks_private(name) or not matches(pattern, name, prefix):
                continue
            try:
                found.append(self._describe(url, self._logical(name), None))
            except exceptions.QueueDoesNotExist:
                continue  # it vanished after it was listed
            except exceptions.AccessDenied as exc:
                denied[self._logical(name)] = exc
        targets = {info.redrive.dead_letter_name for info in self._known.values() if info.redrive}
        return [info for info in found if info.name not in targets]

    def _logical(self, name: str) -> str:
        prefix = sqs_queue_name(self._config.queue_name_prefix)
        return name[len(prefix) :] if prefix and name.startswith(prefix) else name

    def _describe(self, url: str, logical: str, predefined: PredefinedQueue | None) -> QueueInfo:
        name = url.rsplit("/", 1)[-1]
        known = self._known.get(name)
        if known is None:
            known = queue_info(name, url, logical, self._attributes(url, name))
            self._known[name] = known
        elif known.url != url:
            raise exceptions.InvalidRequest(
                f"{known.url} and {url} have the same name, and a worker can serve only one of them: start one for each",
                queue=name,
            )
        if predefined is not None:
            known = replace(
                known,
                logical=logical,
                backoff_policy=predefined.backoff_policy,
                backoff_tasks=predefined.backoff_tasks,
            )
            self._known[name] = known
        return known

    def _attributes(self, url: str, name: str) -> Mapping[str, str]:
        """The queue's attributes; GetQueueAttributes is not among a worker's least privileges, so it may be denied."""
        try:
            return self._client.queue_attributes(url, name)
        except exceptions.AccessDenied as exc:
            if exc.code in NOT_LOGGED_IN:
                raise
            logger.warning(
                "Queue %s: sqs:GetQueueAttributes is not allowed, so its redrive policy, its visibility timeout and its largest "
                "message are not known: it is served as a queue without a redrive policy and with SQS's usual values",
                name,
            )
            return {}


def find_predefined(config: BrokerConfig, logical: str) -> PredefinedQueue | None:
    """The predefined queue of this name, by the final SQS name as Celery wants it or by the application's."""
    queues = config.predefined_queues
    return queues.get(sqs_queue_name(logical, config.queue_name_prefix)) or queues.get(logical)


def queue_info(name: str, url: str, logical: str, attributes: Mapping[str, str]) -> QueueInfo:
    """A QueueInfo from what GetQueueAttributes says."""
    redrive = None
    if attributes.get("RedrivePolicy"):
        policy: dict[str, Any] = json.loads(attributes["RedrivePolicy"])
        if policy.get("deadLetterTargetArn"):
            redrive = RedrivePolicy(str(policy["deadLetterTargetArn"]), int(policy.get("maxReceiveCount") or 10))
    return QueueInfo(
        name,
        url,
        logical,
        fifo=name.endswith(".fifo"),
        visibility_timeout_seconds=int(attributes.get("VisibilityTimeout", 30)),
        max_message_size=int(attributes.get("MaximumMessageSize", 1_048_576)),
        redrive=redrive,
        arn=attributes.get("QueueArn"),
    )


def creation_attributes(config: BrokerConfig, name: str) -> dict[str, str]:
    """The attributes of a queue we create, as kombu sets them."""
    attributes = {"VisibilityTimeout": str(config.visibility_timeout or 1800)}
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return attributes | dict(config.creation_attributes)


def dead_letter_attributes(name: str) -> dict[str, str]:
    """The attributes of a dead-letter queue we create: same type, the longest retention."""
    attributes = {"MessageRetentionPeriod": str(MAX_RETENTION_SECONDS)}
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return attributes


def common_prefix(patterns: Iterable[str]) -> str:
    """The literal text all patterns begin with, to keep ListQueues short."""
    heads = [re.split(r"[*?\[]", pattern, maxsplit=1)[0] for pattern in patterns]
    if not heads:
        return ""
    shortest = min(heads, key=len)
    while shortest and not all(head.startswith(shortest) for head in heads):
        shortest = shortest[:-1]
    return shortest
