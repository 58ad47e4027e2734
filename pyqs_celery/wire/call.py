"""A task call as a value that is about to be written; ``message.py`` has those that were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class TaskCall:
    """A task call about to be written: everything a message says, with times already as ISO text.

    ``timelimit`` is (hard, soft) seconds. ``headers`` are custom headers, ``properties`` extra message properties
    (``MessageGroupId`` and other keywords of the call). ``expiration_ms`` is the property AMQP brokers read.
    """

    task: str
    id: str
    args: Any = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    eta: str | None = None
    expires: str | None = None
    expiration_ms: int | None = None
    retries: int = 0
    group: str | None = None
    group_index: int | None = None
    callbacks: list[Any] | None = None
    errbacks: list[Any] | None = None
    chain: list[Any] | None = None
    chord: Any = None
    timelimit: tuple[float | None, float | None] = (None, None)
    root_id: str | None = None
    parent_id: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: Mapping[str, Any] = field(default_factory=dict)
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str = ""
    reply_to: str = ""
    utc: bool = True
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    delivery_mode: int = 2
    exchange: str = ""
    routing_key: str = ""
