"""What is done to the fleet, and when: a deck of troubles, shuffled by the seed and dealt at random instants."""

from __future__ import annotations

import heapq
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.soak.accounting import Disturbance
from tests.soak.fleet import Member
from tests.soak.plan import LEASE_SECONDS
from tests.support.embedded import EmbeddedSqs

FREEZE_SECONDS = (LEASE_SECONDS + 2.0, LEASE_SECONDS + 6.0)
FAULT_KINDS = (
    *("500", "503", "throttle", "403", "expired", "reset", "reset_after", "timeout", "partial", "partial_after"),
    "slow_body",
)
ACTIONS = (
    *("*", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessage", "SendMessageBatch"),
    "GetQueueUrl",
)
BATCHES = ("*", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")
DECK = (
    *("kill child",) * 4,
    *("kill consumer",) * 2,
    *("kill manager", "kill group", "deploy", "deploy", "quit", "hup"),
    *("freeze child", "freeze consumer", "freeze manager"),
    *("fault",) * 6,
    *("latency", "duplicates"),
)


class Chaos:
    """Deals one trouble after the other to ``members``; ``step`` is called often, ``calm`` ends it all."""

    def __init__(self, sqs: EmbeddedSqs, members: list[Member], seed: int, every_seconds: float) -> None:
        self._sqs = sqs
        self._members = members
        self._random = random.Random(seed)
        self._every = every_seconds
        self._deck: list[str] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._next = time.time() + self._pause()
        self._frozen: dict[int, Disturbance] = {}
        self._rules: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.faults_asked: Counter[str] = Counter()
        self.done: list[Disturbance] = []

    def _pause(self) -> float:
        return self._random.expovariate(1 / self._every)

    def step(self) -> None:
        now = time.time()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        if now >= self._next:
            self._next = now + self._pause()
            if not self._deck:
                self._deck = random.Random(self._random.random()).sample(DECK, len(DECK))
            self._deal(self._deck.pop())

    def calm(self) -> None:
        """Thaw everybody, heal SQS."""
        for pid in list(self._frozen):
            self._thaw(pid)
        self._later.clear()
        self._rules.clear()
        self._sqs.ask("config", faults=[], latency_ms=0, jitter_ms=0, duplicates=0.0)

    def _in(self, seconds: float, call: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._later, (time.time() + seconds, self._order, call))

    # -- troubles ----------------------------------------------------------------------------------

    def _deal(self, trouble: str) -> None:
        member = self._random.choice(self._members)
        draw = self._random.random()
        if trouble == "fault":
            self._fault()
        elif trouble == "latency":
            self._sqs.ask(
                "config", latency_ms=self._random.choice((0, 5, 20, 80)), jitter_ms=self._random.choice((0, 20))
            )
        elif trouble == "duplicates":
            self._sqs.ask("config", duplicates=self._random.choice((0.0, 0.002, 0.01)))
        elif not self._hurt(trouble, member, draw):
            return  # it is just starting or stopping, and has no such process
        self.counts[trouble] += 1

    def _hurt(self, trouble: str, member: Member, draw: float) -> bool:
        consumer, children = member.family()
        if trouble in ("kill child", "freeze child"):
            pid = sorted(children)[int(draw * len(children))] if children else 0
        else:
            pid = consumer if trouble.endswith("consumer") else member.manager
        if not consumer or not pid or member.expected or pid in self._frozen:
            return False
        if trouble.startswith("freeze"):
            self._freeze(trouble, member, pid)
        elif trouble.startswith("kill"):
            self._kill_some(trouble, member, pid, [member.manager, consumer, *children])
        else:
            self._signal(trouble, member)
        return True

    def _kill_some(self, trouble: str, member: Member, pid: int, everybody: list[int]) -> None:
        self._note(trouble, member, pid if trouble == "kill child" else 0)
        if trouble in ("kill manager", "kill group"):
            member.expected.add(-signal.SIGKILL)
        for each in everybody if trouble == "kill group" else [pid]:
            with suppress(ProcessLookupError):  # it may have ended by itself just now
                os.kill(each, signal.SIGKILL)

    def _signal(self, trouble: str, member: Member) -> None:
        """A deploy of the other application, a cold stop, or a restart."""
        if trouble == "deploy":
            member.application = "soak_old" if member.application == "soak_new" else "soak_new"
        self._note({"deploy": "term"}.get(trouble, trouble), member)
        if trouble == "hup":
            os.kill(member.manager, signal.SIGHUP)
        else:
            member.signal(signal.SIGTERM if trouble == "deploy" else signal.SIGQUIT)

    def _note(self, kind: str, member: Member, pid: int = 0) -> None:
        now = time.time()
        self.done.append(Disturbance(kind, now, now, member.name, pid))

    def _freeze(self, trouble: str, member: Member, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            return
        now, seconds = time.time(), self._random.uniform(*FREEZE_SECONDS)
        self._frozen[pid] = Disturbance(
            trouble, now, now + seconds, member.name, pid if trouble == "freeze child" else 0
        )
        self._in(seconds, lambda: self._thaw(pid))

    def _thaw(self, pid: int) -> None:
        frozen = self._frozen.pop(pid, None)
        if frozen is None:
            return
        with suppress(ProcessLookupError):  # it may have been killed while it was frozen
            os.kill(pid, signal.SIGCONT)
        self.done.append(Disturbance(frozen.kind, frozen.begin, time.time(), frozen.worker, frozen.pid))

    def _fault(self) -> None:
        kind = self._random.choice(FAULT_KINDS)
        action = self._random.choice(BATCHES if kind.startswith("partial") else ACTIONS)
        seconds = self._random.uniform(2, 10)
        rule = {"kind": kind, "action": action, "rate": round(self._random.uniform(0.05, 1.0), 2), "seconds": seconds}
        if kind == "slow_body":
            rule["body_seconds"] = 20
        if kind.startswith("partial"):
            rule["entries"] = sorted(self._random.sample(range(10), self._random.randint(1, 5)))
        self.faults_asked[f"{kind} {action}"] += 1
        self._rules.append(rule)
        self._sqs.faults(*self._rules)
        self._in(seconds, lambda: self._heal(rule))

    def _heal(self, rule: dict[str, Any]) -> None:
        self._rules.remove(rule)
        self._sqs.faults(*self._rules)
