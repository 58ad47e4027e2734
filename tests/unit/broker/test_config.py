"""``broker_url`` and ``broker_transport_options`` in all their forms, and what is wrong with the others."""

from __future__ import annotations

import pytest

from pyqs_celery.broker.config import broker_config, endpoint_of, region_of
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
        ("sqs://k:s@localhost:9324", {}, "http://localhost:9324"),
        ("sqs://k:s@localhost:9324", {"is_secure": True}, "https://localhost:9324"),
        ("sqs://k:s@sqs.example.org", {}, "https://sqs.example.org"),
        ("sqs://k:s@sqs.example.org", {"is_secure": False}, "http://sqs.example.org"),
        ("sqs://k:s@sqs.example.org:80", {}, "http://sqs.example.org:80"),
        ("https://k:s@sqs.example.org:9324", {}, "https://sqs.example.org:9324"),
        ("http://k:s@sqs.example.org", {}, "http://sqs.example.org"),
        ("sqs+https://k:s@sqs.example.org:9324", {}, "https://sqs.example.org:9324"),
        ("sqs://k:s@[::1]:9324", {}, "http://[::1]:9324"),
        (
            "sqs://k:s@vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com",
            {},
            "https://vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com",
        ),
    ],
)
def test_endpoints(url, options, endpoint):
    assert broker_config(url, options, {}).endpoint_url == endpoint


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"])
def test_endpoints_of_the_environment(name):
    assert broker_config("sqs://", {}, {name: "http://127.0.0.1:9324"}).endpoint_url == "http://127.0.0.1:9324"


def test_endpoints_of_the_environment_may_be_switched_off():
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9324", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert broker_config("sqs://", {}, environment).endpoint_url is None


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
        ("https://queue.amazonaws.com/1/q", "us-east-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
        ("https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/1/q", "eu-west-1"),
        ("https://vpce-0a-1b-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com/1/q", "eu-west-1"),
        ("arn:aws:sqs:eu-west-1:1:q", "eu-west-1"),
        ("http://localhost:9324/000000000000/q", None),
        ("https://amazonaws.com.example.org/1/q", None),
    ],
)
def test_the_region_is_in_the_url(url, region):
    assert region_of(url) == region
    assert (
        broker_config("sqs://", {"predefined_queues": {"q": {"url": url}}}, {}).predefined_queues["q"].region == region
    )


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", None),
        (
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com/1/q",
            "https://vpce-0a-1b.sqs.eu-west-1.vpce.amazonaws.com",
        ),
        ("http://localhost:9324/000000000000/q", "http://localhost:9324"),
    ],
)
def test_a_queues_url_asks_for_an_endpoint_of_its_own_only_where_aws_has_another(url, endpoint):
    assert endpoint_of(url) == endpoint


def test_a_region_in_the_endpoint_is_the_region():
    config = broker_config("sqs://k:s@vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com", {}, {})
    assert config.region == "eu-west-1"


def test_a_queue_may_be_given_by_its_arn():
    queues = {"orders": {"url": "arn:aws:sqs:eu-west-1:123456789012:shop-orders"}}
    [queue] = broker_config("sqs://", {"predefined_queues": queues}, {}).predefined_queues.values()
    assert (queue.url, queue.region) == ("https://sqs.eu-west-1.amazonaws.com/123456789012/shop-orders", "eu-west-1")


def test_a_predefined_queue_is_found_by_url_by_name_and_by_its_name_on_sqs():
    queues = {
        "orders": {"url": "https://sqs.eu-west-1.amazonaws.com/1/shop"},
        "mails": {"url": "https://sqs.us-west-2.amazonaws.com/2/shop"},
        "one": {"url": "https://sqs.us-west-2.amazonaws.com/2/only"},
    }
    config = broker_config("sqs://", {"predefined_queues": queues}, {})

    assert config.predefined("shop", "https://sqs.us-west-2.amazonaws.com/2/shop").name == "mails"
    assert config.predefined("only", None).name == "one"
    assert config.predefined("orders", None).name == "orders"
    assert config.predefined("absent", None) is None
    assert config.predefined(None, None) is None


def test_options_are_read():
    config = broker_config(
        "sqs://",
        {
            "region": "eu-central-1",
            "queue_name_prefix": "prod-",
            "visibility_timeout": 300,
            "wait_time_seconds": 5,
            "sts_role_arn": "arn:aws:iam::1:role/r",
            "sts_token_timeout": "3600",
            "sts_token_buffer_time": 120,
            "client-config": {"user_agent_extra": "x"},
            "sqs-creation-attributes": {"KmsMasterKeyId": "alias/aws/sqs"},
            "queue_tags": {"team": "a"},
            "sqs_base64_encoding": False,
        },
        {},
    )
    assert (config.region, config.queue_name_prefix, config.visibility_timeout) == ("eu-central-1", "prod-", 300)
    assert (config.wait_time_seconds, config.sts_role_arn, config.base64_body) == (5, "arn:aws:iam::1:role/r", False)
    assert (config.sts_token_timeout, config.sts_token_buffer_time) == (3600, 120)
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
        {"a": {"url": "https://sqs.us-east-1.amazonaws.com/1/a", "session_token": "t"}},
        {"a": {"url": "arn:aws:sns:us-east-1:1:a"}},
    ],
)
def test_contradictory_predefined_queues_are_refused(predefined):
    with pytest.raises(ImproperlyConfigured):
        broker_config("sqs://", {"predefined_queues": predefined}, {})


@pytest.mark.parametrize("option", ["visibility_timeout", "wait_time_seconds"])
def test_a_number_that_is_none_is_refused(option):
    with pytest.raises(ImproperlyConfigured, match=option):
        broker_config("sqs://", {option: "soon"}, {})


def test_a_client_config_that_is_no_dictionary_is_refused():
    with pytest.raises(ImproperlyConfigured, match="client-config"):
        broker_config("sqs://", {"client-config": "fast"}, {})


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9324", "localhost:9324", "sqs.example.org", "ftp://x", "http://"])
def test_an_endpoint_without_its_scheme_is_refused_where_it_is_named(endpoint):
    with pytest.raises(ImproperlyConfigured, match=r"endpoint_url in broker_transport_options .* begins with http"):
        broker_config("sqs://", {"endpoint_url": endpoint}, {})
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"):
        with pytest.raises(ImproperlyConfigured, match=rf"{name} is .* begins with http"):
            broker_config("sqs://", {}, {name: endpoint})
