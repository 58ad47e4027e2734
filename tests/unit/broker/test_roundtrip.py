"""Our way to make a request is botocore's: the same on the wire, the same answers and errors, seen by the same hooks."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.awsrequest
import botocore.httpsession
import botocore.model
import botocore.session
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.endpoint import Endpoint
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig, Credentials, broker_config
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.publisher import Publisher
from pyqs_celery.broker.roundtrip import RoundTrip
from pyqs_celery.exceptions import BrokerError, BrokerUnavailable
from tests.support.certificates import Identity

ONCE = {"total_max_attempts": 1}
OF_ATTEMPTS = {"amz-sdk-invocation-id", "amz-sdk-request"}
OF_THE_MOMENT = {"x-amz-date", "authorization"}


class Canned:
    """An HTTP server that gives every request the same answer, and remembers what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status, self.headers, self.body = 200, {}, b"{}"
        self.paths, self.asked, self.bodies = [], [], []
        self.connections = set()
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                canned.connections.add(self.client_address)
                canned.paths.append(self.path)
                canned.asked.append({name.lower(): value for name, value in self.headers.items()})
                canned.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(canned.status)
                for name, value in {**canned.headers, "Content-Length": str(len(canned.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(canned.body)

            def log_message(self, *args):
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def answers(self, status: int, body: bytes, **headers: str) -> None:
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def server() -> Iterator[Canned]:
    server = Canned()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def plain(endpoint: str, **config: Any) -> Any:
    """A client of botocore's that makes its own requests."""
    session = botocore.session.Session()
    session.set_credentials("AKIAKEY", "secret", "token")
    return session.create_client(
        "sqs", region_name="eu-west-1", endpoint_url=endpoint, config=Config(retries=ONCE, **config)
    )


def ours(endpoint: str, **config: Any) -> Any:
    """The same, and we make its requests."""
    client = plain(endpoint, **config)
    assert RoundTrip.on(client, None)
    return client


def outcome(call: Any) -> tuple[Any, ...]:
    """What a call brought, without what is other each time."""
    try:
        answer = call()
    except ClientError as exc:
        metadata = exc.response["ResponseMetadata"]
        return (
            type(exc).__name__,
            exc.response["Error"],
            metadata["HTTPStatusCode"],
            metadata.get("RequestId"),
        )
    except BotoCoreError as exc:
        return type(exc).__name__, str(exc)
    metadata = answer.pop("ResponseMetadata")
    return answer, metadata["HTTPStatusCode"], metadata.get("RequestId")


CALLS = {
    "send_message": {
        "QueueUrl": "http://q/1/é",
        "MessageBody": "ü\n",
        "DelaySeconds": 3,
        "MessageAttributes": {
            "text": {"DataType": "String", "StringValue": "x"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        },
    },
    "receive_message": {"QueueUrl": "http://q/1/q", "MaxNumberOfMessages": 10, "AttributeNames": ["All"]},
    "delete_message_batch": {"QueueUrl": "http://q/1/q", "Entries": [{"Id": "1", "ReceiptHandle": "h" * 200}]},
    "list_queues": {},
}


@pytest.mark.parametrize("action", CALLS)
def test_the_request_is_the_one_that_botocore_would_make(server: Canned, action: str):
    for client in (plain(f"http://{server.address}/base"), ours(f"http://{server.address}/base")):
        getattr(client, action)(**CALLS[action])

    theirs, mine = (set(each) - OF_ATTEMPTS for each in server.asked)
    assert mine == theirs
    same = theirs - OF_THE_MOMENT
    assert {name: server.asked[1][name] for name in same} == {name: server.asked[0][name] for name in same}
    assert json.loads(server.bodies[1]) == json.loads(server.bodies[0])
    assert server.paths == ["/base", "/base"]
    assert "Credential=AKIAKEY/" in server.asked[1]["authorization"]
    assert "/eu-west-1/sqs/aws4_request" in server.asked[1]["authorization"]


MESSAGE = {"MessageId": "m", "ReceiptHandle": "h", "Body": "b", "Attributes": {"ApproximateReceiveCount": "1"}}
BINARY = {"key": {"DataType": "Binary", "BinaryValue": "AP8="}}
ANSWERS = {
    "nothing": (200, b"{}", {}),
    "empty": (200, b"", {}),
    "messages": (200, json.dumps({"Messages": [MESSAGE] * 10}).encode(), {"x_amzn_RequestId": "r-1"}),
    "binary values": (200, json.dumps({"Messages": [{**MESSAGE, "MessageAttributes": BINARY}]}).encode(), {}),
    "refused": (
        400,
        b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"there is none"}',
        {"x_amzn_query_error": "AWS.SimpleQueueService.NonExistentQueue;Sender", "x_amzn_RequestId": "r-2"},
    ),
    "refused, unknown code": (403, b'{"__type":"AccessDeniedException","Message":"no"}', {}),
    "out of order": (503, b"<html>Service Unavailable</html>", {}),
    "out of order, silent": (500, b"", {}),
    "throttled": (400, b'{"__type":"com.amazon.coral.availability#ThrottlingException","message":"slow"}', {}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_as_botocore_reads_it(server: Canned, name: str):
    status, body, headers = ANSWERS[name]
    server.answers(status, body, **headers)
    theirs, mine = plain(f"http://{server.address}"), ours(f"http://{server.address}")

    expected = outcome(lambda: theirs.receive_message(QueueUrl="http://q/1/q"))

    assert outcome(lambda: mine.receive_message(QueueUrl="http://q/1/q")) == expected


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b"null", b"\xff\xfe"])
def test_an_answer_that_is_not_sqss_is_trouble_that_may_pass(server: Canned, body: bytes):
    client = SqsClient(
        broker_config("sqs://key:secret@", {"region": "x", "endpoint_url": f"http://{server.address}"}, {})
    )
    server.answers(200, body)
    with pytest.raises(BrokerUnavailable, match=r"ListQueues: .*not SQS's"):
        client.list_queue_urls()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [(400, b"\xff\xfe", "Bad Request"), (301, b"", "Moved Permanently"), (418, b"[]", "I'm a Teapot")],
)
def test_a_refusal_that_nobody_can_read_is_one_by_its_status(server: Canned, status: int, body: bytes, message: str):
    server.answers(status, body, x_amzn_RequestId="r-3")
    with pytest.raises(ClientError) as caught:
        ours(f"http://{server.address}").list_queues()

    assert caught.value.response["Error"] == {"Code": str(status), "Message": message}
    assert caught.value.response["ResponseMetadata"]["RequestId"] == "r-3"


class Changed(AWSRequest):
    """It wants its arguments by name, as a release of botocore might."""

    def __init__(self, *, method: Any, url: Any, headers: Any, data: Any, auth_path: Any = None) -> None:
        super().__init__(method=method, url=url, headers=headers, data=data, auth_path=auth_path)


@pytest.mark.parametrize("change", ["another request", "no session", "no protocol"])
def test_a_botocore_that_is_not_as_it_was_makes_its_requests_itself(
    server: Canned, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
):
    client = plain(f"http://{server.address}")
    if change == "another request":
        monkeypatch.setattr(botocore.awsrequest, "AWSRequest", Changed)
        assert RoundTrip.on(client, None)
    elif change == "no session":
        monkeypatch.delattr(botocore.httpsession, "URLLib3Session")
        assert RoundTrip.on(client, None) is None
    else:
        monkeypatch.delattr(botocore.model.ServiceModel, "protocol")
        assert RoundTrip.on(client, None) is None

    server.answers(200, b'{"QueueUrls":["http://q/1/q"]}')
    answers = [client.list_queues()["QueueUrls"] for _ in range(2)]

    assert answers == [["http://q/1/q"]] * 2
    assert len(server.asked) == 2
    assert [record.levelname for record in caplog.records if "not as it was" in record.message] == ["WARNING"]


def test_a_field_that_is_null_is_one_that_is_not_there(server: Canned):
    client = SqsClient(
        BrokerConfig(
            region="eu-west-1", endpoint_url=f"http://{server.address}", credentials=Credentials("key", "secret")
        )
    )
    server.answers(200, b'{"QueueUrls":null,"Attributes":null,"Successful":null,"Failed":null}')

    assert client.list_queue_urls() == []
    assert client.queue_attributes("http://q/1/q", "q") == {}
    assert client.send_batch("http://q/1/q", [("1", Outgoing("q", "x"))]).ok == frozenset()


@pytest.mark.parametrize("trouble", ["refused", "cut off", "silent"])
def test_trouble_on_the_way_is_the_same_error(server: Canned, trouble: str):
    class Silent(ThreadingHTTPServer):
        """It takes connections; what it does with them is in its handler."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if trouble == "silent":
                over.wait(30)
            self.close_connection = True

        def log_message(self, *args):
            """Nobody reads it."""

    over = threading.Event()
    other = Silent(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    if trouble == "refused":
        other.shutdown()
        other.server_close()
    url = f"http://127.0.0.1:{other.server_port}"
    try:
        theirs, mine = plain(url, read_timeout=0.3), ours(url, read_timeout=0.3)
        expected = outcome(theirs.list_queues)[0]
        assert outcome(mine.list_queues)[0] == expected
    finally:
        over.set()
        if trouble != "refused":
            other.shutdown()
            other.server_close()
        thread.join(10)


def test_what_listens_to_botocore_hears_each_call(server: Canned):
    client, heard = ours(f"http://{server.address}"), []
    for event in (
        "provide-client-params",
        "before-call",
        "request-created",
        "before-sign",
        "before-send",
        "after-call",
    ):
        client.meta.events.register(f"{event}.sqs.ListQueues", lambda event=event, **_: heard.append(event))

    client.list_queues()

    assert heard == [
        "provide-client-params",
        "before-call",
        "request-created",
        "before-sign",
        "before-send",
        "after-call",
    ]


def test_a_header_that_a_hook_adds_is_sent_and_signed(server: Canned):
    client = ours(f"http://{server.address}")
    client.meta.events.register_first(
        "request-created.sqs", lambda request, **_: request.headers.add_header("X-Trace", "1")
    )

    client.list_queues()

    assert server.asked[0]["x-trace"] == "1"
    assert "x-trace" in server.asked[0]["authorization"]


def test_what_mocks_sqs_in_the_process_is_asked_instead_of_the_network():
    moto = pytest.importorskip("moto")
    config = broker_config("sqs://key:secret@", {"region": "us-east-1"}, {})
    with moto.mock_aws():
        publisher = Publisher(config)
        publisher.send(Outgoing("mocked", "x", attributes={"k": {"DataType": "Binary", "BinaryValue": b"\xff"}}))
        other = botocore.session.Session().create_client(
            "sqs", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        url = other.get_queue_url(QueueName="mocked")["QueueUrl"]
        [message] = other.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
        publisher.close()

    assert message["Body"] == "x"
    assert message["MessageAttributes"]["k"]["BinaryValue"] == b"\xff"


@pytest.mark.parametrize("retries", [{"total_max_attempts": 3}, {"mode": "standard"}])
def test_a_client_that_shall_repeat_what_fails_makes_its_own_requests(server: Canned, retries: dict[str, Any]):
    session = botocore.session.Session()
    client = session.create_client(
        "sqs", region_name="eu-west-1", endpoint_url=f"http://{server.address}", config=Config(retries=retries)
    )

    assert RoundTrip.on(client, None) is None


@pytest.mark.parametrize("by", ["environment", "client-config"])
def test_a_proxy_is_used(server: Canned, monkeypatch: pytest.MonkeyPatch, by: str):
    proxy = f"http://{server.address}"
    options: dict[str, Any] = {"region": "eu-west-1", "endpoint_url": "http://sqs.example.invalid"}
    monkeypatch.setenv("NO_PROXY", "")
    if by == "environment":
        monkeypatch.setenv("HTTP_PROXY", proxy)
    else:
        options["client-config"] = {"proxies": {"http": proxy}}
    client = SqsClient(broker_config("sqs://key:secret@", options, {}))

    client.list_queue_urls()

    assert server.paths == ["http://sqs.example.invalid/"]


def test_certificates_are_checked_against_the_bundle_that_aws_settings_name(tmp_path, monkeypatch: pytest.MonkeyPatch):
    identity = Identity(tmp_path, "sqs", address="127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    server = Canned(context)
    try:
        options = {"region": "eu-west-1", "endpoint_url": f"https://{server.address}"}
        with pytest.raises(BrokerUnavailable, match="certificate"):
            SqsClient(broker_config("sqs://key:secret@", options, {})).list_queue_urls()

        monkeypatch.setenv("AWS_CA_BUNDLE", str(identity.certificate))
        SqsClient(broker_config("sqs://key:secret@", options, {})).list_queue_urls()
    finally:
        server.close()

    assert len(server.asked) == 1


def test_a_connection_is_kept_from_call_to_call_and_closed_with_its_client(server: Canned):
    config = BrokerConfig(
        region="eu-west-1", endpoint_url=f"http://{server.address}", credentials=Credentials("key", "secret")
    )
    client = SqsClient(config)
    for _ in range(5):
        client.list_queue_urls()
    assert len(server.connections) == 1

    client.reset()
    client.list_queue_urls()
    assert len(server.connections) == 2


@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_nested_without_end_is_none_of_sqss(server: Canned, status):
    server.answers(status, b"[" * 200_000)
    client = SqsClient(
        BrokerConfig(
            region="eu-west-1", endpoint_url=f"http://{server.address}", credentials=Credentials("key", "secret")
        )
    )

    with pytest.raises(BrokerError):
        client.list_queue_urls()


@pytest.mark.parametrize("event", ["before-call", "before-call.*", "before-call.sqs", "before-call.sqs.ListQueues"])
@pytest.mark.parametrize("place", ["register_first", "register"])
def test_what_listens_to_calls_in_general_hears_each_too(server: Canned, event, place):
    client, heard = ours(f"http://{server.address}"), []
    getattr(client.meta.events, place)(event, lambda **_: heard.append(1))

    client.list_queues()

    assert heard == [1]
    assert OF_ATTEMPTS.isdisjoint(server.asked[0]), "the client has made the request itself"


def test_the_trace_of_a_lambda_function_goes_with_its_requests(server: Canned, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "mine")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-a;Parent=2")

    ours(f"http://{server.address}").list_queues()

    assert server.asked[0]["x-amzn-trace-id"] == "Root=1-a;Parent=2"


@pytest.mark.parametrize("method", ["make_request", "prepare_request"])
def test_who_wraps_botocores_sending_sees_each_request(server: Canned, monkeypatch: pytest.MonkeyPatch, method):
    """As tracers do (aws_xray_sdk, OpenTelemetry), at any time."""
    client, seen, original = ours(f"http://{server.address}"), [], getattr(Endpoint, method)
    client.list_queues()

    def wrapped(self, *args, **kwargs):
        seen.append(method)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Endpoint, method, wrapped)
    client.list_queues()

    assert seen == [method]
    assert not OF_ATTEMPTS & set(server.asked[0])
    assert set(server.asked[1]) >= OF_ATTEMPTS


def test_a_header_may_have_any_letters(server: Canned):
    client = ours(f"http://{server.address}")
    client.meta.events.register_first(
        "request-created.sqs", lambda request, **_: request.headers.add_header("X-A", "é名")
    )

    client.list_queues()

    assert server.asked[0]["x-a"].encode("latin-1").decode() == "é名"


@pytest.mark.parametrize(
    "value",
    [{"DataType": "String", "StringValue": "x", "BinaryValue": None}, {"DataType": "String", "StringValue": "x"}],
)
def test_a_value_that_is_not_there_is_no_binary_value(server: Canned, value):
    server.answers(200, json.dumps({"Messages": [{**MESSAGE, "MessageAttributes": {"key": value}}]}).encode())

    [message] = ours(f"http://{server.address}").receive_message(QueueUrl="http://q/1/q")["Messages"]

    assert message["MessageAttributes"]["key"]["StringValue"] == "x"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Messages": [{**MESSAGE, "MessageAttributes": {"key": {"BinaryValue": "a"}}}]}).encode(),
        json.dumps({"Messages": [{**MESSAGE, "MessageAttributes": {"key": {"BinaryValue": 1}}}]}).encode(),
        b'{"Messages":["BinaryValue"], "BinaryValue":1}',
    ],
)
def test_binary_values_that_are_none_are_no_answer_of_sqss(server: Canned, body):
    server.answers(200, body)

    with pytest.raises(HTTPClientError, match="the answer is not SQS's"):
        ours(f"http://{server.address}").receive_message(QueueUrl="http://q/1/q")


def test_an_answer_of_which_nothing_came_is_not_an_empty_one():
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(HTTPClientError):
            ours(f"http://127.0.0.1:{listening.getsockname()[1]}").receive_message(QueueUrl="http://q/1/q")
        thread.join(10)
