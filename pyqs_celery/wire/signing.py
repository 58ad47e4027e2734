"""Signed messages: Celery's ``auth`` serializer. Written for Celery 5.5 and later; read as every Celery has written them.

The layout is fields joined by a separator, the whole in base64: who signs, the signature, the content type and encoding of
what is signed, and that. Up to Celery 5.4 signer and signature are raw, from 5.5 on in base64 by themselves. Nothing of
the content is looked at before its signature is verified. Only the arguments are signed, not the headers beside them.
https://docs.celeryq.dev/en/stable/userguide/security.html#message-signing
"""

from __future__ import annotations

import base64
import binascii
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyqs_celery.exceptions import BodyDecodeError, CannotVerify, ImproperlyConfigured, MissingExtra

SEPARATOR = b"\x00\x01"
EXTRA = "signed messages need an extra: pip install 'pyqs-celery[auth]'"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signed body claims: who signed which bytes, and of which type they are."""

    signer: str
    signature: bytes
    content_type: str
    content_encoding: str
    body: bytes


class Certificate:
    """An X.509 certificate of an RSA key. Raises ImproperlyConfigured for what is none."""

    def __init__(self, pem: bytes, name: str = "the certificate") -> None:
        x509, _, rsa, _ = _cryptography()
        try:
            self._found = x509.load_pem_x509_certificate(pem)
            self._key = self._found.public_key()
        except ValueError as exc:
            raise ImproperlyConfigured(f"{name} is no certificate in PEM form") from exc
        if not isinstance(self._key, rsa.RSAPublicKey):
            raise ImproperlyConfigured(f"{name} is not of an RSA key; Celery signs with no other")
        issuer = " ".join(str(each.value) for each in self._found.issuer)
        self.id = f"{issuer} {self._found.serial_number}"
        """What a signer is called in messages: the issuer's names and the serial number, as Celery writes it."""
        self.signature_bytes = self._key.key_size // 8

    def has_expired(self, now: datetime) -> bool:
        """True from its last day on."""
        if hasattr(self._found, "not_valid_after_utc"):
            return bool(now >= self._found.not_valid_after_utc)
        return bool(now >= self._found.not_valid_after.replace(tzinfo=timezone.utc))

    def has_signed(self, signed: Signed, digest: str) -> bool:
        """True if the signature is of its key, over the very bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signed.signature, signed.body, _padding(digest), hash_of(digest))
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """An RSA key that signs. Raises ImproperlyConfigured for what is none, and for a wrong password."""

    def __init__(self, pem: bytes, password: str | bytes | None = None) -> None:
        _, serialization, rsa, _ = _cryptography()
        secret = password.encode() if isinstance(password, str) else password
        try:
            self._key = serialization.load_pem_private_key(pem, password=secret)
        except (ValueError, TypeError) as exc:
            raise ImproperlyConfigured("security_key is no private key in PEM form, or its password is wrong") from exc
        if not isinstance(self._key, rsa.RSAPrivateKey):
            raise ImproperlyConfigured("security_key is not an RSA key; Celery signs with no other")

    def sign(self, data: bytes, digest: str) -> bytes:
        """The signature of some bytes."""
        signature: bytes = self._key.sign(data, _padding(digest), hash_of(digest))
        return signature


def pack_signed(
    body: bytes, content_type: str, content_encoding: str, *, key: PrivateKey, certificate: Certificate, digest: str
) -> str:
    """A signed body in the form of Celery 5.5 and later."""
    fields = (
        base64.b64encode(certificate.id.encode()),
        base64.b64encode(key.sign(body, digest)),
        content_type.encode(),
        content_encoding.encode(),
        body,
    )
    return base64.b64encode(SEPARATOR.join(fields)).decode("ascii")


def open_signed(data: bytes | str, certificates: Iterable[str] | None, digest: str = "sha256") -> Signed:
    """Verify a signed task body and give what was signed.

    ``certificates`` are PEM texts, paths, folders or globs of PEM files. Raises BodyDecodeError if the signer is not
    among them, has expired, or has not signed this; CannotVerify if there are none or they cannot be read, so that
    another worker may; MissingExtra without cryptography.
    """
    known = load_certificates(certificates)
    try:
        hash_of(digest)
    except ImproperlyConfigured as exc:
        raise CannotVerify(str(exc)) from exc
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BodyDecodeError("the signed body is not base64") from exc
    claims = [(signed, certificate) for certificate in known for signed in _readings(raw, certificate)]
    if not claims:
        raise BodyDecodeError("the message is not signed by anybody whose certificate is in security_cert_store")
    now = datetime.now(timezone.utc)
    valid = [(signed, certificate) for signed, certificate in claims if not certificate.has_expired(now)]
    if not valid:
        raise BodyDecodeError("the certificate of the signer has expired")
    for signed, certificate in valid:
        if certificate.has_signed(signed, digest):
            return signed
    raise BodyDecodeError("the signature of the message is wrong: it was changed on its way, or signed by another key")


def load_certificates(entries: Iterable[str] | None) -> tuple[Certificate, ...]:
    """The certificates of the setting ``security_cert_store``. Raises CannotVerify if there is none."""
    texts, files = [], []
    for entry in (entries,) if isinstance(entries, (str, os.PathLike)) else entries or ():
        text = os.fspath(entry)
        if "-----BEGIN" in text:
            texts.append(text)
            continue
        pattern = os.path.join(text, "*") if os.path.isdir(text) else text  # noqa: PTH112, PTH118 - a glob of any form
        files.extend(sorted(glob.glob(pattern)))  # noqa: PTH207 - absolute ones too
    try:
        found = _loaded(tuple(texts), tuple((path, Path(path).stat().st_mtime_ns) for path in files))
    except (OSError, ImproperlyConfigured) as exc:
        raise CannotVerify(f"security_cert_store cannot be read: {exc}") from exc
    if not found:
        raise CannotVerify("a signed message, but security_cert_store holds no certificate to verify it with")
    return found


@lru_cache(maxsize=8)
def _loaded(texts: Sequence[str], files: Sequence[tuple[str, int]]) -> tuple[Certificate, ...]:
    """Read anew only when a file has changed."""
    named = [Certificate(Path(path).read_bytes(), path) for path, _ in files]
    return (*(Certificate(text.encode()) for text in texts), *named)


def _readings(raw: bytes, certificate: Certificate) -> list[Signed]:
    """The fields if this certificate is named as the signer's: signer and signature in base64, or raw by the key's size."""
    found = []
    fields = raw.split(SEPARATOR, 4)
    if len(fields) == 5 and _unbase64(fields[0]) == certificate.id.encode():
        found.append(_signed(certificate.id, _unbase64(fields[1]) or b"", fields[2:]))
    signer, _, rest = raw.partition(SEPARATOR)
    size = certificate.signature_bytes
    fields = rest[size + len(SEPARATOR) :].split(SEPARATOR, 2)
    if signer == certificate.id.encode() and rest[size : size + len(SEPARATOR)] == SEPARATOR and len(fields) == 3:
        found.append(_signed(certificate.id, rest[:size], fields))
    return found


def _unbase64(field: bytes) -> bytes | None:
    try:
        return base64.b64decode(field, validate=True)
    except (binascii.Error, ValueError):
        return None


def _signed(signer: str, signature: bytes, fields: list[bytes]) -> Signed:
    kind, encoding, body = fields
    return Signed(signer, signature, kind.decode("ascii"), encoding.decode("ascii"), body)


def _padding(digest: str) -> Any:
    *_, padding = _cryptography()
    return padding.PSS(mgf=padding.MGF1(hash_of(digest)), salt_length=padding.PSS.MAX_LENGTH)


def hash_of(digest: str) -> Any:
    """The hash that ``security_digest`` names (sha256, sha512, ...). Raises ImproperlyConfigured."""
    _cryptography()
    from cryptography.hazmat.primitives import hashes

    kind = getattr(hashes, str(digest).upper(), None)
    if not isinstance(kind, type) or not issubclass(kind, hashes.HashAlgorithm):
        raise ImproperlyConfigured(f"security_digest {digest!r} is no hash; sha256 and sha512 are")
    return kind()


def _cryptography() -> tuple[Any, Any, Any, Any]:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError as exc:
        raise MissingExtra(EXTRA) from exc
    return x509, serialization, rsa, padding
