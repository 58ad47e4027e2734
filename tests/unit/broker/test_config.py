"""``broker_url`` and ``broker_transport_options`` in all their forms, and what is wrong with the others."""

from __future__ import annotations

import pytest

from pyqs_celery.broker.config import broker_config
from pyqs_celery.exceptions import ImproperlyConfigured


def test_the_bare_form_leaves_everything_to_aws():
    config = broker_config("sqs://", {}, {})
    assert (config.credentials, config.endpoint_url, config.region) == (None, None, None)


def test_credentials_in_the_url_are_unquoted():
    config = broker_config("sqs://KE%2FY:SE%2BCRET%2F@", {}, {})
    assert (config.credentials.access_key, config.credentials.secret_key) == ("KE/Y", "SE+CRET/")


@pytest.mark.parametrize(
    ("url", "options", "endpoint"),
    [
        ("sqs://k:s@localhost:9324", {"is_secure": False}, "http://localhost:9324"),
        ("sqs://k:s@localhost:9324//", {"is_secure": False}, "http://localhost:9324"),
        ("sqs://k:s@sqs.example.org:443", {}, "https://sqs.example.org:443"),
        ("sqs://", {"endpoint_url": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
    ],
)
def test_endpoints(url, options, endpoint):
    assert broker_config(url, options, {}).endpoint_url == endpoint


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"])
def test_endpoints_of_the_environment(name):
    assert broker_config("sqs://", {}, {name: "http://127.0.0.1:9324"}).endpoint_url == "http://127.0.0.1:9324"


def test_options_are_read():
    config = broker_config(
        "sqs://",
        {
            "region": "eu-central-1",
            "queue_name_prefix": "prod-",
            "visibility_timeout": 300,
            "wait_time_seconds": 5,
            "sts_role_arn": "arn:aws:iam::1:role/r",
            "client-config": {"user_agent_extra": "x"},
            "sqs-creation-attributes": {"KmsMasterKeyId": "alias/aws/sqs"},
            "queue_tags": {"team": "a"},
            "sqs_base64_encoding": False,
        },
        {},
    )
    assert (config.region, config.queue_name_prefix, config.visibility_timeout) == ("eu-central-1", "prod-", 300)
    assert (config.wait_time_seconds, config.sts_role_arn, config.base64_body) == (5, "arn:aws:iam::1:role/r", False)
    assert config.client_config == {"user_agent_extra": "x"}
    assert config.creation_attributes == {"KmsMasterKeyId": "alias/aws/sqs"}
    assert config.queue_tags == {"team": "a"}


@pytest.mark.parametrize("url", ["redis://localhost", "amqp://guest@localhost//", "nonsense"])
def test_a_url_that_is_not_sqs_says_so_in_a_sentence(url):
    with pytest.raises(ImproperlyConfigured, match="SQS"):
        broker_config(url, {}, {})


def test_a_key_without_its_secret_is_refused():
    with pytest.raises(ImproperlyConfigured, match="secret"):
        broker_config("sqs://KEY@", {}, {})


@pytest.mark.parametrize(
    "predefined",
    [
        {"a": {}},
        {"a": {"url": ""}},
        {"a": "text"},
        {"a": {"url": "https://sqs.us-east-1.amazonaws.com/1/a", "access_key_id": "k"}},
        {"a": {"url": "https://sqs.us-east-1.amazonaws.com/1/a", "backoff_policy": {"x": "y"}}},
    ],
)
def test_contradictory_predefined_queues_are_refused(predefined):
    with pytest.raises(ImproperlyConfigured):
        broker_config("sqs://", {"predefined_queues": predefined}, {})


@pytest.mark.parametrize("option", ["visibility_timeout", "wait_time_seconds"])
def test_a_number_that_is_none_is_refused(option):
    with pytest.raises(ImproperlyConfigured, match=option):
        broker_config("sqs://", {option: "soon"}, {})
