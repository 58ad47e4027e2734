"""A child: takes one piece of work after another, runs it, and reports the outcome without its value.

It never talks to SQS about its own message. In a process of its own it has one thread; in the threads pool it is one
thread of the consumer's process, and then soft time limits and recycling by memory do not apply.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pyqs_celery import dedupe, events, execution
from pyqs_celery.concurrency import prefork
from pyqs_celery.exceptions import CannotVerify, MissingExtra, SoftTimeLimitExceeded, UnacceptedContent, WireError
from pyqs_celery.outcome import Outcome
from pyqs_celery.utils import aio
from pyqs_celery.utils.text import one_line
from pyqs_celery.wire.body import decode_body
from pyqs_celery.wire.envelope import head_from_plain
from pyqs_celery.wire.message import Head, TaskMessage
from pyqs_celery.worker.channel import ChildEnd, outcome_to_json
from pyqs_celery.worker.config import WorkerConfig
from pyqs_celery.worker.core.disposition import is_final_failure
from pyqs_celery.worker.core.values import Fault
from pyqs_celery.worker.faults import exception_of
from pyqs_celery.worker.policies import may_import, policy_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.worker.request")


class SoftTimeLimit:
    """Raises SoftTimeLimitExceeded inside its block after ``seconds``; says so once the block has ended. Main thread only."""

    def __init__(self, seconds: float, task: str) -> None:
        self.seconds = seconds
        self.task = task
        self.exceeded = False

    def _raise(self, signum: int, frame: FrameType | None) -> None:
        self.exceeded = True
        limit = SoftTimeLimitExceeded()
        if not aio.interrupt(limit):
            raise limit

    def __enter__(self) -> Self:
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self.exceeded:
            logger.warning("Soft time limit (%ss) exceeded for %s", self.seconds, self.task)


class Work(NamedTuple):
    """What the consumer gives.

    A head as plain builtins, SQS's facts, whether a failure (``last``) or a soft time-out would be final, the soft time
    limit in seconds, and the fault if there is only that to record.
    """

    head: Any
    sqs: dict[str, Any]
    last: bool
    last_timeout: bool
    soft: float | None = None
    fault: tuple[Any, str] | None = None


class ChildLoop:
    """The life of one child on one channel. ``is_process`` says that it has a process for itself."""

    def __init__(self, app: Celery, config: WorkerConfig, channel: ChildEnd, *, is_process: bool) -> None:
        self.app = app
        self.config = config
        self.channel = channel
        self.is_process = is_process
        self._done = 0

    def run(self) -> None:
        """Work until the consumer closes the channel or this child is due for replacement."""
        self.app.set_current()
        self.channel.tell(ready=True)
        while True:
            work = self.channel.next_work()
            if not work:
                return
            outcome = self._perform(Work(*work))
            self._done += 1
            retire = self._is_spent()
            self.channel.tell(outcome=outcome_to_json(outcome), retire=retire)
            if retire:
                return

    def _is_spent(self) -> bool:
        if not self.is_process:
            return False
        if self.config.max_tasks_per_child and self._done >= self.config.max_tasks_per_child:
            return True
        limit = self.config.max_memory_per_child
        if not limit:
            return False
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = used // 1024 if sys.platform == "darwin" else used
        if used <= limit:
            return False
        logger.warning("Child process exceeding memory limit (%sKiB > %sKiB): it is replaced", used, limit)
        return True

    def _perform(self, work: Work) -> Outcome:
        """One delivery, from its head to its outcome."""
        head = head_from_plain(work.head)
        conf = self.app.conf
        store = conf.security_cert_store
        try:
            message = decode_body(
                head,
                accept_content=conf.accept_content,
                pickle_allowed_classes=conf.pickle_allowed_classes,
                certificates=[store] if isinstance(store, str) else store,
                digest=conf.security_digest,
                decompressed_most=conf.worker_max_decompressed_bytes,
            )
        except WireError as exc:
            return _unreadable(head, exc)
        if head.protocol == "pyqs" and message.task not in self.app.tasks:
            self._import(message.task)
        if work.fault is not None:
            return self._record(message, work.sqs, Fault(*work.fault))
        if head.sealed:
            now = time.time()
            if message.expires_at is not None and message.expires_at <= now:
                return self._record(message, work.sqs, Fault("TaskRevokedError", "expired"))
            if message.eta_at is not None and message.eta_at > now:
                return Outcome("deferred", message.task, message.id, eta=message.eta_at)
            work = self._unsealed(work, message)
        return self._run(message, work)

    def _run(self, message: TaskMessage, work: Work) -> Outcome:
        """Run it, unless another delivery has done that or is at it."""
        claims = dedupe.deduplication(self.app)
        task = self.app.tasks.get(message.task)
        if claims is None or task is None or message.id is None:
            return self._call(message, work)
        limits = (message.timelimit[0], task.time_limit, self.config.time_limit)
        claim = claims.claim(message, next((limit for limit in limits if limit), None))
        if isinstance(claim, Outcome):
            return claim
        outcome = self._call(message, work)
        claims.end(claim, outcome)
        return outcome

    def _call(self, message: TaskMessage, work: Work) -> Outcome:
        hooks = _Hooks(message, work.sqs)
        hooks.before()
        shown = f"{message.task}[{message.id}]"
        limit = SoftTimeLimit(work.soft, shown) if work.soft and self.is_process else None
        outcome = execution.execute(
            self.app,
            message,
            sqs=work.sqs,
            hostname=self.config.hostname,
            last_delivery=work.last,
            last_timeout=work.last_timeout,
            time_limit=limit,
        )
        hooks.after(outcome)
        return outcome

    def _record(self, message: TaskMessage, sqs: dict[str, Any], fault: Fault) -> Outcome:
        """Do what the process that ran it would have done had its task merely failed, or tell that it has expired."""
        if fault.exception == "TaskRevokedError":
            return execution.record_expiry(self.app, message, sqs=sqs, hostname=self.config.hostname)
        exc = exception_of(fault, f"{one_line(message.task)}[{one_line(message.id or sqs['message_id'])}]")
        return execution.record_failure(self.app, message, sqs=sqs, hostname=self.config.hostname, exc=exc)

    def _unsealed(self, work: Work, message: TaskMessage) -> Work:
        """What the core could not know of a message whose task only a child may read."""
        soft = message.timelimit[1] if message.timelimit[1] is not None else work.soft
        task = self.app.tasks.get(message.task)
        if task is None:
            return work._replace(soft=soft)
        policy = policy_of(task, self.app.conf, self.config)
        return work._replace(
            soft=soft,
            last=is_final_failure(policy, last_delivery=work.last, timed_out=False),
            last_timeout=is_final_failure(policy, last_delivery=work.last_timeout, timed_out=True),
        )

    def _import(self, path: str) -> None:
        """PyQS's way: the message names a function by its path. Only modules the worker was started with are imported."""
        module = path.rpartition(".")[0]
        if not module or not may_import(path, self.config.import_patterns):
            return
        try:
            import_module(module)
        except (Exception, SystemExit):
            logger.exception("The module of task %s cannot be imported", one_line(path))


def _unreadable(head: Head, exc: WireError) -> Outcome:
    """Where only an extra or a certificate is missing here, another worker may read it; else nobody can."""
    kind = "disallowed" if isinstance(exc, UnacceptedContent) else "undecodable"
    reason = one_line(exc)
    if isinstance(exc, (MissingExtra, CannotVerify)):
        return Outcome("unsupported", head.task, head.id, reason)
    return Outcome("undecodable", head.task, head.id, f"{kind}: {reason}", exception=type(exc).__name__)


class _Hooks:
    """PyQS's hooks around one run. What a hook raises is told and changes nothing."""

    def __init__(self, message: TaskMessage, sqs: dict[str, Any]) -> None:
        self._registered = events.get_events()
        self._context: dict[str, Any] = {}
        if self._registered.pre_process or self._registered.post_process:
            self._context = {
                "message_id": sqs["message_id"],
                "task_name": message.task.rpartition(".")[2],
                "args": message.args,
                "kwargs": message.kwargs,
                "full_task_path": message.task,
                "fetch_time": sqs["fetch_time"],
                "queue_url": sqs["queue_url"],
                "timeout": sqs["timeout"],
                "receipt_handle": sqs["receipt_handle"],
            }

    def before(self) -> None:
        """Call ``pre_process``."""
        self._call(self._registered.pre_process, self._context)

    def after(self, outcome: Outcome) -> None:
        """Call ``post_process``."""
        failed = outcome.kind in ("failed", "rejected", "unknown", "unsupported")
        facts = {"status": "exception", "exception": outcome.reason} if failed else {"status": "success"}
        self._call(self._registered.post_process, {**self._context, **facts})

    def _call(self, hooks: list[events.Hook], context: dict[str, Any]) -> None:
        for hook in hooks:
            try:
                hook(dict(context))
            except Exception:  # a hook must not fail the task
                logger.exception("PyQS hook %r raised", hook)


def work(app: Celery, config: WorkerConfig, channel: ChildEnd) -> None:
    """Be a child process until there is no more work; its body between fork and exit."""
    prefork.process_initializer(app, config.hostname)
    try:
        ChildLoop(app, config, channel, is_process=True).run()
    except (ConnectionError, BrokenPipeError):
        pass  # the consumer is gone; the message of a finished task will be seen again
    finally:
        aio.close()
        prefork.process_destructor(os.getpid(), 0)
