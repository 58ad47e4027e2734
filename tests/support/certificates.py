"""Keys and certificates made for a test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


class Identity:
    """Somebody who signs: files with a private key and its certificate, ``<name>.key`` and ``<name>.pem``.

    ``address`` is the IP address of a server that shows it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        days: int = 30,
        password: bytes | None = None,
        curve: bool = False,
        address: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        private = ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(private.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        self.key, self.certificate = folder / f"{name}.key", folder / "certificates" / f"{name}.pem"
        self.certificate.parent.mkdir(exist_ok=True)
        protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        forms = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        self.key.write_bytes(private.private_bytes(*forms, protection))
        made = builder.sign(private, hashes.SHA256())
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
