"""``celery.security``: messages that are signed when sent and verified before they are read.

https://docs.celeryq.dev/en/stable/userguide/security.html#message-signing
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kombu import serialization

from pyqs_celery import _state
from pyqs_celery.exceptions import ImproperlyConfigured, MissingExtra, SecurityError, WireError
from pyqs_celery.wire import serializers, signing
from pyqs_celery.wire.dumping import dumps

__all__ = ("disable_untrusted_serializers", "register_auth", "setup_security")

_WANTED = ("security_key", "security_certificate", "security_cert_store")


def setup_security(
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
    app: Any = None,
) -> None:
    """Sign what is sent with the serializer ``auth``, and verify what is received with it.

    ``key`` and ``cert`` are paths of PEM files, ``store`` a folder or glob of certificates, ``serializer`` what is used inside
    the signature; None takes the settings ``security_...``. kombu's other serializers but ``allowed_serializers``
    (default: json) are disabled in this process. Raises ImproperlyConfigured if a setting is missing, if ``task_serializer``
    is not ``auth`` or ``accept_content`` not ``["auth"]``, for files that are no keys, and without the extra ``auth``.
    """
    app = app or _state.get_current_app()
    conf = app.conf
    if conf.task_serializer != "auth" or list(conf.accept_content or ()) != ["auth"]:
        raise ImproperlyConfigured(
            "signed messages need task_serializer = 'auth' and accept_content = ['auth']: signing keeps nobody out where "
            "unsigned messages are read too"
        )
    given = (key or conf.security_key, cert or conf.security_certificate, store or conf.security_cert_store)
    missing = [name for name, value in zip(_WANTED, given, strict=True) if not value]
    if missing:
        raise ImproperlyConfigured(f"signed messages need {', '.join(_WANTED)}; not set: {', '.join(missing)}")
    key_path, cert_path, certificates = given
    password = key_password or conf.security_key_password
    digest = digest or conf.security_digest
    disable_untrusted_serializers(allowed_serializers)
    register_auth(_text(key_path), password, _text(cert_path), certificates, digest, serializer)
    conf.update(security_cert_store=certificates, security_digest=digest)


def register_auth(
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: Any = None,
    digest: str = "sha256",
    serializer: str = "json",
) -> None:
    """Register the serializer ``auth`` with kombu. ``key`` and ``cert`` are PEM texts; without them nothing can be signed."""
    try:
        signing.hash_of(digest)
        sign = _signer(key, key_password, cert, digest, serializer)
        if store:
            signing.load_certificates(store)
    except WireError as exc:
        raise ImproperlyConfigured(str(exc) if not isinstance(exc, MissingExtra) else signing.EXTRA) from exc

    def verify(data: Any) -> Any:
        try:
            signed = signing.open_signed(data, store, digest)
        except WireError as exc:
            raise SecurityError(f"Unable to deserialize: {exc}") from exc
        return serializers.loads(signed.body, signed.content_type, signed.content_encoding)

    serialization.register("auth", sign, verify, content_type=serializers.SIGNED_TYPE, content_encoding="utf-8")


def _signer(
    key: str | None, password: str | bytes | None, cert: str | None, digest: str, serializer: str
) -> Callable[[Any], str]:
    private = signing.PrivateKey(key.encode(), password) if key else None
    certificate = signing.Certificate(cert.encode(), "security_certificate") if cert else None

    def sign(value: Any) -> str:
        if private is None or certificate is None:
            raise SecurityError("Unable to serialize: there is no key to sign with")
        content_type, encoding, body = dumps(value, serializer)
        return signing.pack_signed(body, content_type, encoding, key=private, certificate=certificate, digest=digest)

    return sign


def disable_untrusted_serializers(whitelist: Iterable[str] | None = None) -> None:
    """Make kombu in this process read nothing but ``whitelist`` (default: json) unless it is told to."""
    serialization.disable_insecure_serializers(allowed=["json"] if whitelist is None else list(whitelist))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as exc:
        raise ImproperlyConfigured(f"{path} cannot be read: {exc.strerror}") from exc
