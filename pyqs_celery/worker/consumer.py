"""The consumer: the only process (or thread) of a worker that talks to SQS, and the shell around the core.

Its loop waits for children, the manager and its own threads, tells the core what happened, and does what the core
asks. It runs no user code but signal receivers, never opens arguments, and never forks.
"""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyqs_celery import revocation, signals
from pyqs_celery.broker.client import SqsClient
from pyqs_celery.broker.connections import Timeouts
from pyqs_celery.broker.delivery import Delivery, QueueInfo
from pyqs_celery.broker.limits import READ_MARGIN_SECONDS
from pyqs_celery.exceptions import BrokerError, QueueDoesNotExist
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils.log import Troubles
from pyqs_celery.utils.output import say
from pyqs_celery.wire.envelope import decode_head, head_to_plain
from pyqs_celery.worker import policies
from pyqs_celery.worker.acker import Acker
from pyqs_celery.worker.attendants import Attendant, EcsProtection, IdleExit, ecs_agent
from pyqs_celery.worker.channel import Control, FrameError
from pyqs_celery.worker.children import Child, Children
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.engine import WorkerCore
from pyqs_celery.worker.core.polls import EXTRA_MOST
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
from pyqs_celery.worker.io import Inbox, IoThreads, allow_descriptors
from pyqs_celery.worker.keeper import Keeper
from pyqs_celery.worker.notes import Notes
from pyqs_celery.worker.panel import Panel
from pyqs_celery.worker.receiver import Receiver, Watchdog
from pyqs_celery.worker.reporter import Reporter
from pyqs_celery.worker.request import sqs_facts
from pyqs_celery.worker.revoked import RevokedWatch

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker.consumer.consumer")
ready_log = logging.getLogger("celery.apps.worker")
POOL_SIZE = 5000
"""More connections than queues and threads; those that are not used are not made."""
SETTLE_THREADS = 4
KEEP_THREADS = 2
GIVE_UP_AFTER_DEADLINE_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 3600.0
"""A wait that the operating system takes, however far the next instant is: it takes no more than 24 days."""


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
        quick = Timeouts(read=READ_MARGIN_SECONDS)
        self._calls = SqsClient(self._broker, pool_size=POOL_SIZE, timeouts=quick, like=self._client)
        marks = revocation.revocations(app)
        core_config = policies.core_config(config, keeps_results=marks is not None)
        self._policies = policies.TaskPolicies(app, config)
        self._core = WorkerCore(core_config, self._policies, decode_head)
        self._notes = Notes(app, config.hostname, self)
        self._inbox = Inbox()
        self._threads = (
            IoThreads("settle", SETTLE_THREADS, self._inbox.put),
            IoThreads("keep", KEEP_THREADS, self._inbox.put),
            IoThreads("revoked", 1, self._inbox.put),
            IoThreads("receive", EXTRA_MOST, self._inbox.put),
        )
        self._revoked: RevokedWatch | None = None
        if marks is not None:
            end, can_end = self._core.on_revoked, config.pool == "prefork"
            self._revoked = RevokedWatch(marks.to_terminate, self._threads[2], end, can_end=can_end)
        self._acker = Acker(self._calls, self._queue, self._threads[0], self._core.on_settled, self._core.on_refused)
        self._keeper = Keeper(self._calls, self._queue, self._threads[1], self._core.on_extended)
        self._discovery = Discovery(
            self._calls,
            config,
            config.queues or app.consume_queues(),
            found=lambda queues: self._inbox.put(lambda now: self._on_found(queues, now)),
            refused=lambda sentence: self._inbox.put(lambda _: self._on_refused(sentence)),
        )
        self._queues: dict[str, QueueInfo] = {}
        self._receivers: dict[str, Receiver] = {}
        self._watchdog = Watchdog(self._threads)
        self._troubles = Troubles()
        self._selector = selectors.DefaultSelector()
        self._children = Children(self._core, control, self._selector)
        self._reporter = Reporter(self._core, control, self._children)
        self._panel = Panel(app, config, self._core, self._children, self._policies, self._discovery)
        self._attendants: list[Attendant] = [self._reporter, *self._extra_attendants()]
        self._looked = self._told_ready = self._finished = False

    def _extra_attendants(self) -> Iterator[Attendant]:
        view = self._core.view
        if self.config.exit_when_idle:
            yield IdleExit(
                self.config.exit_when_idle,
                lambda: not self._told_ready or len(view.ledger) > 0,
                lambda why: self._control.send({"stop": why}),
            )
        agent = ecs_agent() if self.config.ecs_task_protection else None
        if agent is not None:
            threads = IoThreads("ecs", 1, self._inbox.put)
            lease = self.config.lease_seconds or policies.DEFAULT_LEASE_SECONDS
            yield EcsProtection(lambda: view.slots.busy > 0, lease, threads, agent)

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until everything is settled after a stop."""
        self._selector.register(self._inbox, selectors.EVENT_READ, self._inbox)
        self._selector.register(self._control.sock, selectors.EVENT_READ, self._control)
        steps = self.app.worker_steps
        if steps is not None:
            steps.start()
        self._discovery.start()
        while not self._finished:
            ready = self._selector.select(self._timeout())
            self._core.on_awake(time.time())
            told = False
            for key, mask in ready:
                if isinstance(key.data, Child):
                    self._children.on_ready(key.data, mask)
                elif key.data is self._control:
                    self._on_control(mask)
                else:
                    told = True
            now = time.time()
            for news in self._inbox.take() if told else ():
                news(now)
            for action in self._core.step(now):
                self._do(action, now)
            self._acker.flush(now)
            self._watchdog.look(now)
            if self._revoked is not None:
                self._revoked.look(self._core.running_ids, now)
            for attendant in self._attendants:
                attendant.look(now)
            self._watch_control()
        self._leave()

    def _timeout(self) -> float | None:
        now = time.time()
        due = [self._core.next_wakeup(now), self._acker.next_due(), self._watchdog.next_due()]
        due += [each.next_due() for each in self._attendants]
        if self._revoked is not None:
            due.append(self._revoked.next_due(busy=self._core.view.slots.busy > 0))
        instants = [each for each in due if each is not None]
        return min(LONGEST_WAIT_SECONDS, max(0.0, min(instants) - now)) if instants else None

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Poll():
                self._poll(action, now)
            case Dispatch():
                self._dispatch(action)
            case Ack() | Release() | Hop() | DeadLetter():
                self._acker.add(action, now)
            case Extend():
                self._keeper.extend(action)
            case Kill():
                self._children.kill(action.slot, action.signum)
            case Note():
                self._panel.noted(action)
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
        self._children.close()
        for attendant in self._attendants:
            attendant.close()
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
            if self._discovery.is_cancelled(self._queues[name]):
                self._core.on_cancelled(name)
            logger.warning("Queue %s is gone or no longer meant; it is served no more", name)
        for queue in fresh:
            self._queues[queue.name] = queue
            receiver = Receiver(
                self._client,
                queue,
                lease_seconds=int(rows[queue.name].lease_seconds),
                wait_seconds=self.config.wait_time_seconds,
                on_polled=self._polled,
                troubles=self._troubles,
            )
            self._receivers[queue.name] = self._watchdog.add(receiver)
            line = policies.describe(rows[queue.name])
            logger.info("Queue %s", line)
            self._say(f"  queue:       {line}")
        self._core.set_queues(rows.values(), now)
        self._reporter.vitals.serve(rows)
        self._reporter.missing = self._discovery.lacking
        self._tell_ready()

    def _policy(self, queue: QueueInfo) -> QueuePolicy:
        return policies.queue_policy(queue, self.config, self._broker, self.app.conf.sqs_dead_letter_queue)

    def _poll(self, action: Poll, now: float) -> None:
        receiver, count = self._receivers[action.queue], min(action.count, self.config.batch_size)
        if action.extra:
            self._threads[3].ask(
                lambda: receiver.poll_once(count),
                lambda brought, later: self._core.on_polled(action.queue, brought, later, extra=True),
                key=action.queue,
                hung=_nothing,
            )
        else:
            self._reporter.vitals.asked(action.queue, now)
            receiver.poll(count)

    def _polled(self, queue: str, deliveries: list[Delivery], error: BrokerError | None) -> None:
        """Called from receivers' threads."""
        self._inbox.put(lambda now: self._on_polled(queue, deliveries, error, now))
        if isinstance(error, QueueDoesNotExist):
            self._discovery.vanished(queue)

    def _on_polled(self, queue: str, deliveries: list[Delivery], error: BrokerError | None, now: float) -> None:
        self._reporter.vitals.answered(queue, str(error) if error is not None else None, now)
        self._core.on_polled(queue, deliveries, now)

    def _on_refused(self, sentence: str) -> None:
        self._control.send({"boot_failed": sentence})
        self._finished = True

    def _tell_ready(self) -> None:
        if self._told_ready or not self._looked or not self._children:
            return
        self._told_ready = True
        self._reporter.turn("ready")
        logger.info("Connected to %s", self._broker.shown)
        ready_log.info("%s ready.", self.hostname)
        signals.worker_ready.send(sender=self)

    # -- children ----------------------------------------------------------------------------------

    def _dispatch(self, action: Dispatch) -> None:
        self._panel.count(action.head.task)
        fault = (action.fault.exception, action.fault.detail) if action.fault is not None else None
        finality = (action.last, action.last_timeout)
        facts = sqs_facts(action.delivery, self._queues[action.delivery.queue])
        try:
            self._children.give(
                action.slot, (head_to_plain(action.head), facts, *finality, action.soft_time_limit, fault)
            )
        except ValueError as exc:  # headers nested deeper than a frame may be; no child could be given them
            head, reason = action.head, f"the message cannot be handed to a child: {exc}"
            self._inbox.put(
                lambda now: self._core.on_outcome(action.slot, Outcome("undecodable", head.task, head.id, reason), now)
            )

    # -- the manager -------------------------------------------------------------------------------

    def _watch_control(self) -> None:
        known = self._selector.get_map().get(self._control.sock)
        if known is not None and known.events != self._control.events:
            self._selector.modify(self._control.sock, self._control.events, self._control)

    def _on_control(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._control.push()
        if not mask & selectors.EVENT_READ:
            return
        try:
            frames = self._control.read()
        except FrameError:
            frames = None
        if frames is None:
            self._orphaned()
            return
        for value, descriptor in frames:
            self._on_frame(value, descriptor)

    def _on_frame(self, value: dict[str, Any], descriptor: int | None) -> None:
        if "slot" in value and descriptor is not None:
            self._children.adopt(int(value["slot"]), int(value["pid"]), descriptor)
            self._tell_ready()
        elif "gone" in value:
            self._children.buried(int(value["gone"]), int(value["pid"]), str(value["reason"]))
        elif "stop" in value:
            self._stop(value["stop"], str(value.get("signal", "")))
        elif "ask" in value:
            self._answer(value)
        elif "concurrency" in value:
            self._core.config = replace(self._core.config, concurrency=int(value["concurrency"]))
        elif "retire" in value:
            self._children.retire(value["retire"])
        elif "dump" in value:
            logger.warning("State: %s", self._core.snapshot())

    def _orphaned(self) -> None:
        logger.error("The manager process is gone; this worker stops when its running tasks are done")
        self._selector.unregister(self._control.sock)
        self._children.orphaned()
        self._stop("warm", "")

    def _answer(self, question: dict[str, Any]) -> None:
        answer = self._panel.answer(question["command"], question["arguments"])
        self._control.send({"answer": question["ask"], "reply": answer.reply, "dismissed": answer.dismissed})
        self._children.retire(answer.retired)

    def _stop(self, mode: StopMode, name: str) -> None:
        now = time.time()
        self._reporter.turn("stopping")
        if not self._core.stopping:
            how = "Warm" if mode == "warm" else "Cold"
            signals.worker_shutting_down.send(sender=self.hostname, sig=name, how=how, exitcode=0)
        self._discovery.stop()
        for receiver in self._receivers.values():
            receiver.stop()
        last = self.config.stop_seconds(mode) + self.config.wait_time_seconds + GIVE_UP_AFTER_DEADLINE_SECONDS
        self._acker.stop_at(now + last)
        self._core.on_stop(mode, now)


def _nothing() -> list[Delivery]:
    """What a receive that hangs has brought."""
    return []


def consume(app: Celery, config: WorkerConfig, control: socket.socket) -> None:
    """Be the consumer until it is done; the body of its process or thread."""
    allow_descriptors()
    Consumer(app, config, Control(control), (lambda _: None) if config.quiet else say).run()
