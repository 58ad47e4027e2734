"""Runs in a peer's environment: sends tasks, and prints what that took as one line of JSON.

``python -m benchmarks.producer MODULE MODE NUMBER [--task NAME] [--args JSON] [--warm] ...``
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import os
import time
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

STARTED = "BENCHMARK_STARTED"


@dataclass
class Account:
    """What the sending took: milliseconds of each call, and the errors."""

    calls: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    sent: int = 0

    def at(self, share: float) -> float | None:
        """The call that so large a share of all did not exceed."""
        ordered = sorted(self.calls)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


class Producer:
    """One peer's ``send`` and ``send_many``, asynchronous or not."""

    def __init__(self, module: ModuleType, task: str, args: list[Any]) -> None:
        self.module = module
        self.task = task
        self.args = args

    async def send(self, queue: str, *args: Any) -> None:
        """One task."""
        found = self.module.send(self.task, *args, queue=queue)
        if inspect.isawaitable(found):
            await found

    async def one_by_one(self, number: int, queues: list[str], until: float) -> Account:
        """So many tasks, or as many as there is time for."""
        account = Account()
        for place in range(number):
            if time.perf_counter() > until:
                break
            started = time.perf_counter()
            try:
                await self.send(queues[place % len(queues)], *self.args)
                account.sent += 1
            except Exception as exc:  # noqa: BLE001 - whatever a peer raises goes into the table
                account.errors.append(repr(exc)[:200])
            account.calls.append((time.perf_counter() - started) * 1000)
        return account

    async def stamped(self, number: int, queues: list[str], interval_seconds: float) -> Account:
        """So many tasks, each told the instant at which it was sent, with a pause between them."""
        account = Account()
        for place in range(number):
            await self.send(queues[place % len(queues)], time.time())
            account.sent += 1
            await asyncio.sleep(interval_seconds)
        return account

    def at_once(self, number: int) -> Account:
        """All in one call of the peer's bulk API."""
        self.module.send_many(self.task, [tuple(self.args)] * number)
        return Account(sent=number)


async def _run(wanted: argparse.Namespace) -> dict[str, Any]:
    module = importlib.import_module(wanted.module)
    queues: list[str] = wanted.queues.split(",")
    producer = Producer(module, wanted.task, json.loads(wanted.args))
    if hasattr(module, "startup"):
        await module.startup()
    first = None
    if wanted.warm:
        await producer.send(queues[0], *producer.args)
        first = time.time() - float(os.environ[STARTED])
    processor, wall = time.process_time(), time.perf_counter()
    if wanted.mode == "many":
        account = producer.at_once(wanted.number)
    elif wanted.mode == "stamped":
        account = await producer.stamped(wanted.number, queues, wanted.interval)
    else:
        account = await producer.one_by_one(wanted.number, queues, wall + wanted.limit)
    answer = {
        "sent": account.sent,
        "cpu_seconds": time.process_time() - processor,
        "seconds": time.perf_counter() - wall,
        "p50_ms": account.at(0.5),
        "p99_ms": account.at(0.99),
        "first_ms": first and first * 1000,
        "errors": account.errors[:3],
    }
    if hasattr(module, "shutdown"):
        await module.shutdown()
    return answer


def main() -> None:
    """Parse the arguments, send, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.producer", description=__doc__)
    parser.add_argument("module")
    parser.add_argument("mode", choices=["each", "many", "stamped"])
    parser.add_argument("number", type=int)
    parser.add_argument("--task", default="noop")
    parser.add_argument("--args", default="[]")
    parser.add_argument("--queues", default="bench")
    parser.add_argument("--warm", action="store_true", help="send one before the clock starts")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between two")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which no more are sent")
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
