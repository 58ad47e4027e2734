"""What URLs and settings of Redis become."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis

from pyqs_celery import Celery
from pyqs_celery.exceptions import ImproperlyConfigured

TLS_SETTING = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca.pem"}


def parameters(url: str, **settings: Any) -> dict[str, Any]:
    return Celery("proj", backend=url, set_as_current=False, **settings).backend.connparams


class Provider(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "user", "password"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis", {"host": "localhost", "port": 6379, "db": 0, "password": None}),
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://redis.example:7000/3", {"host": "redis.example", "port": 7000, "db": 3}),
        ("redis://user:p%40ss%2F@h/", {"username": "user", "password": "p@ss/", "host": "h", "db": 0}),
        ("redis://:secret@h", {"password": "secret"}),
        ("redis://h/?db=4&socket_timeout=1.5", {"db": 4, "socket_timeout": 1.5}),
        ("redis://h/1?virtual_host=7", {"db": 1}),
        (
            "redis://h?health_check_interval=25&retry_on_timeout=true",
            {"health_check_interval": 25, "retry_on_timeout": True},
        ),
        ("redis+socket:///run/redis.sock?virtual_host=/2", {"path": "/run/redis.sock", "db": 2}),
        ("redis+socket://:pw@/run/redis.sock", {"path": "/run/redis.sock", "password": "pw"}),
    ],
)
def test_urls(url, expected):
    found = parameters(url)

    assert {name: found[name] for name in expected} == expected


def test_a_socket_has_neither_host_nor_port():
    found = parameters("redis+socket:///run/redis.sock", redis_socket_keepalive=True)

    assert not {"host", "port", "socket_connect_timeout", "socket_keepalive"} & set(found)
    assert found["connection_class"] is redis.UnixDomainSocketConnection


def test_settings():
    found = parameters(
        "redis",
        redis_host="h",
        redis_port=1,
        redis_db=2,
        redis_username="u",
        redis_password="p",
        redis_max_connections=5,
        redis_socket_timeout=30,
        redis_socket_connect_timeout="4",
        redis_retry_on_timeout=True,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=9,
        redis_client_name="shop",
    )

    assert found == {
        "host": "h",
        "port": 1,
        "db": 2,
        "username": "u",
        "password": "p",
        "max_connections": 5,
        "socket_timeout": 30.0,
        "socket_connect_timeout": 4.0,
        "retry_on_timeout": True,
        "socket_keepalive": True,
        "health_check_interval": 9,
        "client_name": "shop",
    }


def test_a_url_stands_before_the_settings_also_in_what_it_does_not_say_of_the_database():
    found = parameters("redis://other:1234", redis_host="h", redis_port=1, redis_db=2, redis_password="p")

    assert (found["host"], found["port"], found["db"], found["password"]) == ("other", 1234, 0, "p")


def test_a_database_is_a_number():
    with pytest.raises(ImproperlyConfigured, match="is a number, not 'results'"):
        parameters("redis://:secret@h/results")


@pytest.mark.parametrize(
    ("word", "constant"),
    [("required", ssl.CERT_REQUIRED), ("CERT_OPTIONAL", ssl.CERT_OPTIONAL), ("none", ssl.CERT_NONE)],
)
def test_tls_by_url(word, constant):
    found = parameters(f"rediss://h/0?ssl_cert_reqs={word}&ssl_ca_certs=%2Fetc%2Fca.pem&ssl_check_hostname=false")

    assert found["connection_class"] is redis.SSLConnection
    assert (found["ssl_cert_reqs"], found["ssl_ca_certs"], found["ssl_check_hostname"]) == (
        constant,
        "/etc/ca.pem",
        False,
    )


@pytest.mark.parametrize("url", ["redis", "redis://h/0", "rediss://h/0"])
def test_tls_by_setting(url):
    found = parameters(url, redis_backend_use_ssl=TLS_SETTING)

    assert issubclass(found["connection_class"], redis.SSLConnection)
    assert (found["ssl_cert_reqs"], found["ssl_ca_certs"]) == (ssl.CERT_REQUIRED, "/ca.pem")


@pytest.mark.parametrize("url", ["rediss://h/0", "rediss://h/0?ssl_cert_reqs=maybe"])
def test_tls_must_say_how_certificates_are_checked(url):
    with pytest.raises(ImproperlyConfigured, match="ssl_cert_reqs"):
        parameters(url)


def test_tls_options_without_tls_are_refused():
    with pytest.raises(ImproperlyConfigured, match="rediss://"):
        parameters("redis://h/0?ssl_cert_reqs=required")


def test_a_weak_check_of_certificates_is_told(caplog):
    parameters("rediss://h/0?ssl_cert_reqs=none")

    assert "can read and write results" in caplog.text


@pytest.mark.parametrize("given", [Provider(), f"{__name__}.Provider"])
def test_a_credential_provider_stands_for_user_and_password(given, monkeypatch):
    name = "redis.UsernamePasswordCredentialProvider" if isinstance(given, str) else given

    found = parameters("redis", redis_backend_credential_provider=name, redis_password="p", redis_username="u")

    assert isinstance(found["credential_provider"], redis.CredentialProvider)
    assert not {"username", "password"} & set(found)


def test_a_credential_provider_by_url():
    found = parameters("redis://u:p@h/0?credential_provider=redis.UsernamePasswordCredentialProvider")

    assert isinstance(found["credential_provider"], redis.UsernamePasswordCredentialProvider)
    assert not {"username", "password"} & set(found)
    with pytest.raises(ImproperlyConfigured, match=r"is not a redis\.CredentialProvider"):
        parameters("redis://h/0?credential_provider=builtins.dict")


def test_further_errors_after_which_a_call_is_tried_again(caplog):
    options = {
        "additional_connection_errors": ["builtins.ZeroDivisionError", "no.such.Error", "builtins.len", KeyError]
    }

    backend = Celery(
        "proj", backend="redis://h", set_as_current=False, result_backend_transport_options=options
    ).backend

    passing = backend.exception_safe_to_retry
    assert [passing(exc) for exc in (ZeroDivisionError(), KeyError(), ValueError())] == [True, True, False]
    assert "no.such.Error" in caplog.text
    assert "is no exception class" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis.exceptions.ConnectionError(), True),
        (redis.exceptions.TimeoutError(), True),
        (redis.exceptions.BusyLoadingError(), True),
        (redis.exceptions.ReadOnlyError(), True),
        (redis.exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), True),
        (redis.exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ConnectionResetError(), True),
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (redis.exceptions.NoPermissionError(), False),
        (redis.exceptions.DataError(), False),
        (ValueError(), False),
    ],
)
def test_errors_after_which_a_call_is_tried_again(error, expected):
    backend = Celery("proj", backend="redis://h", set_as_current=False).backend

    assert backend.exception_safe_to_retry(error) is expected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sentinel://h:1/0;sentinel://:pw@h2:2/0", "sentinel://h:1/0;sentinel://:**@h2:2/0"),
        ("sentinel://user:pw@h:1", "sentinel://user:**@h:1"),
    ],
)
def test_sentinels_are_shown_without_passwords(url, shown):
    backend = Celery("proj", backend=url, set_as_current=False).backend

    assert backend.as_uri() == shown
    assert backend.as_uri(include_password=True) == url


def test_sentinels_are_the_hosts_and_the_first_has_the_masters_database_and_password():
    found = parameters("sentinel://:pw@h:1/3;sentinel://h2:2/0", redis_socket_timeout=5)

    assert [(host["host"], host["port"]) for host in found["hosts"]] == [("h", 1), ("h2", 2)]
    assert (found["db"], found["password"], found["socket_timeout"]) == (3, "pw", 5.0)
    assert not {"host", "port", "username"} & set(found)


def test_the_class_of_sentinels_is_found_where_celery_has_it():
    from pyqs_celery.backends import redis as module
    from pyqs_celery.backends.sentinel import SentinelBackend

    assert module.SentinelBackend is SentinelBackend
    with pytest.raises(AttributeError, match="NoSuchBackend"):
        _ = module.NoSuchBackend
