"""Signed messages: what is signed is read, and nothing else."""

from __future__ import annotations

import base64
import json
import sys
import uuid
from pathlib import Path

import pytest
from kombu import serialization

from pyqs_celery import Celery, wire
from pyqs_celery.exceptions import CannotVerify, ImproperlyConfigured, MissingExtra, WireError
from pyqs_celery.local.client import shared_client
from pyqs_celery.security import register_auth
from pyqs_celery.wire import signing
from tests.support.certificates import Identity
from tests.support.golden import CERTIFICATE, captured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def alice(folder):
    return Identity(folder / "ours", "alice")


@pytest.fixture(scope="module")
def mallory(folder):
    return Identity(folder / "theirs", "mallory")


@pytest.fixture(autouse=True)
def kombu_as_it_was():
    """``setup_security`` changes kombu's registry for the whole process."""
    registry = serialization.registry
    kept = [dict(registry._encoders), dict(registry._decoders), set(registry._disabled_content_types)]
    names = [dict(registry.name_to_type), dict(registry.type_to_name)] if hasattr(registry, "name_to_type") else []
    yield
    registry._encoders, registry._decoders, registry._disabled_content_types = kept
    if names:
        registry.name_to_type, registry.type_to_name = names


@pytest.fixture
def make_app():
    made = []

    def make(identity: Identity | None = None, **settings) -> Celery:
        app = Celery("signed", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
        app.conf.update(task_serializer="auth", accept_content=["auth"])
        if identity is not None:
            app.conf.update(
                security_key=str(identity.key),
                security_certificate=str(identity.certificate),
                security_cert_store=str(identity.certificate.parent / "*.pem"),
            )
        app.conf.update(settings)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def sent(app: Celery, *args, **options) -> dict[str, str]:
    """The message that a call becomes, as it lies on its queue."""
    app.send_task("t.add", args, queue="signed", **options)
    client = shared_client(app.conf.broker_url.removeprefix("memory://"))
    url = client.get_queue_url(QueueName="signed")["QueueUrl"]
    return client.receive_message(QueueUrl=url)["Messages"][0]


def store_of(identity: Identity) -> list[str]:
    return [str(identity.certificate.parent / "*.pem")]


def tampered(message, change):
    """The same message with the signed part changed by ``change(fields)``."""
    envelope = json.loads(base64.b64decode(message["Body"]))
    data = base64.b64decode(base64.b64decode(envelope["body"]))
    fields = change(data.split(signing.SEPARATOR, 4))
    data = base64.b64encode(signing.SEPARATOR.join(fields))
    envelope["body"] = base64.b64encode(data).decode()
    return {"Body": json.dumps(envelope)}


@pytest.mark.parametrize("inner", ["json", "yaml", "pickle"])
def test_what_is_signed_here_is_read_here(make_app, alice, inner):
    app = make_app(alice)
    app.setup_security(serializer=inner)

    message = sent(app, 1, "é\x00\x01")

    assert wire.decode(message, accept_content=["auth"], certificates=store_of(alice)).args == [1, "é\x00\x01"]


def test_a_digest_a_password_and_the_arguments_of_the_call(make_app, folder):
    bob = Identity(folder / "bob", "bob", password=b"secret")
    app = make_app()
    app.setup_security(
        key=str(bob.key), key_password="secret", cert=str(bob.certificate), store=store_of(bob)[0], digest="sha512"
    )

    message = sent(app, 1)

    assert app.conf.security_cert_store == store_of(bob)[0]
    found = wire.decode(message, accept_content=["auth"], certificates=store_of(bob), digest=app.conf.security_digest)
    assert found.args == [1]
    with pytest.raises(WireError, match="signature"):
        wire.decode(message, accept_content=["auth"], certificates=store_of(bob), digest="sha256")


def test_a_compressed_message_is_signed_within(make_app, alice):
    app = make_app(alice)
    app.setup_security()

    message = sent(app, "x" * 1000, compression="gzip")

    assert wire.decode(message, accept_content=["auth"], certificates=store_of(alice)).args == ["x" * 1000]


def test_kombu_reads_and_writes_it_too(make_app, alice):
    """Results with ``result_serializer = "auth"`` take this way."""
    make_app(alice).setup_security()

    content_type, encoding, data = serialization.dumps({"a": 1}, serializer="auth")

    assert (content_type, encoding) == ("application/data", "utf-8")
    assert serialization.loads(data, content_type, encoding, accept={content_type}) == {"a": 1}
    assert "pickle" not in serialization.dumps({"a": 1})


def test_a_foreign_signature_is_refused(make_app, alice, mallory):
    app = make_app(mallory)
    app.setup_security()
    message = sent(app, 1)

    with pytest.raises(WireError, match="not signed by anybody whose certificate"):
        wire.decode(message, accept_content=["auth"], certificates=store_of(alice))


def test_somebody_who_calls_himself_another_is_refused(make_app, alice, mallory):
    app = make_app(mallory)
    app.setup_security()
    name = base64.b64encode(signing.Certificate(alice.certificate.read_bytes()).id.encode())

    forged = tampered(sent(app, 1), lambda fields: [name, *fields[1:]])

    with pytest.raises(WireError, match="signature of the message is wrong"):
        wire.decode(forged, accept_content=["auth"], certificates=store_of(alice))


@pytest.mark.parametrize("place", range(1, 5))
def test_a_changed_message_is_refused(make_app, alice, place):
    """All that is signed, and the signature. The type beside it is not signed, but then the content does not fit it."""
    app = make_app(alice)
    app.setup_security()
    message = sent(app, 1)

    def change(fields):
        value = base64.b64encode(b"x" * 256) if place == 1 else fields[place] + b"x"
        return [*fields[:place], value, *fields[place + 1 :]]

    if place == 3:
        assert wire.decode(tampered(message, change), accept_content=["auth"], certificates=store_of(alice)).args == [1]
        return
    with pytest.raises(WireError):
        wire.decode(tampered(message, change), accept_content=["auth"], certificates=store_of(alice))


def test_an_expired_certificate_is_refused(make_app, folder):
    late = Identity(folder / "late", "late", days=-1)
    app = make_app(late)
    app.setup_security()

    with pytest.raises(WireError, match="expired"):
        wire.decode(sent(app, 1), accept_content=["auth"], certificates=store_of(late))


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
def test_nothing_unsigned_enters(make_app, alice, serializer):
    plain = make_app(task_serializer=serializer, accept_content=[serializer])
    message = sent(plain, 1)

    with pytest.raises(wire.UnacceptedContent):
        wire.decode(message, accept_content=["auth"], certificates=store_of(alice))


@pytest.mark.parametrize("protocol", [1, 2])
def test_no_unsigned_form_of_any_protocol_enters(alice, protocol):
    facts = {"task": "t.add", "id": "1"}
    body = [[1], {}, {}] if protocol == 2 else {**facts, "args": [1], "kwargs": {}}
    envelope = {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "headers": facts if protocol == 2 else {},
        "properties": {"body_encoding": "base64"},
        "content-encoding": "utf-8",
    }
    for kind in ("application/json", "application/x-json", None):
        with pytest.raises(wire.UnacceptedContent):
            wire.decode(
                {"Body": json.dumps({**envelope, "content-type": kind})},
                accept_content=["auth"],
                certificates=store_of(alice),
            )


def test_no_message_of_pyqs_enters_where_only_signed_ones_do(alice):
    body = json.dumps({"task": "t.add", "args": [1], "kwargs": {}})

    assert wire.decode({"Body": body}).args == [1]
    with pytest.raises(wire.UnacceptedContent):
        wire.decode({"Body": body}, accept_content=["auth"], certificates=store_of(alice))


@pytest.mark.parametrize("store", [None, [], ["/nowhere/*.pem"], ["not a certificate file"], [str(Path(__file__))]])
def test_a_worker_that_cannot_verify_leaves_the_message_to_others(make_app, alice, store):
    app = make_app(alice)
    app.setup_security()
    message = sent(app, 1)

    with pytest.raises(CannotVerify):
        wire.decode(message, accept_content=["auth"], certificates=store)


def test_a_new_certificate_is_seen_while_running(make_app, alice, mallory, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "mallory.pem").write_bytes(mallory.certificate.read_bytes())
    app = make_app(alice)
    app.setup_security()
    message = sent(app, 1)
    with pytest.raises(WireError, match="not signed by anybody"):
        wire.decode(message, accept_content=["auth"], certificates=[str(store)])

    (store / "alice.pem").write_bytes(alice.certificate.read_bytes())

    assert wire.decode(message, accept_content=["auth"], certificates=[str(store)]).args == [1]


@pytest.mark.parametrize("name", [name for name in captured() if "auth" in name and name.startswith("celery")])
def test_messages_that_celery_has_signed(name):
    found = captured()[name]

    if found["expected"]["outcome"] == "task":
        assert wire.decode(found["sqs_message"], accept_content=["auth"], certificates=[CERTIFICATE]).task


MISTAKES = [
    ({"task_serializer": "json"}, "task_serializer = 'auth'"),
    ({"accept_content": ["auth", "json"]}, "accept_content = \\['auth'\\]"),
    ({"security_key": None}, "not set: security_key"),
    ({"security_cert_store": None}, "not set: security_cert_store"),
    ({"security_key": "/nowhere"}, "/nowhere cannot be read"),
    ({"security_cert_store": "/nowhere"}, "holds no certificate"),
    ({"security_digest": "sha"}, "security_digest 'sha'"),
    ({"security_key": __file__}, "no private key"),
    ({"security_certificate": __file__}, "no certificate in PEM form"),
]


@pytest.mark.parametrize(("settings", "sentence"), MISTAKES)
def test_a_mistake_in_the_settings_is_told(make_app, alice, settings, sentence):
    app = make_app(alice, **settings)

    with pytest.raises(ImproperlyConfigured, match=sentence):
        app.setup_security()


def test_a_wrong_password_and_other_kinds_of_key_are_told(make_app, folder):
    locked = Identity(folder / "locked", "locked", password=b"secret")
    curved = Identity(folder / "curved", "curved", curve=True)

    for identity, sentence in ((locked, "password is wrong"), (curved, "not an RSA key")):
        with pytest.raises(ImproperlyConfigured, match=sentence):
            make_app(identity).setup_security()


def test_without_a_key_nothing_is_signed(alice):
    register_auth(store=str(alice.certificate))

    with pytest.raises(Exception, match="no key to sign with"):
        serialization.dumps({}, serializer="auth")


def test_without_cryptography_the_extra_is_named(make_app, alice, monkeypatch):
    app = make_app(alice)
    app.setup_security()
    message = sent(app, 1)
    signing._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(ImproperlyConfigured, match=r"pyqs-celery\[auth\]"):
        app.setup_security()
    with pytest.raises(MissingExtra, match=r"pyqs-celery\[auth\]"):
        wire.decode(message, accept_content=["auth"], certificates=store_of(alice))
