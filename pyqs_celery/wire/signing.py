"""Signed messages: Celery's ``auth`` serializer, verified against certificates before anything in them is believed.

Celery up to 5.4 joins raw fields, 5.5 and later joins base64 ones; both are read. Layout and settings:
https://docs.celeryq.dev/en/stable/userguide/security.html#message-signing
"""

from __future__ import annotations

import base64
import binascii
import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyqs_celery.exceptions import BodyDecodeError, MissingExtra, UnacceptedContent

SEPARATOR = b"\x00\x01"


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signed body claims: who signed which bytes, and of which type they are."""

    signer: str
    signature: bytes
    content_type: str
    content_encoding: str
    body: bytes


def open_signed(data: bytes, certificates: Iterable[str] | None) -> Signed:
    """Verify a signed task body and give what was signed.

    ``certificates`` are PEM texts, paths or globs of PEM files. Raises UnacceptedContent without any, and
    BodyDecodeError if no certificate matches or the signature is wrong.
    """
    if not certificates:
        raise UnacceptedContent("a signed message, but no certificate to verify it with (security_cert_store)")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BodyDecodeError("the signed body is not base64") from exc
    last: Exception | None = None
    for certificate in _load(certificates):
        for signed in _readings(raw, certificate):
            try:
                _verify(certificate, signed)
            except Exception as exc:  # noqa: BLE001 - InvalidSignature and the key types' own errors
                last = exc
                continue
            return signed
    raise BodyDecodeError("no certificate at hand verifies the signature of this message") from last


def _load(certificates: Iterable[str]) -> list[Any]:
    try:
        from cryptography import x509
    except ImportError as exc:
        raise MissingExtra("verifying signed messages needs an extra: pip install 'pyqs-celery[auth]'") from exc
    found = []
    for entry in certificates:
        if "-----BEGIN" in entry:
            found.append(x509.load_pem_x509_certificate(entry.encode()))
            continue
        for path in sorted(glob.glob(os.fspath(entry))):  # noqa: PTH207 - the setting is a glob of any form, absolute too
            found.append(x509.load_pem_x509_certificate(Path(path).read_bytes()))  # noqa: PERF401 - two sources, one list
    return found


def _readings(raw: bytes, certificate: Any) -> list[Signed]:
    """The two ways to cut the fields apart: signer and signature in base64, or raw by the key's size."""
    found = []
    fields = raw.split(SEPARATOR, 4)
    if len(fields) == 5:
        try:
            signer, signature = base64.b64decode(fields[0]), base64.b64decode(fields[1])
        except (binascii.Error, ValueError):
            pass  # raw fields, as Celery up to 5.4 wrote them: read below
        else:
            found.append(_signed(signer, signature, fields[2:]))
    signer, _, rest = raw.partition(SEPARATOR)
    size = certificate.public_key().key_size // 8
    fields = rest[size + len(SEPARATOR) :].split(SEPARATOR, 2)
    if rest[size : size + len(SEPARATOR)] == SEPARATOR and len(fields) == 3:
        found.append(_signed(signer, rest[:size], fields))
    return found


def _signed(signer: bytes, signature: bytes, fields: list[bytes]) -> Signed:
    kind, encoding, body = fields
    return Signed(signer.decode("utf-8", "replace"), signature, kind.decode("ascii"), encoding.decode("ascii"), body)


def _verify(certificate: Any, signed: Signed) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    pad = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    certificate.public_key().verify(signed.signature, signed.body, pad, hashes.SHA256())
