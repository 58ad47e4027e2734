"""Credentials that renew themselves, by botocore's public provider interface; imported by ``client.py`` only."""

from __future__ import annotations

from typing import Any

from pyqs_celery.broker.config import BrokerConfig, Credentials


def session_for(config: BrokerConfig, credentials: Credentials | None, role: str | None, region: str | None) -> Any:
    """A boto3 session: given keys, an assumed role that renews itself, or AWS's own chain."""
    import boto3

    keys: dict[str, Any] = {}
    if credentials is not None:
        keys = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.token,
        }
    base = boto3.session.Session(region_name=region, **keys)
    if role is None:
        return base
    return boto3.session.Session(botocore_session=_assuming(base, role, config.sts_token_timeout), region_name=region)


def _assuming(base: Any, role: str, seconds: int) -> Any:
    """A botocore session whose only credential provider assumes ``role`` and does so again before it expires."""
    import botocore.session
    from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials

    def fetch() -> dict[str, str]:
        answer = base.client("sts").assume_role(
            RoleArn=role, RoleSessionName="pyqs-celery", DurationSeconds=max(900, seconds)
        )["Credentials"]
        return {
            "access_key": answer["AccessKeyId"],
            "secret_key": answer["SecretAccessKey"],
            "token": answer["SessionToken"],
            "expiry_time": answer["Expiration"].isoformat(),
        }

    class AssumedRole(CredentialProvider):  # type: ignore[misc]
        METHOD = CANONICAL_NAME = "pyqs-celery-assume-role"

        def load(self) -> Any:
            return RefreshableCredentials.create_from_metadata(
                metadata=fetch(), refresh_using=fetch, method="sts-assume-role"
            )

    session = botocore.session.get_session()
    session.register_component("credential_provider", CredentialResolver([AssumedRole()]))
    return session
