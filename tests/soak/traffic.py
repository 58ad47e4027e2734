"""``python -m tests.soak.traffic``: sends a mix of tasks at a steady rate until it is told to end. A line for each id.

Everything it draws at random comes from ``--seed``. While the file ``--pause`` exists it waits; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from soak_both import app

from pyqs_celery import chain, chord
from pyqs_celery.broker.delivery import Outgoing
from pyqs_celery.exceptions import CeleryWarning
from tests.soak.plan import FIFO_QUEUES, GROUPS, SHARES, WORK_QUEUES
from tests.soak.records import Diary

TICK_SECONDS = 0.2
BATCH_MOST = 200


@dataclass
class Sender:
    """Makes one call of each kind. ``horizon`` is the longest countdown in seconds, ``numbers`` counts FIFO groups' messages."""

    diary: Diary
    rng: random.Random
    horizon: float
    gathered: list[str] = field(default_factory=list)
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    in_this_batch: set[tuple[str, str]] = field(default_factory=set)

    def note(self, kind: str, queue: str, **facts: Any) -> str:
        task = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        self.diary.sending(task, kind, queue, **facts)
        self.gathered.append(task)
        return task

    def call(self, kind: str, queue: str, *args: Any, **options: Any) -> None:
        facts = {name: options.pop(name) for name in ("due", "expires_at") if name in options}
        task = self.note(kind, queue, due=facts.get("due", 0.0), expires=facts.get("expires_at", 0.0))
        app.tasks[f"soak.{kind}"].apply_async(args, task_id=task, queue=queue, **options)

    def work(self) -> str:
        return self.rng.choice(WORK_QUEUES)

    # -- kinds -------------------------------------------------------------------------------------

    def nothing(self) -> None:
        self.call("nothing", self.work())

    def nap(self) -> None:
        self.call("nap", self.work(), round(self.rng.uniform(0.01, 0.1), 3))

    def doze(self) -> None:
        self.call("nap", self.work(), round(self.rng.uniform(0.5, 2.0), 3))

    def late(self) -> None:
        seconds = self.rng.uniform(1, self.horizon)
        self.call("late", self.work(), countdown=seconds, due=time.time() + seconds)

    def late_celery(self) -> None:
        """As Celery sends it: with an ETA and no DelaySeconds, so that it arrives early."""
        seconds = self.rng.uniform(1, self.horizon)
        eta = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        self.call("late", self.work(), eta=eta, DelaySeconds=0, due=eta.timestamp())

    def brief(self) -> None:
        seconds = self.rng.uniform(0.2, 5)
        self.call("brief", self.work(), expires=seconds, expires_at=time.time() + seconds)

    def expired(self) -> None:
        past = datetime.now(timezone.utc) - timedelta(seconds=5)
        self.call("brief", self.work(), expires=past, expires_at=past.timestamp())

    def flaky(self) -> None:
        self.call("flaky", self.work(), self.rng.randint(1, 2))

    def returning(self) -> None:
        self.call("returning", self.work(), self.rng.randint(1, 2))

    def hopeless(self) -> None:
        self.call("hopeless", self.rng.choice(("soak-fail", "soak-own")))

    def refusing(self) -> None:
        self.call("refusing", self.rng.choice(("soak-fail", "soak-own")))

    def killer(self) -> None:
        self.call("killer", "soak-kill")

    def garbage(self) -> None:
        """A body that nobody can read."""
        task = self.note("garbage", "soak-fail")
        app.publisher().send(Outgoing("soak-fail", f"garbage {task} {{"))

    def spawning(self) -> None:
        self.call("spawning", self.work(), [self.work() for _ in range(self.rng.randint(1, 3))])

    def fresh(self) -> None:
        self.call("fresh", "soak-deploy")

    def retired(self) -> None:
        self.call("retired", "soak-deploy")

    def chord(self) -> None:
        queue, count = self.work(), self.rng.randint(2, 8)
        values = [self.rng.randrange(1000) for _ in range(count)]
        header, ids = [], []
        for value in values:
            task = self.note("member", queue)
            ids.append(task)
            times = int(self.rng.random() < 0.1)
            header.append(app.tasks["soak.member"].s(value, times).set(task_id=task, queue=queue))
        body = (
            app.tasks["soak.total"]
            .s(sorted(values))
            .set(task_id=self.note("total", queue, parent=" ".join(ids)), queue=queue)
        )
        chord(header)(body)

    def chain(self) -> None:
        queue = self.work()
        signatures = [app.tasks["soak.step"].s(0), app.tasks["soak.step"].s(), app.tasks["soak.last_step"].s(2)]
        before = ""
        for kind, each in zip(("step", "step", "last_step"), signatures, strict=True):
            before = self.note(kind, queue, parent=before)
            each.set(task_id=before, queue=queue)
        chain(signatures).apply_async()

    def ordered(self) -> None:
        """The next of a FIFO group; no two of a group in a batch, whose entries may fail one by one."""
        queue = self.rng.choice(FIFO_QUEUES)
        group = f"group-{self.rng.randrange(GROUPS)}"
        if (queue, group) in self.in_this_batch:
            return
        self.in_this_batch.add((queue, group))
        number = self.numbers[queue, group] = self.numbers.get((queue, group), 0) + 1
        draw = self.rng.random()
        endless = queue == FIFO_QUEUES[1] and draw < 0.015
        kind = "refusing" if draw < 0.01 else "hopeless" if endless else "stumbling"
        task = self.note(kind, queue, group=group, number=number)
        args = (draw > 0.98,) if kind == "stumbling" else ()
        app.tasks[f"soak.{kind}"].apply_async(args, task_id=task, queue=queue, MessageGroupId=group)


class Traffic:
    """Keeps to ``rate`` tasks a second on the average; what could not be sent in time is sent afterwards."""

    def __init__(self, rate: float, sender: Sender, pause: Path) -> None:
        self.rate = rate
        self.sender = sender
        self.pause = pause
        self.ended = threading.Event()
        self.kinds = list(SHARES)
        self.weights = list(SHARES.values())

    def run(self) -> None:
        owed, before = 0.0, time.monotonic()
        while not self.ended.wait(TICK_SECONDS):
            now = time.monotonic()
            owed, before = owed + self.rate * (now - before), now
            if self.pause.exists():
                owed = 0.0
            while owed >= 1 and not self.ended.is_set():
                owed -= self.send(min(owed, BATCH_MOST))

    def send(self, most: float) -> int:
        """One batch; how many tasks it was."""
        sender = self.sender
        sender.gathered.clear()
        sender.in_this_batch.clear()
        try:
            with app.publisher().batch():
                while len(sender.gathered) < most:
                    kind = sender.rng.choices(self.kinds, self.weights)[0]
                    getattr(sender, kind)()
        except OperationalError as exc:
            # what was asked for may be there or not: the accounting takes these ids as in doubt
            print(
                f"{len(sender.gathered)} sends are in doubt: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True
            )
        else:
            sender.diary.sent(*sender.gathered)
        return max(1, len(sender.gathered))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--horizon", type=float, required=True)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--pause", type=Path, required=True)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore", CeleryWarning)
    sender = Sender(Diary(given.lines, "traffic"), random.Random(given.seed), given.horizon)
    traffic = Traffic(given.rate, sender, given.pause)
    stop: Callable[..., None] = lambda *_: traffic.ended.set()  # noqa: E731
    signal.signal(signal.SIGTERM, stop)
    traffic.run()


if __name__ == "__main__":
    main()
