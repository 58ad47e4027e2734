"""A task call as a value: what a message's head says, and the whole call once its arguments are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal[1, 2, "pyqs"]


@dataclass(slots=True)
class Head:
    """What can be said of a message without touching its arguments.

    ``sealed`` is True where the task's name lies inside a body that must not be opened here (protocol 1
    in pickle, yaml, msgpack, signed or compressed): then ``task`` and the fields after it are unknown, and whoever
    may open the body decides again. ``raw_headers`` and ``properties`` are the envelope's own,
    ``payload`` the body text as it stands in the envelope. ``eta`` and ``expires`` are epoch
    seconds; their texts stay in ``raw_headers`` (protocol 2) or the body (protocol 1).
    """

    protocol: Protocol
    task: str | None
    id: str | None
    eta: float | None = None
    expires: float | None = None
    group: str | None = None
    retries: int = 0
    timelimit: tuple[float | None, float | None] = (None, None)
    sealed: bool = False
    content_type: str | None = None
    content_encoding: str | None = None
    compression: str | None = None
    body_encoding: str | None = None
    raw_headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    payload: str = ""


@dataclass(slots=True)
class TaskMessage:
    """One task call, decoded.

    ``eta`` and ``expires`` are the texts on the wire; ``eta_at`` and ``expires_at`` the instants as epoch seconds.
    ``chain`` is as on the wire: the last task first. ``timelimit`` is [hard, soft]. ``headers`` holds custom headers
    only. ``delivery_info`` and ``properties`` are the envelope's.
    """

    protocol: Protocol
    task: str
    id: str | None
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    eta: str | None = None
    expires: str | None = None
    eta_at: float | None = None
    expires_at: float | None = None
    callbacks: list[Any] | None = None
    errbacks: list[Any] | None = None
    chain: list[Any] | None = None
    chord: Any = None
    group: str | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
    timelimit: list[float | None] = field(default_factory=lambda: [None, None])
    headers: dict[str, Any] = field(default_factory=dict)
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] = field(default_factory=dict)
    shadow: str | None = None
    ignore_result: bool | None = None
    reply_to: str | None = None
    correlation_id: str | None = None
    priority: int | None = None
    delivery_mode: int | None = None
    delivery_info: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    content_type: str | None = None
    content_encoding: str | None = None
    compression: str | None = None
    body_encoding: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    lang: str | None = None
    replaced_task_nesting: int | None = None
    utc: bool | None = None
