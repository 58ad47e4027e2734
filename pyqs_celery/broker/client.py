"""The only importer of boto3: SQS's calls on values of ours, with bounded times and our errors.

One client for each set of credentials and process; boto3 clients are thread-safe, and one made before a fork is never
used after it. Nothing is retried here: the worker backs off per queue, and the publisher has a budget.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyqs_celery.broker.config import DEFAULT_REGION, BrokerConfig, Credentials
from pyqs_celery.broker.credentials import session_for
from pyqs_celery.broker.delivery import Delivery, Outgoing, QueueInfo
from pyqs_celery.broker.errors import broker_error, error_class
from pyqs_celery.broker.limits import CONNECT_TIMEOUT_SECONDS, READ_MARGIN_SECONDS
from pyqs_celery.exceptions import AccessDenied, BrokerError, ReceiptExpired


@dataclass(frozen=True, slots=True)
class EntryError:
    """Why one entry of a batch failed. ``lost``: the lease is gone; ``forbidden``: we lack the permission."""

    code: str
    message: str
    retryable: bool = True
    lost: bool = False
    forbidden: bool = False

    @classmethod
    def of(cls, error: BrokerError) -> EntryError:
        """The error of each entry of a batch that was refused, or not answered, as a whole."""
        return cls(error.code or "", str(error), error.retryable, forbidden=isinstance(error, AccessDenied))


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of the entries of one batch, by their ids."""

    ok: frozenset[str] = frozenset()
    failed: Mapping[str, EntryError] = field(default_factory=dict)
    message_ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a connection and an answer may take."""

    connect: float = CONNECT_TIMEOUT_SECONDS
    read: float = 20 + READ_MARGIN_SECONDS


class SqsClient:
    """SQS as the rest of the package sees it. Every method raises the BrokerError family and nothing else of AWS's.

    ``boto_client`` is any object with boto3's SQS methods (tests, the embedded SQS); ``pool_size`` is how many
    connections may be open at once.
    """

    def __init__(
        self, config: BrokerConfig, *, boto_client: Any = None, pool_size: int = 10, timeouts: Timeouts | None = None
    ) -> None:
        self.config = config
        self._given = boto_client
        self._pool_size = pool_size
        self._timeouts = timeouts or Timeouts(read=config.wait_time_seconds + READ_MARGIN_SECONDS)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._clients: dict[Any, Any] = {}

    # -- clients -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Throw the clients away; the next call makes new ones."""
        with self._lock:
            self._clients = {}

    def _client(self, queue: str | None = None) -> Any:
        if self._given is not None:
            return self._given
        if self._pid != os.getpid():
            self._lock, self._clients, self._pid = threading.Lock(), {}, os.getpid()
        predefined = self.config.predefined_queues.get(queue) if queue and self.config.predefined_queues else None
        key: tuple[Credentials | None, str | None, str | None]
        if predefined is None:
            key = (self.config.credentials, self.config.sts_role_arn, self.config.region)
        else:
            key = (
                predefined.credentials or self.config.credentials,
                predefined.sts_role_arn or self.config.sts_role_arn,
                predefined.region or self.config.region,
            )
        client = self._clients.get(key)
        if client is None:
            with self._lock:
                client = self._clients.get(key)
                if client is None:
                    client = self._clients[key] = self._make(*key)
        return client

    def _make(self, credentials: Credentials | None, role: str | None, region: str | None) -> Any:
        if self.config.in_memory is not None:
            from pyqs_celery.local.client import shared_client

            return shared_client(self.config.in_memory)
        from botocore.config import Config

        try:
            session = session_for(self.config, credentials, role, region)
            settings = Config(
                connect_timeout=self._timeouts.connect,
                read_timeout=self._timeouts.read,
                retries={"total_max_attempts": 1},
                max_pool_connections=self._pool_size,
                tcp_keepalive=True,
                parameter_validation=False,
            )
            if self.config.client_config:
                settings = settings.merge(Config(**self.config.client_config))
            return session.client(
                "sqs",
                region_name=region or session.region_name or DEFAULT_REGION,
                endpoint_url=self.config.endpoint_url,
                config=settings,
            )
        except Exception as exc:
            raise broker_error(exc, "connecting", None) from exc

    def _call(self, action: str, queue: str | None, /, **request: Any) -> dict[str, Any]:
        client = self._client(queue)
        try:
            answer: dict[str, Any] = getattr(client, action)(**request)
        except Exception as exc:
            raise broker_error(exc, _API_NAMES[action], queue) from exc
        return answer

    # -- messages ----------------------------------------------------------------------------------

    def receive(
        self, queue: QueueInfo, *, count: int, wait_seconds: int, visibility_seconds: int, clock: Callable[[], float]
    ) -> list[Delivery]:
        """ReceiveMessage. ``clock`` (epoch seconds) is read when the answer is there, which is when the leases begin."""
        answer = self._call(
            "receive_message",
            queue.name,
            QueueUrl=queue.url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=visibility_seconds,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        now = clock()
        return [_delivery(queue.name, message, now) for message in answer.get("Messages", ())]

    def delete_batch(self, queue: QueueInfo, entries: Sequence[tuple[str, str]]) -> BatchResult:
        """DeleteMessageBatch of up to ten (id, receipt handle)."""
        answer = self._call(
            "delete_message_batch",
            queue.name,
            QueueUrl=queue.url,
            Entries=[{"Id": each, "ReceiptHandle": handle} for each, handle in entries],
        )
        return _batch_result(answer)

    def change_visibility_batch(self, queue: QueueInfo, entries: Sequence[tuple[str, str, int]]) -> BatchResult:
        """ChangeMessageVisibilityBatch of up to ten (id, receipt handle, seconds from now)."""
        answer = self._call(
            "change_message_visibility_batch",
            queue.name,
            QueueUrl=queue.url,
            Entries=[
                {"Id": each, "ReceiptHandle": handle, "VisibilityTimeout": seconds} for each, handle, seconds in entries
            ],
        )
        return _batch_result(answer)

    def send(self, url: str, message: Outgoing) -> str:
        """SendMessage; the message's id."""
        answer = self._call("send_message", url.rsplit("/", 1)[-1], QueueUrl=url, **_send_fields(message))
        return str(answer["MessageId"])

    def send_batch(self, url: str, messages: Sequence[tuple[str, Outgoing]]) -> BatchResult:
        """SendMessageBatch of up to ten (id, message)."""
        answer = self._call(
            "send_message_batch",
            url.rsplit("/", 1)[-1],
            QueueUrl=url,
            Entries=[{"Id": each, **_send_fields(message)} for each, message in messages],
        )
        return _batch_result(answer)

    # -- queues ------------------------------------------------------------------------------------

    def queue_url(self, name: str) -> str:
        """GetQueueUrl. Raises QueueDoesNotExist."""
        return str(self._call("get_queue_url", name, QueueName=name)["QueueUrl"])

    def queue_attributes(self, url: str, name: str) -> Mapping[str, str]:
        """GetQueueAttributes, all of them."""
        answer = self._call("get_queue_attributes", name, QueueUrl=url, AttributeNames=["All"])
        attributes: Mapping[str, str] = answer.get("Attributes", {})
        return attributes

    def list_queue_urls(self, prefix: str = "") -> list[str]:
        """ListQueues, every page."""
        urls: list[str] = []
        request: dict[str, Any] = {"MaxResults": 1000}
        if prefix:
            request["QueueNamePrefix"] = prefix
        while True:
            answer = self._call("list_queues", None, **request)
            urls.extend(answer.get("QueueUrls", ()))
            token = answer.get("NextToken")
            if not token:
                return urls
            request["NextToken"] = token

    def create_queue(self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str] | None = None) -> str:
        """CreateQueue; its URL."""
        request: dict[str, Any] = {"QueueName": name, "Attributes": dict(attributes)}
        if tags:
            request["tags"] = dict(tags)
        return str(self._call("create_queue", name, **request)["QueueUrl"])

    def purge(self, queue: QueueInfo) -> None:
        """PurgeQueue: everything waiting and in flight is deleted within a minute."""
        self._call("purge_queue", queue.name, QueueUrl=queue.url)


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


def _delivery(queue: str, message: Mapping[str, Any], now: float) -> Delivery:
    attributes = message.get("Attributes") or {}
    return Delivery(
        queue,
        message["MessageId"],
        message["ReceiptHandle"],
        message.get("Body", ""),
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
    for entry in answer.get("Failed", ()):
        code, message = str(entry.get("Code", "")), str(entry.get("Message", ""))
        kind = error_class(code, message, 400 if entry.get("SenderFault") else 500)
        failed[entry["Id"]] = EntryError(code, message, kind.retryable, kind is ReceiptExpired, kind is AccessDenied)
    successful: Iterable[Mapping[str, Any]] = answer.get("Successful", ())
    return BatchResult(
        frozenset(entry["Id"] for entry in successful),
        failed,
        {entry["Id"]: entry.get("MessageId", "") for entry in successful},
    )
