"""Servers that are not AWS: named in each of the usual places, and with queue URLs whose host nobody can reach."""

from __future__ import annotations

import json
import os
import time
import uuid
from types import SimpleNamespace

import pytest

from pyqs_celery import Celery
from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.config import BrokerConfig, Credentials, broker_config
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.broker.publisher import Publisher
from pyqs_celery.broker.queues import QueueDirectory
from pyqs_celery.exceptions import BrokerUnavailable
from tests.support.worker import Worker

NOBODY = "http://127.0.0.1:9"
"""The port for discarding, where nothing listens."""


@pytest.fixture(params=["embedded", pytest.param("moto", marks=pytest.mark.moto)])
def endpoint(request, sqs_server):
    if request.param == "embedded":
        return sqs_server.endpoint
    endpoint = request.getfixturevalue("moto_endpoint")
    # moto loads its SQS at the first request, which takes seconds on a busy machine
    client = SqsClient(BrokerConfig(region="us-east-1", endpoint_url=endpoint, credentials=Credentials("test", "test")))
    client.list_queue_urls()
    return endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def name():
    return f"q-{uuid.uuid4().hex[:8]}"


def configured(url="sqs://", **options):
    return broker_config(url, {"region": "us-east-1", **options}, os.environ)


def exchange(config, name, budget_seconds=10):
    """Send a message to the queue, find the queue as a worker does, and receive, extend and delete the message."""
    publisher = Publisher(config, budget_seconds=budget_seconds)
    client = SqsClient(config)
    publisher.send(Outgoing(name, "hello"))
    [queue] = QueueDirectory(client, config).find([name]).queues
    [delivery] = client.receive(queue, count=10, wait_seconds=1, visibility_seconds=30, clock=time.time)
    assert client.change_visibility_batch(queue, [("0", delivery.receipt_handle, 60)]).ok == {"0"}
    assert client.delete_batch(queue, [("0", delivery.receipt_handle)]).ok == {"0"}
    publisher.close()
    client.reset()
    return delivery.body


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"])
def test_in_the_environment(endpoint, name, monkeypatch, variable):
    monkeypatch.setenv(variable, endpoint)
    assert exchange(configured(), name) == "hello"


def test_in_a_profile(endpoint, name, tmp_path):
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {endpoint}\n")
    assert exchange(configured(), name) == "hello"


def test_in_a_profiles_services(endpoint, name, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(
        f"[profile dev]\nservices = local\n[services local]\nsqs =\n  endpoint_url = {endpoint}\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "dev")
    assert exchange(configured(), name) == "hello"


def test_in_the_transport_options_before_the_environment(endpoint, name, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", NOBODY)
    assert exchange(configured(endpoint_url=endpoint), name) == "hello"


@pytest.mark.parametrize("scheme", ["sqs", "http"])
def test_in_the_broker_url(endpoint, name, scheme):
    assert exchange(configured(f"{scheme}://test:test@{endpoint.removeprefix('http://')}"), name) == "hello"


@pytest.mark.parametrize(
    "url",
    [f"{NOBODY}/000000000000/", "http://elasticmq.internal:9324/queue/", "https://sqs.us-east-1.amazonaws.com/1/"],
)
def test_a_queues_url_with_a_host_that_nobody_can_reach(endpoint, name, url, request):
    if "moto" in request.node.callspec.id and "/queue/" in url:
        pytest.skip("moto takes the account from the URL")
    SqsClient(configured(endpoint_url=endpoint)).create_queue(name, {})
    config = configured(endpoint_url=endpoint, predefined_queues={name: {"url": f"{url}{name}"}})

    assert exchange(config, name) == "hello"


def test_a_queues_url_is_enough_where_nothing_else_is_said(endpoint, name):
    url = SqsClient(configured(endpoint_url=endpoint)).create_queue(name, {})

    assert exchange(configured(predefined_queues={name: {"url": url}}), name) == "hello"


def test_a_profile_is_believed_before_a_queues_url(endpoint, name, tmp_path):
    SqsClient(configured(endpoint_url=endpoint)).create_queue(name, {})
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {endpoint}\n")

    config = configured(predefined_queues={name: {"url": f"{NOBODY}/000000000000/{name}"}})

    assert exchange(config, name) == "hello"


def test_the_same_without_it_fails(name):
    """So the tests above do not pass by chance."""
    config = configured(predefined_queues={name: {"url": f"{NOBODY}/000000000000/{name}"}})
    with pytest.raises(BrokerUnavailable):
        exchange(config, name, budget_seconds=1)


@pytest.mark.processes
def test_a_worker_serves_a_queue_whose_url_names_another_host(endpoint, name, tmp_path):
    SqsClient(configured(endpoint_url=endpoint)).create_queue(name, {})
    queues = {name: {"url": f"http://localhost:9/000000000000/{name}"}}
    options = {"wait_time_seconds": 1, "region": "us-east-1", "predefined_queues": queues}
    server = SimpleNamespace(
        environment={"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    )
    worker = Worker(
        server, tmp_path / "work", "-Q", name, "-c", "1", PROJ_CONF=json.dumps({"broker_transport_options": options})
    )
    app = Celery("sender", broker="sqs://test:test@", set_as_current=False)
    app.conf.broker_transport_options = {**options, "endpoint_url": endpoint}
    try:
        worker.wait_ready()
        app.send_task("proj.note", (1,), queue=name)
        worker.diary.wait("run", 1)
        assert worker.stop() == 0
        attributes = SqsClient(configured(endpoint_url=endpoint)).queue_attributes(queues[name]["url"], name)
        assert attributes["ApproximateNumberOfMessages"] == attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
    finally:
        app.close()
        worker.kill_all()
