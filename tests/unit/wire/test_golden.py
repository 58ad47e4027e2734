"""Every message that real Celery 3.1 to 5.7 and PyQS were seen to write is decoded to what its own producer meant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from pyqs_celery import wire
from pyqs_celery.exceptions import WireError
from tests.support.golden import CERTIFICATE, captured, names

import golden_support  # isort: skip - a module of the golden set, found by tests.support.golden

ACCEPT = ("json", "pickle", "yaml", "msgpack", "auth")
PLAIN_FIELDS = (
    "protocol task id args kwargs retries eta expires callbacks errbacks chain chord group group_index root_id parent_id "
    "timelimit headers stamped_headers stamps shadow ignore_result reply_to correlation_id priority delivery_mode "
    "delivery_info content_type content_encoding compression body_encoding argsrepr kwargsrepr origin lang "
    "replaced_task_nesting utc"
).split()


def decode(message: dict[str, Any]) -> wire.TaskMessage:
    return wire.decode(message, accept_content=ACCEPT, certificates=[CERTIFICATE])


def chain_names(message: wire.TaskMessage) -> list[str]:
    return [step["task"] for step in reversed(message.chain or [])]


@pytest.mark.parametrize("name", names("task", "unknown-task"))
def test_a_captured_message_decodes_to_what_its_producer_meant(name: str) -> None:
    found = captured()[name]
    expected = found["expected"]

    message = decode(found["sqs_message"])

    differences = {
        field: (getattr(message, field), golden_support.untag(expected[field]))
        for field in PLAIN_FIELDS
        if field in expected and not golden_support.same(getattr(message, field), golden_support.untag(expected[field]))
    }
    assert not differences
    if expected.get("chain_order") and message.protocol == 2:
        assert chain_names(message) == expected["chain_order"]


@pytest.mark.parametrize("name", [name for name in names("task") if "localzone" not in name])
def test_its_instants_are_the_ones_meant(name: str) -> None:
    """Naive times of a producer whose zone is not on the wire cannot be known, and are left out (``localzone``)."""
    found = captured()[name]
    expected = found["expected"]

    message = decode(found["sqs_message"])

    for field, instant in (("eta_utc", message.eta_at), ("expires_utc", message.expires_at)):
        if expected.get(field):
            assert instant == pytest.approx(datetime.fromisoformat(expected[field].replace("Z", "+00:00")).timestamp())


@pytest.mark.parametrize("name", names("reject", "not-celery"))
def test_what_is_broken_or_foreign_is_refused_with_our_error(name: str) -> None:
    found = captured()[name]

    with pytest.raises(WireError):
        decode(found["sqs_message"])


@pytest.mark.parametrize("name", names("either"))
def test_what_is_doubtful_never_raises_anything_else(name: str) -> None:
    try:
        message = decode(captured()[name]["sqs_message"])
    except WireError:
        return
    assert isinstance(message.args, list)


def test_the_set_is_whole() -> None:
    assert len(captured()) == 1025
    versions = {(found.get("producer") or {}).get("celery") for found in captured().values()}
    assert {"3.1.26", "4.4.7", "5.0.5", "5.1.2", "5.2.7", "5.3.6", "5.4.0", "5.5.3", "5.6.3", "5.7.0"} <= versions
