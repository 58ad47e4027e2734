"""Signals: functions that are called when something happens, and cannot stop it from happening."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("celery.utils.dispatch.signal")
Receiver = Callable[..., Any]


class Signal:
    """One kind of event. Receivers are called with keyword arguments, plus ``signal`` and ``sender``.

    Interface and defaults are those of Celery's signals: https://docs.celeryq.dev/en/stable/userguide/signals.html
    """

    def __init__(self, name: str, providing_args: frozenset[str] | set[str] = frozenset()) -> None:
        self.name = name
        self.providing_args = frozenset(providing_args)
        self.receivers: list[tuple[Any, Any, Any]] = []  # (key, sender key, strong or weak reference)

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Call a function at each event: ``connect(fn)``, ``@connect`` or ``@connect(sender=..., weak=...)``.

        ``sender`` limits it to one sender, ``weak=False`` keeps the function alive, ``dispatch_uid`` makes a second
        connect of the same uid replace nothing. The function must accept ``**kwargs``.
        """
        if args and callable(args[0]):
            return self._connect(args[0], *args[1:], **kwargs)
        return lambda function: self._connect(function, *args, **kwargs)

    def _connect(
        self, receiver: Receiver, sender: Any = None, weak: bool = True, dispatch_uid: Any = None, retry: bool = False
    ) -> Receiver:
        key = dispatch_uid if dispatch_uid is not None else _identity(receiver)
        entry = (key, _sender_key(sender), _reference(receiver) if weak else lambda: receiver)
        if not any(known[:2] == entry[:2] and known[2]() is not None for known in self.receivers):
            self.receivers.append(entry)
        return receiver

    def disconnect(
        self, receiver: Receiver | None = None, sender: Any = None, weak: Any = None, dispatch_uid: Any = None
    ) -> bool:
        """Undo a connect; True if there was one."""
        key = dispatch_uid if dispatch_uid is not None else _identity(receiver)
        wanted = (key, _sender_key(sender))
        kept = [entry for entry in self.receivers if entry[:2] != wanted]
        found = len(kept) != len(self.receivers)
        self.receivers = kept
        return found

    def has_listeners(self, sender: Any = None) -> bool:
        """True if anybody would be called."""
        return bool(self.receivers) and bool(self._live(sender))

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; each with its return value, or the exception it raised, which is logged and goes no further."""
        answers: list[tuple[Receiver, Any]] = []
        if not self.receivers:
            return answers
        for receiver in self._live(sender):
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **named)))
            except Exception as exc:  # a receiver of the user's must not fail the task or the send
                logger.exception("Signal handler %r raised", receiver)
                answers.append((receiver, exc))
        return answers

    send_robust = send

    def _live(self, sender: Any) -> list[Receiver]:
        wanted = _sender_key(sender)
        found, dead = [], False
        for _, sender_key, reference in self.receivers:
            if sender_key is not None and sender_key != wanted:
                continue
            receiver = reference()
            if receiver is None:
                dead = True
            else:
                found.append(receiver)
        if dead:
            self.receivers = [entry for entry in self.receivers if entry[2]() is not None]
        return found

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={set(self.providing_args)!r}>"


def _identity(receiver: Any) -> Any:
    if hasattr(receiver, "__func__") and hasattr(receiver, "__self__"):
        return (id(receiver.__self__), id(receiver.__func__))
    return id(receiver)


def _sender_key(sender: Any) -> Any:
    """Senders compare by name when they are tasks or text, so a lazy proxy and its task are the same."""
    if sender is None:
        return None
    name = sender if isinstance(sender, str) else getattr(sender, "name", None)
    return name if isinstance(name, str) else id(sender)


def _reference(receiver: Receiver) -> Callable[[], Receiver | None]:
    if hasattr(receiver, "__func__") and hasattr(receiver, "__self__"):
        return weakref.WeakMethod(receiver)
    try:
        return weakref.ref(receiver)
    except TypeError:
        return lambda: receiver  # builtins cannot be referenced weakly
