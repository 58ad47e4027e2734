"""``pyqs-celery decode``: what is in a queue full of base64, a line of JSON for each message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import IO, Any

import click

from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK
from pyqs_celery.bin.output import to_json
from pyqs_celery.exceptions import WireError
from pyqs_celery.wire import decode as decode_message


@click.command()
@click.argument("source", type=click.File("r", encoding="utf-8", errors="replace"), default="-")
@click.option(
    "--accept",
    default="json",
    show_default=True,
    help="Serializers to open, separated by commas. pickle runs code from the message.",
)
@click.option(
    "--pickle-allow", multiple=True, metavar="GLOB", help="With pickle: only these classes, as in proj.models.*"
)
def decode(source: IO[str], accept: str, pickle_allow: tuple[str, ...]) -> int:
    """Decode the SQS messages in SOURCE (standard input by default), one JSON object a line.

    A message is what boto3 or the AWS command line gives: an object with a Body; a whole ReceiveMessage answer, on
    one line or many, is taken too. Each becomes a line of JSON: the task and its arguments, or "error" and "reason".
    Nothing is sent or deleted. The exit code is 1 if any message could not be decoded.
    """
    accepted = tuple(part.strip() for part in accept.split(",") if part.strip())
    failed = False
    for message in read_messages(source):
        line, good = _line(message, accepted, pickle_allow)
        failed = failed or not good
        click.echo(line)
    return EX_FAILURE if failed else EX_OK


def _line(message: Any, accepted: tuple[str, ...], pickle_allowed: tuple[str, ...]) -> tuple[str, bool]:
    decoded = describe(message, accepted, pickle_allowed)
    try:
        return to_json(decoded), "error" not in decoded
    except RecursionError:
        reason = "the arguments are nested too deeply to be printed"
        return to_json({"message_id": decoded["message_id"], "error": "RecursionError", "reason": reason}), False


def describe(message: Any, accepted: tuple[str, ...], pickle_allowed: tuple[str, ...] = ()) -> dict[str, Any]:
    """One message decoded, or its error, as plain values. Raises nothing."""
    message_id = message.get("MessageId") if isinstance(message, dict) else None
    try:
        decoded = decode_message(message, accept_content=accepted, pickle_allowed_classes=pickle_allowed or None)
    except WireError as exc:
        return {"message_id": message_id, "error": type(exc).__name__, "reason": " ".join(str(exc).split())}
    return {"message_id": message_id, **{each.name: getattr(decoded, each.name) for each in fields(decoded)}}


def read_messages(source: Iterable[str]) -> Iterator[Any]:
    """Messages out of lines of JSON; out of one JSON text over many lines if the first line is no JSON by itself.

    A line that is no JSON at all is given as the text it is, to be reported in its place.
    """
    lines = iter(source)
    for line in lines:
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            if line.strip() in ("{", "["):
                yield from _whole(line + "".join(lines))
                return
            yield line.strip()
        except RecursionError:
            yield line.strip()
        else:
            yield from _unpacked(found)


def _whole(text: str) -> Iterator[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield text
    else:
        yield from _unpacked(found)


def _unpacked(found: Any) -> Iterator[Any]:
    if isinstance(found, dict) and isinstance(found.get("Messages"), list):
        yield from found["Messages"]
    elif isinstance(found, list):
        yield from found
    else:
        yield found
