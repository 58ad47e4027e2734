"""The consumer: the only process (or thread) of a worker that talks to SQS, and the shell around the core.

Its loop waits for children, the manager and its own threads, tells the core what happened, and does what the core
asks. It runs no user code but signal receivers, never opens arguments, and never forks.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyqs_celery import revocation, signals
from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.exceptions import BrokerError, QueueDoesNotExist
from pyqs_celery.outcome import Outcome
from pyqs_celery.wire.envelope import decode_head, head_to_plain
from pyqs_celery.worker import policies
from pyqs_celery.worker.acker import Acker
from pyqs_celery.worker.channel import ConsumerEnd, Control, FrameError, outcome_from_json
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.engine import WorkerCore
from pyqs_celery.worker.core.values import (
    Ack,
    Action,
    DeadLetter,
    Dispatch,
    Done,
    Extend,
    Hop,
    Kill,
    Note,
    Poll,
    QueuePolicy,
    Release,
    StopMode,
)
from pyqs_celery.worker.discovery import Discovery
from pyqs_celery.worker.io import Inbox, IoThreads
from pyqs_celery.worker.keeper import Keeper
from pyqs_celery.worker.notes import Notes
from pyqs_celery.worker.receiver import Receiver
from pyqs_celery.worker.revoked import RevokedWatch

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker.consumer.consumer")
ready_log = logging.getLogger("celery.apps.worker")
POOL_SIZE = 100
SETTLE_THREADS = 4
KEEP_THREADS = 2
GIVE_UP_AFTER_DEADLINE_SECONDS = 5.0


class Child:
    """A child as the consumer knows it."""

    def __init__(self, slot: int, pid: int, end: ConsumerEnd) -> None:
        self.slot = slot
        self.pid = pid
        self.end = end


class Consumer:
    """Runs until the core is done with a stop. ``control`` leads to the manager; ``say`` prints a line for people."""

    def __init__(self, app: Celery, config: WorkerConfig, control: Control, say: Callable[[str], None]) -> None:
        self.app = app
        self.config = config
        self.hostname = config.hostname
        self._broker = app.consumer_broker_config()
        self._control = control
        self._say = say
        self._client = SqsClient(self._broker, pool_size=POOL_SIZE)
        marks = revocation.revocations(app)
        core_config = policies.core_config(config, keeps_results=marks is not None)
        self._core = WorkerCore(core_config, policies.task_policies(app, config), decode_head)
        self._notes = Notes(app, config.hostname, self)
        self._inbox = Inbox()
        self._threads = (
            IoThreads("settle", SETTLE_THREADS, self._inbox.put),
            IoThreads("keep", KEEP_THREADS, self._inbox.put),
            IoThreads("revoked", 1, self._inbox.put),
        )
        self._revoked: RevokedWatch | None = None
        if marks is not None:
            end, can_end = self._core.on_revoked, config.pool == "prefork"
            self._revoked = RevokedWatch(marks.to_terminate, self._threads[2], end, can_end=can_end)
        self._acker = Acker(self._client, self._queue, self._threads[0], self._core.on_settled)
        self._keeper = Keeper(self._client, self._queue, self._threads[1], self._core.on_extended)
        self._discovery = Discovery(
            self._client,
            config,
            config.queues or app.consume_queues(),
            found=lambda queues: self._inbox.put(lambda now: self._on_found(queues, now)),
            refused=lambda sentence: self._inbox.put(lambda _: self._on_refused(sentence)),
        )
        self._queues: dict[str, QueueInfo] = {}
        self._receivers: dict[str, Receiver] = {}
        self._children: dict[int, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._managed = True
        self._looked = self._told_ready = self._finished = False

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until everything is settled after a stop."""
        self._selector.register(self._inbox, selectors.EVENT_READ, None)
        self._selector.register(self._control.sock, selectors.EVENT_READ, self._control)
        steps = self.app.worker_steps
        if steps is not None:
            steps.start()
        self._discovery.start()
        while not self._finished:
            for key, mask in self._selector.select(self._timeout()):
                if isinstance(key.data, Child):
                    self._on_child(key.data, mask)
                elif key.data is self._control:
                    self._on_control()
            now = time.time()
            for news in self._inbox.take():
                news(now)
            for action in self._core.step(now):
                self._do(action, now)
            self._acker.flush(now)
            if self._revoked is not None:
                self._revoked.look(self._core.running_ids, now)
        self._leave()

    def _timeout(self) -> float | None:
        now = time.time()
        due = [self._core.next_wakeup(now), self._acker.next_due()]
        if self._revoked is not None:
            due.append(self._revoked.next_due(busy=bool(self._core.busy_slots())))
        instants = [each for each in due if each is not None]
        return max(0.0, min(instants) - now) if instants else None

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Poll():
                self._receivers[action.queue].poll(min(action.count, self.config.batch_size))
            case Dispatch():
                self._dispatch(action)
            case Ack() | Release() | Hop() | DeadLetter():
                self._acker.add(action, now)
            case Extend():
                self._keeper.extend(action)
            case Kill():
                self._kill(action)
            case Note():
                self._notes.tell(action)
            case Done():
                self._finished = True

    def _leave(self) -> None:
        self._discovery.stop()
        if self.app.worker_steps is not None:
            self.app.worker_steps.stop()
        for receiver in self._receivers.values():
            receiver.close()
        for threads in self._threads:
            threads.close()
        signals.worker_shutdown.send(sender=self)
        for child in list(self._children.values()):
            self._forget(child)
        self._selector.close()
        self._inbox.close()

    # -- queues ------------------------------------------------------------------------------------

    def _queue(self, name: str) -> QueueInfo:
        return self._queues[name]

    def _on_found(self, found: tuple[QueueInfo, ...], now: float) -> None:
        self._looked = True
        served = {queue.name for queue in found}
        fresh = [queue for queue in found if queue.name not in self._receivers]
        rows = {queue.name: self._policy(queue) for queue in found}
        for name in [name for name in self._receivers if name not in served]:
            self._receivers.pop(name).close()
            logger.warning("Queue %s is gone or no longer meant; it is served no more", name)
        for queue in fresh:
            self._queues[queue.name] = queue
            self._receivers[queue.name] = Receiver(
                self._client,
                queue,
                lease_seconds=int(rows[queue.name].lease_seconds),
                wait_seconds=self.config.wait_time_seconds,
                on_polled=self._polled,
            )
            line = policies.describe(rows[queue.name])
            logger.info("Queue %s", line)
            self._say(f"  queue:       {line}")
        self._core.set_queues(rows.values(), now)
        self._tell_ready()

    def _policy(self, queue: QueueInfo) -> QueuePolicy:
        return policies.queue_policy(queue, self.config, self._broker, self.app.conf.sqs_dead_letter_queue)

    def _polled(self, queue: str, deliveries: list[Delivery], error: BrokerError | None) -> None:
        """Called from receivers' threads."""
        self._inbox.put(lambda now: self._core.on_polled(queue, deliveries, now, error is not None))
        if isinstance(error, QueueDoesNotExist):
            self._discovery.vanished(queue)

    def _on_refused(self, sentence: str) -> None:
        self._control.send({"boot_failed": sentence})
        self._finished = True

    def _tell_ready(self) -> None:
        if self._told_ready or not self._looked or not self._children:
            return
        self._told_ready = True
        logger.info("Connected to %s", self._broker.shown)
        ready_log.info("%s ready.", self.hostname)
        signals.worker_ready.send(sender=self)

    # -- children ----------------------------------------------------------------------------------

    def _dispatch(self, action: Dispatch) -> None:
        child = self._children.get(action.slot)
        fault = (action.fault.exception, action.fault.detail) if action.fault is not None else None
        finality = (action.last, action.last_timeout)
        work = (head_to_plain(action.head), self._facts(action), *finality, action.soft_time_limit, fault)
        try:
            if child is None or not child.end.give(work):
                return  # it has died: the manager's word on it follows, and settles this delivery
        except ValueError as exc:  # headers nested deeper than a frame may be; no child could be given them
            head, reason = action.head, f"the message cannot be handed to a child: {exc}"
            self._inbox.put(
                lambda now: self._core.on_outcome(action.slot, Outcome("undecodable", head.task, head.id, reason), now)
            )
            return
        self._watch(child)

    def _facts(self, action: Dispatch) -> dict[str, Any]:
        delivery = action.delivery
        queue = self._queues[delivery.queue]
        return {
            "message_id": delivery.message_id,
            "receive_count": delivery.receive_count,
            "sent_at": delivery.sent_at,
            "first_received_at": delivery.first_received_at,
            "group_id": delivery.group_id,
            "deduplication_id": delivery.deduplication_id,
            "attributes": dict(delivery.attributes),
            "message_attributes": {name: dict(value) for name, value in delivery.message_attributes.items()},
            "queue": delivery.queue,
            "logical": queue.logical,
            "queue_url": queue.url,
            "receipt_handle": delivery.receipt_handle,
            "fetch_time": delivery.received_at,
            "timeout": queue.visibility_timeout_seconds,
        }

    def _watch(self, child: Child) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.end.is_sending else 0)
        if self._selector.get_key(child.end.sock).events != wanted:
            self._selector.modify(child.end.sock, wanted, child)

    def _on_child(self, child: Child, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            child.end.push()
            self._watch(child)
        if mask & selectors.EVENT_READ:
            self._listen(child)

    def _listen(self, child: Child) -> bool:
        """Take what a child says; False when there is no more."""
        try:
            frames = child.end.read()
            for frame in frames or ():
                self._on_frame(child, frame)
        except FrameError as exc:
            logger.error("Child %d of slot %d said what is no report: %s; it is stopped", child.pid, child.slot, exc)
            self._request_kill(child)
            frames = None
        if frames is None:
            self._ended(child)
        return bool(frames)

    def _on_frame(self, child: Child, frame: dict[str, Any]) -> None:
        now = time.time()
        if "outcome" in frame:
            self._core.on_outcome(child.slot, outcome_from_json(frame["outcome"]), now)
        if frame.get("ready"):
            self._core.on_slot_ready(child.slot, now)
        if frame.get("retire"):
            self._core.on_slot_retired(child.slot, now)

    def _ended(self, child: Child) -> None:
        """Its socket is closed. If it was idle, its slot is simply gone; else the manager's word says why it died."""
        self._forget(child)
        if self._core.is_idle(child.slot):
            self._core.on_slot_retired(child.slot, time.time())
        elif not self._managed:
            self._core.on_slot_lost(child.slot, "its process ended", time.time())

    def _forget(self, child: Child) -> None:
        if self._children.get(child.slot) is child:
            del self._children[child.slot]
            self._selector.unregister(child.end.sock)
            child.end.close()

    def _kill(self, action: Kill) -> None:
        child = self._children.get(action.slot)
        if child is not None:
            if action.signum is not None:
                child.end.announce_end()
            self._request_kill(child, action.signum)

    def _request_kill(self, child: Child, signum: int | None = None) -> None:
        wish = {"kill": child.slot, "pid": child.pid, "signum": signum or signal.SIGKILL}
        if not self._managed or not self._control.send(wish):
            os.kill(child.pid, signal.SIGKILL)

    # -- the manager -------------------------------------------------------------------------------

    def _on_control(self) -> None:
        try:
            frames = self._control.read()
        except FrameError:
            frames = None
        if frames is None:
            self._orphaned()
            return
        for value, descriptor in frames:
            if "slot" in value and descriptor is not None:
                self._adopt(int(value["slot"]), int(value["pid"]), descriptor)
            elif "gone" in value:
                self._buried(int(value["gone"]), int(value["pid"]), str(value["reason"]))
            elif "stop" in value:
                self._stop(value["stop"], str(value.get("signal", "")))
            elif "dump" in value:
                logger.warning("State: %s", self._core.snapshot())

    def _adopt(self, slot: int, pid: int, descriptor: int) -> None:
        child = Child(slot, pid, ConsumerEnd(socket.socket(fileno=descriptor)))
        self._children[slot] = child
        self._selector.register(child.end.sock, selectors.EVENT_READ, child)
        self._tell_ready()

    def _buried(self, slot: int, pid: int, reason: str) -> None:
        """The manager says that a child has ended; what it said last may still be unread."""
        child = self._children.get(slot)
        if child is not None and child.pid == pid:
            while self._listen(child):
                pass
            self._forget(child)
        self._core.on_slot_lost(slot, reason, time.time())

    def _orphaned(self) -> None:
        logger.error("The manager process is gone; this worker stops when its running tasks are done")
        self._managed = False
        self._selector.unregister(self._control.sock)
        for slot in self._core.busy_slots():
            if slot not in self._children:
                self._core.on_slot_lost(slot, "its process ended", time.time())
        self._stop("warm", "")

    def _stop(self, mode: StopMode, name: str) -> None:
        now = time.time()
        if not self._core.stopping:
            how = "Warm" if mode == "warm" else "Cold"
            signals.worker_shutting_down.send(sender=self.hostname, sig=name, how=how, exitcode=0)
        self._discovery.stop()
        for receiver in self._receivers.values():
            receiver.stop()
        last = self.config.stop_seconds(mode) + self.config.wait_time_seconds + GIVE_UP_AFTER_DEADLINE_SECONDS
        self._acker.stop_at(now + last)
        self._core.on_stop(mode, now)


def consume(app: Celery, config: WorkerConfig, control: socket.socket) -> None:
    """Be the consumer until it is done; the body of its process or thread."""
    Consumer(app, config, Control(control), (lambda _: None) if config.quiet else _print).run()


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the banner's lines for each queue belong on standard output, as Celery's
