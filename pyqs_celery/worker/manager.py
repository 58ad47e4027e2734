"""The manager: starts the consumer and the children, replaces those that end, and turns signals into a stop.

It has one thread, so that forking is safe; it knows no task and no queue. Everything it needs of processes is behind
``Fleet``, which the pools implement. Signals and exit codes are Celery's:
https://docs.celeryq.dev/en/stable/userguide/workers.html#stopping-the-worker
"""

from __future__ import annotations

import faulthandler
import itertools
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import FrameType
from typing import Any

from pyqs_celery.exceptions import BootError
from pyqs_celery.worker import respawns
from pyqs_celery.worker.channel import Control, FrameError, WakeUps
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.values import StopMode
from pyqs_celery.worker.desk import Desk
from pyqs_celery.worker.fleet import Ending, Fleet
from pyqs_celery.worker.health import SILENCE_SECONDS, Fuse
from pyqs_celery.worker.respawns import Respawns
from pyqs_celery.worker.silence import Silence

logger = logging.getLogger("celery.worker")
process_log = logging.getLogger("multiprocessing")
BOOT_EXIT_CODE = 3
STOP_MARGIN_SECONDS = 20.0
"""What the consumer may need beyond its own deadline: an open poll's read timeout, and the last deletions."""
TERMINATE_GRACE_SECONDS = 5.0
"""How long a child may withstand the signal by which somebody wants its task ended, before it gets SIGKILL."""

CONSUMER, BEAT = -1, -2
"""What is started again beside the children, which have slots from 0 on."""

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals that end the worker; a SIGHUP before or after them restarts nothing."""


@dataclass(slots=True)
class Child:
    """A child as the manager knows it. ``works``: it has started well, as the consumer says."""

    ident: int
    born: float
    works: bool = False


class Manager:
    """One worker. ``say`` prints a line for people. Outside of the main thread it ``takes_signals`` not: ``stop`` ends it."""

    def __init__(
        self, config: WorkerConfig, fleet: Fleet, say: Callable[[str], None], *, takes_signals: bool = True
    ) -> None:
        self.config = config
        self._takes_signals = takes_signals
        self.restart_wanted = False
        self._fleet = fleet
        self._say = say
        self._control: Control | None = None
        self._consumer: int | None = None
        self._consumer_born = 0.0
        self._children: dict[int, Child] = {}
        self._beat: Child | None = None
        self._beat_end: socket.socket | None = None
        self._slots = set(range(config.concurrency))
        self._empty_since: dict[int, float] = {}
        self._leaving: set[int] = set()
        self._killed: set[int] = set()
        self._grace: dict[int, tuple[int, float]] = {}
        self._respawns = Respawns()
        self._signals: deque[int] = deque()
        self._wake_ups = WakeUps()
        self._selector = selectors.DefaultSelector()
        self._desk = Desk(config, self._selector, self)
        self._silence = Silence(config.silence_timeout if config.pool == "prefork" else 0.0)
        self._stopping: StopMode | None = None
        self._interrupted = False
        self._deadline: float | None = None
        self._exit_code = 0
        self._boot_failure: str | None = None
        self._overdue = False

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until stopped; the exit code. Raises BootError if the worker cannot start."""
        before = self._take_signals() if self._takes_signals else {}
        self._selector.register(self._wake_ups.reader, selectors.EVENT_READ)
        self._fleet.on_end(self._wake_ups.send)
        try:
            self._desk.open(self._say)
            self._start_generation()
            if self.config.beat:
                self._start_beat()
            while not self._is_over():
                self._wait()
                while self._signals:
                    self._on_signal(self._signals.popleft())
                for ending in self._fleet.ended():
                    self._on_ended(ending)
                self._end_grace()
                self._end_silence()
                self._respawn_due()
                self._enforce_deadline()
        finally:
            if self._takes_signals:
                self._give_signals_back(before)
            self._close()
        self.restart_wanted = self.restart_wanted and ENDING.isdisjoint(self._signals)
        if self._boot_failure is not None:
            raise BootError(self._boot_failure)
        return self._exit_code

    def _is_over(self) -> bool:
        nobody = self._consumer is None and self._beat is None and not self._children and not self._leaving
        return self._stopping is not None and nobody

    def _wait(self) -> None:
        instants = [until for _, until in self._grace.values()]
        dues = (self._deadline, self._respawns.next_due(), self._desk.next_due(), self._silence.next_due())
        instants += filter(None, dues)
        timeout = max(0.0, min(instants) - time.monotonic()) if instants else None
        for key, mask in self._selector.select(timeout):
            if key.fileobj is self._wake_ups.reader:
                self._wake_ups.drain()
            elif isinstance(key.data, Control):
                self._on_control(mask)
            elif isinstance(key.fileobj, socket.socket):
                self._desk.on_ready(key.fileobj, mask)
        self._desk.expire(time.monotonic())

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
        self._desk.close()
        self._selector.close()
        self._wake_ups.close()

    def stop(self) -> None:
        """Begin a warm stop; may be called from any thread."""
        self._signals.append(signal.SIGTERM)
        self._wake_ups.send()

    # -- signals -----------------------------------------------------------------------------------

    def _take_signals(self) -> dict[int, Any]:
        signal.set_wakeup_fd(self._wake_ups.writer.fileno(), warn_on_full_buffer=False)
        return {signum: signal.signal(signum, self._note_signal) for signum in HANDLED}

    def _give_signals_back(self, before: dict[int, Any]) -> None:
        signal.set_wakeup_fd(-1)
        for signum, handler in before.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def _note_signal(self, signum: int, frame: FrameType | None) -> None:
        self._signals.append(signum)

    def _on_signal(self, signum: int) -> None:
        if signum in ENDING:
            self.restart_wanted = False  # whoever wants it to end wants that also of one that is about to restart
        if signum == signal.SIGTERM:
            remapped = os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
            self._stop("soft" if remapped or self._stopping else "warm", signum)
        elif signum == signal.SIGQUIT:
            self._stop("soft", signum)
        elif signum == signal.SIGINT:
            self._exit_code = self._exit_code or 1
            if not self._interrupted:
                self._say("worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!")
            self._stop("soft" if self._interrupted else "warm", signum)
            self._interrupted = True
        elif signum == signal.SIGHUP:
            if self._stopping is None and not (sys.stdin and sys.stdin.isatty()):
                self.restart_wanted = True
                self._say(f"Restarting celery worker ({' '.join(sys.orig_argv)})")
            self._stop("warm", signum)
        elif signum == signal.SIGUSR1:
            self._dump()

    def _dump(self) -> None:
        faulthandler.dump_traceback(all_threads=True)
        self.tell_consumer({"dump": True})

    def _stop(self, mode: StopMode, signum: int | None) -> None:
        if mode == "soft" and (self._stopping == "soft" or not self.config.soft_shutdown_timeout):
            mode = "cold"
        if self._stopping == mode:
            return
        self._stopping = mode
        self._say(f"worker: {'Warm' if mode == 'warm' else 'Cold'} shutdown (MainProcess)")
        self._deadline = (
            time.monotonic() + self.config.stop_seconds(mode) + self.config.wait_time_seconds + STOP_MARGIN_SECONDS
        )
        self._respawns.keep_only()
        self._end_beat()
        self._desk.stopping()
        self._silence.end()
        self.tell_consumer({"stop": mode, "signal": signal.Signals(signum).name if signum else ""})

    def _enforce_deadline(self) -> None:
        if self._deadline is None or time.monotonic() < self._deadline or self._overdue:
            return
        self._overdue = True
        self._exit_code = self._exit_code or 1
        logger.critical("The worker did not stop in time and is killed; its messages come back when their leases end")
        everybody = [*(child.ident for child in self._children.values()), *self._leaving]
        everybody += [self._beat.ident] if self._beat is not None else []
        for ident in [*everybody, *([self._consumer] if self._consumer is not None else [])]:
            self._fleet.kill(ident)
        self._deadline = None

    # -- starting ----------------------------------------------------------------------------------

    def _start_generation(self) -> None:
        """A consumer and children for it. Children of a consumer that died finish what they run, and leave."""
        ours, theirs = socket.socketpair()
        self._consumer = self._fleet.start_consumer(theirs, [ours, *self._own_sockets()])
        self._consumer_born = time.monotonic()
        theirs.close()
        self._control = Control(ours)
        self._selector.register(ours, selectors.EVENT_READ, self._control)
        self._desk.consumer_started()
        self._silence.begin(self._consumer_born)
        if len(self._slots) != self.config.concurrency:
            self.tell_consumer({"concurrency": len(self._slots)})
        for slot in sorted(self._slots):
            self._start_child(slot)

    def _own_sockets(self) -> list[socket.socket]:
        own = [self._wake_ups.reader, self._wake_ups.writer, *([self._beat_end] if self._beat_end is not None else [])]
        own += [self._control.sock] if self._control is not None else []
        return [*own, *self._desk.sockets()]

    def _start_child(self, slot: int) -> None:
        if self._control is None:
            return
        consumers, childs = socket.socketpair()
        ident = self._fleet.start_child(slot + 1, childs, [consumers, *self._own_sockets()])
        self._children[slot] = Child(ident, time.monotonic())
        childs.close()
        self.tell_consumer({"slot": slot, "pid": ident}, consumers.fileno())
        consumers.close()

    def _start_beat(self) -> None:
        ours, theirs = socket.socketpair()
        self._beat_end = ours
        ident = self._fleet.start_beat(theirs, self._own_sockets())
        self._beat = Child(ident, time.monotonic())
        theirs.close()

    def _end_beat(self) -> None:
        """Close its socket, which is how it is told to end."""
        if self._beat_end is not None:
            self._beat_end.close()
            self._beat_end = None

    def _end_silence(self) -> None:
        """Replace a consumer that is there and does nothing: frozen, or caught in a deadlock."""
        if self._consumer is not None and self._silence.is_too_long(time.monotonic(), self._consumer):
            self._fleet.kill(self._consumer)

    def _respawn_due(self) -> None:
        for slot in self._respawns.take_due(time.monotonic()):
            if self._stopping is None:
                if slot == CONSUMER:
                    self._start_generation()
                elif slot == BEAT:
                    self._start_beat()
                else:
                    self._start_child(slot)

    def _schedule(self, slot: int, born: float, most: float = respawns.MOST_SECONDS) -> None:
        if self._stopping is None:
            self._respawns.add(slot, born, time.monotonic(), most)

    # -- endings -----------------------------------------------------------------------------------

    def _on_ended(self, ending: Ending) -> None:
        if ending.ident in self._leaving:
            self._leaving.discard(ending.ident)
        elif ending.ident == self._consumer:
            self._on_consumer_ended(ending)
        elif self._beat is not None and ending.ident == self._beat.ident:
            self._on_beat_ended(self._beat, ending)
        else:
            for slot, child in list(self._children.items()):
                if child.ident == ending.ident:
                    self._on_child_ended(slot, child, ending)

    def _on_child_ended(self, slot: int, child: Child, ending: Ending) -> None:
        del self._children[slot]
        hint = " (perhaps it was out of memory)" if ending.signum == signal.SIGKILL else ""
        if child.ident in self._killed:
            self._killed.discard(child.ident)
        elif ending.code != 0 and not self._overdue:
            process_log.error(
                "Process 'ForkPoolWorker-%d' pid:%d exited with '%s'%s", slot + 1, child.ident, ending.reason, hint
            )
        self.tell_consumer({"gone": slot, "pid": child.ident, "reason": ending.reason})
        if ending.code == BOOT_EXIT_CODE and self._stopping is None:
            self._boot_failure = "a child process could not start; the lines above say why"
            self._stop("cold", None)
        if slot in self._slots:
            short = time.monotonic() - child.born < respawns.SHORT_LIFE_SECONDS and not child.works
            since = self._empty_since.get(slot) if short else None
            self._empty_since[slot] = since or time.monotonic()
            most = respawns.AFTER_WORK_SECONDS if child.works else respawns.MOST_SECONDS
            self._schedule(slot, child.born, most if ending.code != 0 else 0.0)

    def _on_consumer_ended(self, ending: Ending) -> None:
        self._consumer = None
        if self._control is not None:
            self._on_control(selectors.EVENT_READ)
            self._hear_no_more()
            self._control.close()
            self._control = None
        self._leaving.update(child.ident for child in self._children.values())
        self._children.clear()
        self._respawns.keep_only(BEAT)
        if self._boot_failure is not None:
            self._stopping = self._stopping or "cold"
            self._respawns.keep_only()
            self._end_beat()
            self._deadline = self._deadline or time.monotonic() + STOP_MARGIN_SECONDS
        elif self._stopping is None:
            logger.critical(
                "The consumer process pid:%d exited with '%s'; a new one is started, children finish what they run",
                *(ending.ident, ending.reason),
            )
            self._schedule(CONSUMER, self._consumer_born)
        elif ending.code != 0:
            logger.error("The consumer process pid:%d exited with '%s' while stopping", ending.ident, ending.reason)

    def _on_beat_ended(self, beat: Child, ending: Ending) -> None:
        self._beat = None
        self._end_beat()
        if self._stopping is None:
            logger.critical("The beat pid:%d exited with '%s'; a new one is started", beat.ident, ending.reason)
            self._schedule(BEAT, beat.born)

    # -- the consumer ------------------------------------------------------------------------------

    def tell_consumer(self, value: dict[str, Any], fd: int | None = None) -> bool:
        """Send a frame, which never blocks, however slow or frozen the consumer is; False if there is none."""
        if self._control is None or not self._control.send(value, fd):
            return False
        self._watch_control()
        return True

    def _watch_control(self) -> None:
        assert self._control is not None
        known = self._selector.get_map().get(self._control.sock)
        if known is not None and known.events != self._control.events:
            self._selector.modify(self._control.sock, self._control.events, self._control)

    def _hear_no_more(self) -> None:
        """Wait no more for the control socket."""
        if self._control is not None and self._control.sock in self._selector.get_map():
            self._selector.unregister(self._control.sock)

    def _on_control(self, mask: int) -> None:
        """Take what the consumer says; at its end wait no more for this socket, the consumer's ending is about to be told."""
        if self._control is None:
            return
        if mask & selectors.EVENT_WRITE:
            self._control.push()
            self._watch_control()
        if not mask & selectors.EVENT_READ:
            return
        try:
            frames = self._control.read()
        except FrameError:
            frames = None
        if frames is None:
            self._hear_no_more()
            return
        for value, _ in frames:
            self._on_frame(value)

    def _on_frame(self, value: dict[str, Any]) -> None:
        self._silence.heard()
        if "kill" in value:
            child = self._children.get(int(value["kill"]))
            if child is not None and child.ident == value["pid"]:
                self._kill_child(int(value["kill"]), child, int(value["signum"]))
        elif "up" in value:
            child = self._children.get(int(value["up"]))
            if child is not None and child.ident == value["pid"]:
                child.works = True
        elif "report" in value:
            self._desk.reported(value["report"])
        elif "answer" in value:
            self._desk.answered(value)
        elif "stop" in value:
            logger.info("The worker stops: %s", value["stop"])
            self.stop()
        elif "boot_failed" in value:
            self._boot_failure = str(value["boot_failed"])

    # -- what the desk asks ------------------------------------------------------------------------

    @property
    def slots(self) -> Collection[int]:
        """The slots that are to have children."""
        return self._slots

    def grow(self, number: int) -> None:
        """Start more children, in slots that are free."""
        taken = self._slots | set(self._children)
        fresh = list(islice((slot for slot in itertools.count() if slot not in taken), number))
        self._slots.update(fresh)
        self.tell_consumer({"concurrency": len(self._slots)})
        for slot in fresh:
            self._start_child(slot)

    def shrink(self, slots: Iterable[int]) -> None:
        """The consumer lets the children of these slots go: start no others in their place."""
        gone = self._slots.intersection(slots)
        if not gone:
            return
        self._slots -= gone
        for slot in gone:
            self._respawns.drop(slot)
            self._empty_since.pop(slot, None)
        self.tell_consumer({"concurrency": len(self._slots)})
        self.tell_consumer({"retire": sorted(gone)})  # one may have got a child since the consumer chose it

    def fuses(self, now: float) -> Iterator[Fuse]:
        """What is wrong with the processes: those that can do nothing, and slots without one."""
        if self._consumer is None and self._stopping is None:
            yield Fuse(now, "the consumer process has ended; another is being started")
        beat = self._beat.ident if self._beat is not None else None
        names = [("the consumer process", self._consumer), ("the beat", beat)]
        names += [(f"the child of slot {slot}", child.ident) for slot, child in self._children.items()]
        for name, ident in names:
            trouble = self._fleet.trouble(ident) if ident is not None else None
            if trouble is not None:
                yield Fuse(now, f"{name} (process {ident}) {trouble}", curable=True)
        for slot, since in self._empty_since.items():
            child = self._children.get(slot)
            if self._stopping is None and (child is None or now - child.born < respawns.SHORT_LIFE_SECONDS):
                yield Fuse(
                    since + SILENCE_SECONDS, f"slot {slot} has had no child that lives for {SILENCE_SECONDS:.0f} s"
                )

    def _kill_child(self, slot: int, child: Child, signum: int) -> None:
        self._killed.add(child.ident)
        self._fleet.kill(child.ident, signum)
        if signum != signal.SIGKILL:
            self._grace[slot] = (child.ident, time.monotonic() + TERMINATE_GRACE_SECONDS)

    def _end_grace(self) -> None:
        """SIGKILL for whoever has withstood the signal it was to end by."""
        now = time.monotonic()
        for slot, (ident, until) in list(self._grace.items()):
            child = self._children.get(slot)
            if child is None or child.ident != ident:
                del self._grace[slot]
            elif until <= now:
                del self._grace[slot]
                self._fleet.kill(ident)
