"""The accounting of a soak: where each task id ended, how often it ran, and what explains each run beyond the first.

Pure: it reads what was written down and says what is wrong. The rules of what explains a repeated run are in
``_why_again`` and ``_why_two_messages``; a stop by TERM or HUP, a frozen manager or child, and a killed manager explain nothing.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.soak.plan import DEAD_LETTERED, LEASE_SECONDS, MAY_EXPIRE, letters_of
from tests.soak.records import (
    BEGAN,
    ENDED,
    EXPIRED,
    SENDING,
    SENT,
    Began,
    Ended,
    Sending,
    began_of,
    ended_of,
    sending_of,
)

SETTLE_SECONDS = 5.0
"""How long after a run its message may still wait for its deletion, while the machine is busy."""
EARLY_SECONDS = 0.05
SENDING_ACTIONS = ("SendMessage", "SendMessageBatch")
SETTLING = ("DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch")
CLAIM_SECONDS = 45.0
"""How long a worker that dies may hold up the completion of a chord: its claim, and as long for its call of the body."""
CONTINUED = frozenset({"member", "step", "spawning"})
"""Kinds that send something when they run, or after it."""
LOSING = frozenset(
    {
        "reset_after",
        "partial_after",
        "slow_body",
        "timeout",
        "reset",
        "500",
        "503",
        "throttle",
        "403",
        "expired",
        "partial",
    }
)
DOUBLING = frozenset({"reset_after", "partial_after", "slow_body"})
"""Faults after which a sender cannot know that its message is there, and sends it again."""


@dataclass(frozen=True)
class Disturbance:
    """Something the driver did, or saw, from ``begin`` to ``end``. ``pid`` 0 and ``worker`` "" mean everybody.

    Kinds: ``kill child``, ``kill consumer``, ``kill manager``, ``kill group``, ``quit``, ``freeze child``,
    ``freeze consumer``, ``freeze manager``, ``term``, ``hup``, ``stall`` (the machine stood still).
    """

    kind: str
    begin: float
    end: float
    worker: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Event:
    """A line of SQS's own log. ``detail`` of a fault is its kind and the action."""

    at: float
    event: str
    queue: str
    message: str
    detail: str = ""


@dataclass
class Run:
    """One run: how it began and, unless its process died, how it ended."""

    began: Began
    ended: Ended | None = None

    @property
    def outcome(self) -> str:
        return self.ended.outcome if self.ended else "died"

    @property
    def end(self) -> float | None:
        return self.ended.at if self.ended else None


@dataclass
class History:
    """Everything known of one task id."""

    sending: Sending | None = None
    sent: bool = False
    runs: list[Run] = field(default_factory=list)
    letters: list[str] = field(default_factory=list)
    expired: int = 0

    @property
    def succeeded(self) -> bool:
        return any(run.outcome == "ok" for run in self.runs)

    def told(self, origin: float) -> list[str]:
        """Its story, for people; times from the start of the soak."""
        found = []
        if self.sending:
            sending = self.sending
            where = f"{sending.queue} {sending.group} {sending.number or ''}".rstrip()
            found.append(
                f"{sending.at - origin:9.3f} {'sent' if self.sent else 'sent, in doubt'}: {sending.kind} to {where}"
            )
        for run in self.runs:
            began = run.began
            end = f"{run.end - origin:.3f}" if run.end else "-"
            found.append(
                f"{began.at - origin:9.3f} to {end} {run.outcome}: retries {began.retries}, message {began.message[:8]} of "
                f"{began.sent_at - origin:.3f} receipt {began.count}, pid {began.pid} of {began.worker}, {began.queue}"
            )
        found += [f"          dead-lettered: {queue}" for queue in self.letters]
        found += ["          expired"] * self.expired
        return found


MEANING = {
    "lost": "neither succeeded nor dead-lettered nor expired",
    "unexplained": "ran again for no reason",
    "disordered": "out of the order of their FIFO group",
    "early": "ran before their ETA",
    "ran_expired": "ran though expired when sent",
    "wrong": "got values other than those that were meant",
    "buried_alive": "dead-lettered though they should succeed",
    "unknown": "ran, and nobody sent them",
}


@dataclass
class Verdict:
    """What the accounting found. Every list but those of ``counts`` must be empty: ``faults_found`` names those that are not."""

    counts: Counter[str] = field(default_factory=Counter)
    runs_per_task: Counter[int] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    ran_expired: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    buried_alive: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def faults_found(self) -> dict[str, list[str]]:
        return {name: found for name in MEANING if (found := getattr(self, name))}


class Account:
    """Takes lines, disturbances and SQS's events; ``verdict`` is the sum."""

    def __init__(self) -> None:
        self.tasks: dict[str, History] = defaultdict(History)
        self._open: dict[tuple[str, str, int, int], Run] = {}
        self._disturbances: list[Disturbance] = []
        self._by_pid: dict[int, list[Disturbance]] = defaultdict(list)
        self._faults: list[Event] = []
        self._fault_times: list[float] = []
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._unseen: dict[str, list[Event]] = defaultdict(list)  # duplicates of messages that no run had, by queue
        self._doubled: set[str] = set()

    # -- in ----------------------------------------------------------------------------------------

    def take_line(self, words: list[str]) -> None:
        kind = words[0]
        if kind == SENDING:
            sending = sending_of(words)
            self.tasks[sending.task].sending = sending
        elif kind == SENT:
            for task in words[2:]:
                self.tasks[task].sent = True
        elif kind == BEGAN:
            began = began_of(words)
            run = Run(began)
            self.tasks[began.task].runs.append(run)
            self._open[began.task, began.message, began.count, began.pid] = run
        elif kind == ENDED:
            ended = ended_of(words)
            self._open.pop((ended.task, ended.message, ended.count, ended.pid)).ended = ended
        elif kind == EXPIRED:
            self.tasks[words[2]].expired += 1
        else:
            raise ValueError(f"no such line: {words}")

    def take_disturbances(self, found: Iterable[Disturbance]) -> None:
        for each in found:
            self._disturbances.append(each)
            if each.pid:
                self._by_pid[each.pid].append(each)

    def take_letters(self, letters: Mapping[str, Iterable[str]]) -> None:
        """The ids found in each dead-letter queue."""
        for queue, tasks in letters.items():
            for task in tasks:
                self.tasks[task].letters.append(queue)

    def messages_of_interest(self) -> set[str]:
        """Messages whose events are wanted: those of tasks that ran more than once, or did not succeed."""
        return {
            run.began.message
            for history in self.tasks.values()
            if len(history.runs) > 1 or not history.succeeded
            for run in history.runs
        }

    def take_events(self, events: Iterable[Event]) -> None:
        """SQS's log, in its order. Call ``messages_of_interest`` before, to leave out what is not needed."""
        wanted = self.messages_of_interest()
        ran = {run.began.message for history in self.tasks.values() for run in history.runs}
        for event in events:
            if event.event == "fault":
                self._faults.append(event)
                self._fault_times.append(event.at)
            elif event.message in wanted:
                self._events[event.message].append(event)
            elif event.event == "duplicate" and event.message not in ran:
                self._unseen[event.queue].append(event)

    # -- out ---------------------------------------------------------------------------------------

    def verdict(self) -> Verdict:
        found = Verdict()
        for history in self.tasks.values():
            history.runs.sort(key=lambda run: run.began.at)
        for task, history in self.tasks.items():
            self._judge(task, history, found)
        pending = self._explain_all(found)
        found.unexplained = sorted(pending)
        self._check_order(found)
        return found

    def _judge(self, task: str, history: History, found: Verdict) -> None:
        sending = history.sending
        if sending is None:
            found.unknown.append(task)
            return
        found.counts["ids"] += 1
        found.counts["runs"] += len(history.runs)
        found.runs_per_task[len(history.runs)] += 1
        if not history.sent:
            found.counts["in doubt"] += 1
        self._judge_end(task, history, sending, found)
        if any(run.outcome == "wrong" for run in history.runs):
            found.wrong.append(task)
        if sending.due and history.runs and history.runs[0].began.at < sending.due - EARLY_SECONDS:
            found.early.append(task)
        if sending.expires and sending.expires < sending.at and history.runs:
            found.ran_expired.append(task)

    @staticmethod
    def _judge_end(task: str, history: History, sending: Sending, found: Verdict) -> None:
        if history.succeeded:
            found.counts["succeeded"] += 1
            found.counts["succeeded, and a copy dead-lettered"] += bool(history.letters)
        elif history.letters:
            found.counts["dead-lettered"] += 1
            if sending.kind not in DEAD_LETTERED:
                found.buried_alive.append(task)
        elif history.expired and sending.kind in MAY_EXPIRE:
            found.counts["expired"] += 1
        elif history.sent:
            found.lost.append(task)
        else:
            found.counts["in doubt, and not there"] += 1

    # -- repeated runs -----------------------------------------------------------------------------

    def _explain_all(self, found: Verdict) -> dict[str, str]:
        """Explain until no more can be: a doubled parent explains its doubled child. What is left, by task."""
        pairs = [
            (task, before, run, runs[:place])
            for task, history in self.tasks.items()
            if history.sending is not None
            for runs in _attempts(history)
            for place, (before, run) in enumerate(itertools.pairwise(runs), 1)
        ]
        left = []
        for task, before, run, earlier in pairs:
            reason = self._explanation(task, before, run, earlier)
            if reason is None:
                left.append((task, before, run))
            else:
                found.explained[reason] += 1
                if reason not in PLANNED:
                    self._doubled.add(task)
        changed = True
        while changed and left:
            changed = False
            for each in list(left):
                task, before, run = each
                if self._is_doubled_by_another(task, before, run):
                    left.remove(each)
                    self._doubled.add(task)
                    found.explained["what sent it was itself repeated"] += 1
                    changed = True
        return {task: "" for task, _, _ in left}

    def _is_doubled_by_another(self, task: str, before: Run, run: Run) -> bool:
        if before.began.message == run.began.message:
            return False
        sending = self.tasks[task].sending
        parents = {run.began.parent, before.began.parent, *(sending.parent.split() if sending else ())}
        if run.began.retries:
            parents.add(task)
        return not self._doubled.isdisjoint(parents)

    @staticmethod
    def _planned(before: Run, run: Run) -> str | None:
        if run.began.count <= before.began.count:
            return None
        if before.outcome == "died" and before.began.kind == "killer":
            return "it killed its own process"
        return {"fail": "a failing delivery", "again": "a retry of SQS's own"}.get(before.outcome)

    def _explanation(self, task: str, before: Run, run: Run, earlier: list[Run]) -> str | None:
        """Why a task that ran runs again, if there is a reason."""
        same = [each for each in earlier if each.began.message == run.began.message]
        if not same:
            return self._why_two_messages(before, run) or self._why_two_copies(task, before, run)
        return self._planned(same[-1], run) or self._why_again(same[-1], run) or self._held_up(same)

    def _why_again(self, before: Run, run: Run) -> str | None:
        """The same message was delivered again."""
        until = min(before.end or run.began.at, run.began.at) + SETTLE_SECONDS
        return (
            self._its_process(before, until)
            or self._its_worker(before, until)
            or self._doubled_by_sqs(before, run)
            or self._not_settled(before, until)
            or self._not_continued(before, until)
        )

    def _its_process(self, before: Run, until: float) -> str | None:
        for each in self._by_pid.get(before.began.pid, ()):
            if each.kind == "kill child" and before.began.at <= each.begin <= until:
                return each.kind
        return None

    def _its_worker(self, before: Run, until: float) -> str | None:
        for each in self._disturbances:
            if each.worker and each.worker != before.began.worker:
                continue
            ended = each.kind in ("kill consumer", "kill group", "quit")
            if ended and before.began.at - 1 <= each.begin <= until:
                return each.kind
            frozen = each.kind in ("freeze consumer", "stall")
            if frozen and each.begin <= until and each.end >= before.began.at - LEASE_SECONDS:
                return each.kind
        return None

    def _doubled_by_sqs(self, before: Run, run: Run) -> str | None:
        for event in self._events.get(run.began.message, ()):
            if event.event == "duplicate" and before.began.at - LEASE_SECONDS <= event.at <= run.began.at:
                return "SQS delivered it twice"
        return None

    def _not_settled(self, before: Run, until: float) -> str | None:
        """Its deletion, the renewal of its lease or its move to the dead-letter queue failed, or the answer was lost."""
        since = before.began.at - LEASE_SECONDS
        struck = self._struck(before.began.queue, SETTLING, since, until + LEASE_SECONDS, LOSING)
        if not struck and before.outcome in ("reject", "fail"):
            letters = letters_of(before.began.queue)
            struck = self._struck(letters, (*SENDING_ACTIONS, "GetQueueUrl"), since, until + LEASE_SECONDS, LOSING)
        return f"fault: {struck}" if struck else None

    def _not_continued(self, before: Run, until: float) -> str | None:
        """What it sends, by itself, as its retry or as what follows it, could not be sent: so it stays."""
        if before.outcome != "retry" and before.began.kind not in CONTINUED:
            return None
        struck = self._struck(None, (*SENDING_ACTIONS, "GetQueueUrl"), before.began.at, until + 10, LOSING)
        return f"fault: {struck}" if struck else None

    def _why_two_messages(self, before: Run, run: Run) -> str | None:
        """Two messages of one id: somebody could not know that the first was there, or died before he could say so."""
        queue = run.began.queue
        instants = sorted((before.began.sent_at, run.began.sent_at))
        struck = self._struck(queue, SENDING_ACTIONS, instants[0] - 1, instants[1] + 11, DOUBLING)
        if struck:
            return f"fault: {struck}"
        if run.began.kind == "late":  # a copy with a delay is sent first, then the message is deleted
            struck = self._struck(
                queue, ("DeleteMessage", "DeleteMessageBatch"), instants[0] - 1, instants[1] + LEASE_SECONDS, LOSING
            )
            if struck:
                return f"fault: {struck}"
            return self._disturbed_hop(instants)
        return None

    def _why_two_copies(self, task: str, before: Run, run: Run) -> str | None:
        """It was sent twice since an answer was lost, or delivered twice; each went its way as a delayed copy."""
        sending = self.tasks[task].sending
        if run.began.kind != "late" or sending is None:
            return None
        struck = self._struck(sending.queue, SENDING_ACTIONS, sending.at - 1, sending.at + 11, DOUBLING)
        if struck:
            return f"fault: {struck}"
        last = max(before.began.sent_at, run.began.sent_at)
        twice = any(sending.at <= event.at <= last for event in self._unseen[sending.queue]) or any(
            event.event == "duplicate" and event.at <= each.began.at
            for each in (before, run)
            for event in self._events[each.began.message]
        )
        return "SQS delivered it twice" if twice else None

    def _held_up(self, earlier: list[Run]) -> str | None:
        """A member of a chord whose worker died had claimed the chord's end, and its next delivery found that claim."""
        *others, last = earlier
        if last.began.kind != "member":
            return None
        for dead in others:
            until = min(dead.end or last.began.at, last.began.at) + SETTLE_SECONDS
            kind = self._its_process(dead, until) or self._its_worker(dead, until)
            if kind and last.began.at <= dead.began.at + CLAIM_SECONDS:
                return f"{kind}, and then its claim"
        return None

    def _disturbed_hop(self, instants: list[float]) -> str | None:
        """The consumer of any worker may have been the one that made the copy."""
        for each in self._disturbances:
            stops = each.kind in ("kill consumer", "kill group", "freeze consumer", "stall")
            if stops and each.begin <= instants[1] + LEASE_SECONDS and each.end >= instants[0] - LEASE_SECONDS:
                return each.kind
        return None

    def _struck(
        self, queue: str | None, actions: tuple[str, ...], since: float, until: float, kinds: frozenset[str]
    ) -> str | None:
        """The first fault that struck one of these requests in this time: its kind and action."""
        for event in self._faults[bisect.bisect_left(self._fault_times, since) :]:
            if event.at > until:
                return None
            kind, _, action = event.detail.partition(" ")
            if kind in kinds and action in actions and queue in (None, event.queue):
                return event.detail
        return None

    # -- FIFO --------------------------------------------------------------------------------------

    def _check_order(self, found: Verdict) -> None:
        groups: dict[tuple[str, str], list[tuple[int, str, History]]] = defaultdict(list)
        for task, history in self.tasks.items():
            sending = history.sending
            if sending is not None and sending.group and history.runs:
                groups[sending.queue, sending.group].append((sending.number, task, history))
        for rows in groups.values():
            rows.sort(key=lambda row: row[0])
            for (_, _, first), (_, task, second) in itertools.pairwise(rows):
                if second.runs[0].began.at < _first_done(first):
                    found.disordered.append(task)
            found.counts["FIFO messages in order"] += len(rows)


PLANNED = frozenset({"a failing delivery", "a retry of SQS's own", "it killed its own process"})


def _attempts(history: History) -> list[list[Run]]:
    """Its runs by Celery's number of retries: each of these is one call that should be made once."""
    found: dict[int, list[Run]] = defaultdict(list)
    for run in history.runs:
        found[run.began.retries].append(run)
    return list(found.values())


def _first_done(history: History) -> float:
    """When a message of a group had been dealt with for the first time: it succeeded, or its last run ended."""
    for run in history.runs:
        if run.outcome == "ok":
            return run.end or run.began.at
    return history.runs[-1].end or history.runs[-1].began.at
