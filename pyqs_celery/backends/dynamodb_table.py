"""The table of DynamoDB's back end: made if it is missing, with Celery's schema, and its Time to Live turned on or off.

Who made the table by other means need not allow any of this: only what is really missing is asked for.
"""

from __future__ import annotations

import logging
from typing import Any

from pyqs_celery.backends.aws import AwsBackend, Refused

logger = logging.getLogger("celery.backends.dynamodb")
NO_TABLE = "ResourceNotFoundException"
"""Also what a table answers that is being created."""
IS_THERE = "ResourceInUseException"
TTL = "ttl"
"""The attribute by which DynamoDB drops items."""
CREATION_SECONDS = 60.0


def create(backend: AwsBackend, name: str, read_units: int, write_units: int) -> None:
    """Create the table and wait until it can be used. Raises Refused, with what to allow."""
    try:
        backend.call(
            "create_table",
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            ProvisionedThroughput={"ReadCapacityUnits": read_units, "WriteCapacityUnits": write_units},
        )
    except Refused as exc:
        if exc.code != IS_THERE:  # another process was faster
            raise _cannot_create(backend, exc) from exc
    else:
        logger.info("%s did not exist and is being created", backend.place)
    until = backend.clock() + CREATION_SECONDS
    while not _is_active(backend, name):
        if backend.clock() > until:
            raise Refused(
                f"{backend.place} is still not active {CREATION_SECONDS:.0f}s after its creation", code=NO_TABLE
            )
        backend.sleep(1.0)


def _cannot_create(backend: AwsBackend, exc: Refused) -> Refused:
    if not exc.is_denial:
        return exc
    return Refused(
        f"{backend.place} does not exist, and creating it was denied: create it, with id (S) as its partition key, or allow "
        f"dynamodb:CreateTable and dynamodb:DescribeTable ({exc})",
        code=exc.code,
    )


def _is_active(backend: AwsBackend, name: str) -> bool:
    try:
        return bool(backend.call("describe_table", TableName=name)["Table"]["TableStatus"] == "ACTIVE")
    except Refused as exc:
        if exc.code == NO_TABLE:
            return False
        raise


def set_time_to_live(backend: AwsBackend, name: str, wanted: bool) -> bool:
    """Have DynamoDB drop items by their ``ttl``, or not; False if there is no such table.

    What cannot be changed is left: results are kept all the same, and a warning says why.
    """
    try:
        found = backend.call("describe_time_to_live", TableName=name)["TimeToLiveDescription"]
        status, attribute = found.get("TimeToLiveStatus"), found.get("AttributeName", TTL)
        if wanted == (status in ("ENABLED", "ENABLING")) and (attribute == TTL or not wanted):
            return True
        changed: dict[str, Any] = {"Enabled": wanted, "AttributeName": TTL if wanted else attribute}
        backend.call("update_time_to_live", TableName=name, TimeToLiveSpecification=changed)
    except Refused as exc:
        if exc.code.startswith("ResourceNotFound"):  # moto leaves the rest out
            return False
        logger.warning("Time to Live of %s is not %s: %s", backend.place, "on" if wanted else "off", exc)
    else:
        logger.info("Time to Live of %s is now %s", backend.place, "on" if wanted else "off")
    return True
