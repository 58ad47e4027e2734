"""SQS's calls on values of ours, with bounded times and our errors.

Nothing is retried here but what was refused for its keys: the worker backs off per queue, and the publisher has a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pyqs_celery import exceptions
from pyqs_celery.broker.config import BrokerConfig
from pyqs_celery.broker.connections import Connection, Connections, Timeouts
from pyqs_celery.broker.credentials import Identities
from pyqs_celery.broker.delivery import Delivery, Outgoing, QueueInfo
from pyqs_celery.broker.errors import are_old_keys, broker_error, error_class, unreadable_answer
from pyqs_celery.broker.limits import READ_MARGIN_SECONDS

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class EntryError:
    """Why one entry of a batch failed.

    ``lost``: the lease is gone; ``forbidden``: we lack the permission; ``missing``: there is no such queue; ``throttled``: SQS
    asks to slow down.
    """

    code: str
    message: str
    retryable: bool = True
    lost: bool = False
    forbidden: bool = False
    missing: bool = False
    throttled: bool = False

    @classmethod
    def of(cls, error: exceptions.BrokerError) -> EntryError:
        """The error of each entry of a batch that was refused, or not answered, as a whole."""
        return cls.of_class(type(error), error.code or "", str(error))

    @classmethod
    def of_class(cls, kind: type[exceptions.BrokerError], code: str, message: str) -> EntryError:
        """The same, for the class of error that SQS's code stands for."""
        return cls(
            code,
            message,
            kind.retryable,
            lost=kind is exceptions.ReceiptExpired,
            forbidden=kind is exceptions.AccessDenied,
            missing=kind is exceptions.QueueDoesNotExist,
            throttled=kind is exceptions.Throttled,
        )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of the entries of one batch, by their ids."""

    ok: frozenset[str] = frozenset()
    failed: Mapping[str, EntryError] = field(default_factory=dict)
    message_ids: Mapping[str, str] = field(default_factory=dict)

    def error(self, entry: str) -> EntryError | None:
        """Why an entry failed, None if it did not. One of which the answer says nothing has failed: it may not be there."""
        if entry in self.ok:
            return None
        return self.failed.get(entry) or EntryError("NoAnswer", "SQS did not say what became of this entry")


class SqsClient:
    """SQS as the rest of the package sees it. Every method raises the BrokerError family and nothing else of AWS's.

    ``boto_client`` is any object with boto3's SQS methods (tests, the embedded SQS); ``pool_size`` is how many
    connections may be open at once. ``like`` is a client whose identities are shared: the same keys, renewed once.
    """

    def __init__(
        self,
        config: BrokerConfig,
        *,
        boto_client: Any = None,
        pool_size: int = 10,
        timeouts: Timeouts | None = None,
        like: SqsClient | None = None,
    ) -> None:
        self.config = config
        self._given = None if boto_client is None else Connection(boto_client)
        self._identities: Identities = Identities(config) if like is None else like._identities
        self._connections = Connections(
            config,
            self._identities,
            pool_size=pool_size,
            timeouts=timeouts or Timeouts(read=config.wait_time_seconds + READ_MARGIN_SECONDS),
        )

    # -- clients -----------------------------------------------------------------------------------

    def reset(self, *, after_trouble: bool = False) -> None:
        """Throw the clients away; the next call makes new ones. ``after_trouble``: but keep those just made."""
        self._connections.reset(after_trouble=after_trouble)

    def _client(self, queue: str | None = None) -> Any:
        return self._connection(queue).client

    def _connection(self, queue: str | None, url: str | None = None) -> Connection:
        return self._given or self._connections.of(queue, url)

    def _call(self, action: str, queue: str | None, read: Callable[[dict[str, Any]], Said], /, **request: Any) -> Said:
        """One call, and what ``read`` makes of its answer. Keys that AWS refuses as old are renewed, and it is made once more."""
        try:
            connection = self._connection(queue, request.get("QueueUrl"))
            call = getattr(connection.client, action)
            try:
                answer: dict[str, Any] = call(**request)
            except Exception as exc:
                if connection.keys is None or not are_old_keys(exc) or not connection.keys.renew():
                    raise
                answer = call(**request)
        except Exception as exc:
            raise broker_error(exc, _API_NAMES[action], queue) from exc
        try:
            return read(answer)
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            raise unreadable_answer(exc, _API_NAMES[action], queue) from exc

    # -- messages ----------------------------------------------------------------------------------

    def receive(
        self,
        queue: QueueInfo,
        *,
        count: int,
        wait_seconds: int,
        visibility_seconds: int,
        clock: Callable[[], float],
        attempt: str | None = None,
    ) -> list[Delivery]:
        """ReceiveMessage. ``attempt`` (FIFO queues) is the ReceiveRequestAttemptId: the same again brings the same messages.

        ``clock`` gives epoch seconds. Leases begin when the answer is there. One that is later than a poll can end was long on
        its way, or waited in a process that was stopped: its leases may be as old as the question, and count from that.
        """
        began = clock()

        def read(answer: Mapping[str, Any]) -> list[Delivery]:
            now = clock()
            now = now if now - began <= wait_seconds + ANSWER_SECONDS else began
            return [_delivery(queue.name, message, now) for message in answer.get("Messages") or ()]

        return self._call(
            "receive_message",
            queue.name,
            read,
            QueueUrl=queue.url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=visibility_seconds,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
            **({"ReceiveRequestAttemptId": attempt} if attempt else {}),
        )

    def delete_batch(self, queue: QueueInfo, entries: Sequence[tuple[str, str]]) -> BatchResult:
        """DeleteMessageBatch of up to ten (id, receipt handle)."""
        return self._call(
            "delete_message_batch",
            queue.name,
            _batch_result,
            QueueUrl=queue.url,
            Entries=[{"Id": each, "ReceiptHandle": handle} for each, handle in entries],
        )

    def change_visibility_batch(self, queue: QueueInfo, entries: Sequence[tuple[str, str, int]]) -> BatchResult:
        """ChangeMessageVisibilityBatch of up to ten (id, receipt handle, seconds from now)."""
        return self._call(
            "change_message_visibility_batch",
            queue.name,
            _batch_result,
            QueueUrl=queue.url,
            Entries=[
                {"Id": each, "ReceiptHandle": handle, "VisibilityTimeout": seconds} for each, handle, seconds in entries
            ],
        )

    def send(self, url: str, message: Outgoing) -> str:
        """SendMessage; the message's id."""
        return self._call(
            "send_message",
            url.rsplit("/", 1)[-1],
            lambda answer: _text(answer["MessageId"]),
            QueueUrl=url,
            **_send_fields(message),
        )

    def send_batch(self, url: str, messages: Sequence[tuple[str, Outgoing]]) -> BatchResult:
        """SendMessageBatch of up to ten (id, message)."""
        return self._call(
            "send_message_batch",
            url.rsplit("/", 1)[-1],
            _batch_result,
            QueueUrl=url,
            Entries=[{"Id": each, **_send_fields(message)} for each, message in messages],
        )

    # -- queues ------------------------------------------------------------------------------------

    def queue_url(self, name: str) -> str:
        """GetQueueUrl. Raises QueueDoesNotExist."""
        return self._call("get_queue_url", name, _url, QueueName=name)

    def queue_attributes(self, url: str, name: str) -> Mapping[str, str]:
        """GetQueueAttributes, all of them."""
        return self._call(
            "get_queue_attributes",
            name,
            lambda answer: dict(answer.get("Attributes") or {}),
            QueueUrl=url,
            AttributeNames=["All"],
        )

    def list_queue_urls(self, prefix: str = "") -> list[str]:
        """ListQueues, every page."""
        urls: list[str] = []
        request: dict[str, Any] = {"MaxResults": 1000}
        if prefix:
            request["QueueNamePrefix"] = prefix
        while True:
            page, token = self._call("list_queues", None, _page, **request)
            urls.extend(page)
            if not token or token == request.get("NextToken"):
                return urls
            request["NextToken"] = token

    def create_queue(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str] | None = None) -> str:
        """CreateQueue; its URL."""
        request: dict[str, Any] = {"QueueName": name, "Attributes": dict(attributes)}
        if tags:
            request["tags"] = dict(tags)
        return self._call("create_queue", name, _url, **request)

    def purge(self, queue: QueueInfo) -> None:
        """PurgeQueue: everything waiting and in flight is deleted within a minute."""
        self._call("purge_queue", queue.name, lambda _: None, QueueUrl=queue.url)


ANSWER_SECONDS = 1.0
"""What an answer may take beyond the waiting time of its poll before it counts as late."""

_API_NAMES = {
    "receive_message": "ReceiveMessage",
    "delete_message_batch": "DeleteMessage",
    "change_message_visibility_batch": "ChangeMessageVisibility",
    "send_message": "SendMessage",
    "send_message_batch": "SendMessage",
    "get_queue_url": "GetQueueUrl",
    "get_queue_attributes": "GetQueueAttributes",
    "list_queues": "ListQueues",
    "create_queue": "CreateQueue",
    "purge_queue": "PurgeQueue",
}


def _url(answer: Mapping[str, Any]) -> str:
    return _text(answer["QueueUrl"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text was expected, not {type(value).__name__}")
    return value


def _page(answer: Mapping[str, Any]) -> tuple[list[str], str | None]:
    """Queue URLs, and the token that the next ones are asked with."""
    return [str(url) for url in answer.get("QueueUrls") or ()], answer.get("NextToken")


def _delivery(queue: str, message: Mapping[str, Any], now: float) -> Delivery:
    attributes = message.get("Attributes") or {}
    return Delivery(
        queue,
        _text(message["MessageId"]),
        _text(message["ReceiptHandle"]),
        _text(message.get("Body", "")),
        now,
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        sent_at=_seconds(attributes.get("SentTimestamp")),
        first_received_at=_seconds(attributes.get("ApproximateFirstReceiveTimestamp")),
        group_id=attributes.get("MessageGroupId"),
        deduplication_id=attributes.get("MessageDeduplicationId"),
        attributes=attributes,
        message_attributes=message.get("MessageAttributes") or {},
    )


def _seconds(milliseconds: str | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None


def _send_fields(message: Outgoing) -> dict[str, Any]:
    fields: dict[str, Any] = {"MessageBody": message.body}
    if message.delay_seconds:
        fields["DelaySeconds"] = message.delay_seconds
    if message.group_id is not None:
        fields["MessageGroupId"] = message.group_id
    if message.deduplication_id is not None:
        fields["MessageDeduplicationId"] = message.deduplication_id
    if message.attributes:
        fields["MessageAttributes"] = dict(message.attributes)
    return fields


def _batch_result(answer: Mapping[str, Any]) -> BatchResult:
    failed = {}
    for entry in answer.get("Failed") or ():
        code, message = str(entry.get("Code", "")), str(entry.get("Message", ""))
        kind = error_class(code, message, 400 if entry.get("SenderFault") else 500)
        failed[entry["Id"]] = EntryError.of_class(kind, code, message)
    successful: Iterable[Mapping[str, Any]] = answer.get("Successful") or ()
    return BatchResult(
        frozenset(entry["Id"] for entry in successful),
        failed,
        {entry["Id"]: entry.get("MessageId", "") for entry in successful},
    )
