"""Back ends over stores of keys and values: Celery's keys, its documents, and chords by an atomic counter.

A store derives from ``KeyValueStoreBackend`` with ``get``, ``set``, ``delete``, and as it can ``mget``, ``expire``, ``incr``
(``implements_incr``) and ``add``. Keys: https://docs.celeryq.dev/en/stable/internals/reference/celery.backends.base.html
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from pyqs_celery import states
from pyqs_celery.backends import chords
from pyqs_celery.backends.backend import Backend
from pyqs_celery.exceptions import BackendGetMetaError, BackendStoreError, WireError

logger = logging.getLogger("celery.backends.base")
BEGUN, COUNTED = "0", "1"
"""What is kept of a chord's member before and after it is counted."""
CHORD_DONE_SECONDS = 86_400
"""How long a chord is remembered as done, for members that report late."""


def ensure_bytes(text: Any) -> bytes:
    """Text as UTF-8; bytes as they are."""
    return text.encode("utf-8") if isinstance(text, str) else bytes(text)


class KeyValueStoreBackend(Backend):
    """Results as values under ``celery-task-meta-<id>`` and ``celery-taskset-meta-<group id>``.

    ``key_t`` turns text into what the store takes for a key. The option ``global_keyprefix`` of
    ``result_backend_transport_options`` stands before all keys.
    """

    key_t: Callable[[Any], Any] = staticmethod(ensure_bytes)
    task_keyprefix: Any = "celery-task-meta-"
    group_keyprefix: Any = "celery-taskset-meta-"
    chord_keyprefix: Any = "chord-unlock-"
    implements_incr = False
    counts_once = False
    """True if ``count_chord_part`` can neither miss a member nor count it twice, wherever a process dies."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # a subclass may have assigned a plain function, which must not become a method
        self.key_t = getattr(self.key_t, "__func__", self.key_t)
        prefix = (self.app.conf.result_backend_transport_options or {}).get("global_keyprefix") or ""
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        self.task_keyprefix = self.key_t(f"{prefix}{_text(self.task_keyprefix)}")
        self.group_keyprefix = self.key_t(f"{prefix}{_text(self.group_keyprefix)}")
        self.chord_keyprefix = self.key_t(f"{prefix}{_text(self.chord_keyprefix)}")

    # -- what a store does -------------------------------------------------------------------------

    def get(self, key: Any) -> Any:
        """The value of a key, None if there is none."""
        raise NotImplementedError("Must implement the get method.")

    def set(self, key: Any, value: Any) -> Any:
        """Write a value, for ``self.expires`` seconds where the store can forget by itself."""
        raise NotImplementedError("Must implement the set method.")

    def delete(self, key: Any) -> Any:
        """Drop a key; nothing happens if it is not there."""
        raise NotImplementedError("Must implement the delete method")

    def mget(self, keys: Iterable[Any]) -> Any:
        """Many values in the order of their keys (or as a mapping)."""
        return [self.get(key) for key in keys]

    def incr(self, key: Any) -> int:
        """Add one to a number and give the sum, atomically."""
        raise NotImplementedError("Does not implement incr")

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write a value only if the key has none, atomically; True if it was written."""
        raise NotImplementedError("Does not implement add")

    def expire(self, key: Any, value: Any) -> Any:
        """Have the store forget a key in so many seconds, if it can."""

    def _set_with_state(self, key: Any, value: Any, state: str) -> Any:
        """Write a result; a store may keep failures for another time."""
        return self.set(key, value)

    # -- keys --------------------------------------------------------------------------------------

    def get_key_for_task(self, task_id: Any, key: Any = "") -> Any:
        """The key of a task's document. Raises ValueError for an empty id."""
        return self._key(self.task_keyprefix, "task_id", task_id, key)

    def get_key_for_group(self, group_id: Any, key: Any = "") -> Any:
        """The key of a group's document."""
        return self._key(self.group_keyprefix, "group_id", group_id, key)

    def get_key_for_chord(self, group_id: Any, key: Any = "") -> Any:
        """The key of a chord's counter."""
        return self._key(self.chord_keyprefix, "group_id", group_id, key)

    def _key(self, prefix: Any, name: str, value: Any, suffix: Any) -> Any:
        if not value:
            raise ValueError(f"{name} must not be empty. Got {value} instead.")
        return self.key_t("").join([prefix, self.key_t(_text(value)), self.key_t(suffix)])

    # -- documents ---------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        value = self.get(self.get_key_for_task(task_id))
        return self.decode_result(value) if value else {"status": states.PENDING, "result": None}

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = _text(task_id)
        value = self.encode(meta)
        # a later delivery of the same task does not undo a success
        if not self._has_succeeded(task_id):
            self._set_with_state(self.get_key_for_task(task_id), value, state)
        return result

    def task_result_exists(self, task_id: str) -> bool:
        """True if something is stored of a task, whatever it is."""
        what = f"the result of task {task_id}"
        return bool(self._read(lambda _: self.get(self.get_key_for_task(task_id)), task_id, what))

    def _forget(self, task_id: str) -> None:
        self.delete(self.get_key_for_task(task_id))

    def _look(self, task_ids: list[str], ready: frozenset[str]) -> dict[str, dict[str, Any]]:
        cached = {task_id: self._cache[task_id] for task_id in task_ids if task_id in self._cache}
        wanted = [task_id for task_id in task_ids if task_id not in cached]
        keys = [self.get_key_for_task(task_id) for task_id in wanted]
        values = self._mget_now(keys) if wanted else []
        if hasattr(values, "get"):
            values = [values.get(key) for key in keys]
        found = {task_id: meta for task_id, meta in cached.items() if meta["status"] in ready}
        for task_id, value in zip(wanted, values, strict=False):
            meta = self._read(self._decoded, value, f"the result of task {task_id}") if value else None
            if meta is not None and meta["status"] in ready:
                found[task_id] = self._cache[task_id] = meta
        return found

    def _mget_now(self, keys: list[Any]) -> Any:
        message = f"{len(keys)} results cannot be read"
        return self._ensure_retryable(self.mget, keys, fallback_exc=BackendGetMetaError, fallback_msg=message)

    def _decoded(self, value: Any) -> dict[str, Any]:
        return self.decode_result(value)

    # -- groups ------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        value = self.encode({"result": result.as_tuple()})
        self._set_with_state(self.get_key_for_group(group_id), value, states.SUCCESS)
        return result

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        value = self.get(self.get_key_for_group(group_id))
        if not value:
            return None
        meta: dict[str, Any] = self.decode(value)
        meta["result"] = self.app.result_from_tuple(meta["result"])
        return meta

    def _delete_group(self, group_id: str) -> None:
        self.delete(self.get_key_for_group(group_id))

    # -- chords ------------------------------------------------------------------------------------

    @property
    def chord_expires(self) -> Any:
        """Seconds for which a chord's counter is kept: ``result_chord_expires``, else as long as results."""
        wanted = self.app.conf.result_chord_expires
        return self.expires if wanted is None else self.prepare_expires(wanted, int)

    @property
    def _chord_result_expires(self) -> Any:
        """For what a chord and its users both read: the longer of the two; 0 for ever."""
        chord = self.chord_expires
        return max(chord, self.expires) if chord and self.expires else 0

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        """Save the members and set the counter to nothing; without ``incr``, send the task that looks instead."""
        if not self.implements_incr:
            self._ensure_retryable(self._reset_chord, header_result_args[0], len(header_result_args[1]))
            super().apply_chord(header_result_args, body, **kwargs)
            return
        self.ensure_chords_allowed()
        members = self.app.GroupResult(*header_result_args)
        members.save(backend=self)
        self._ensure_retryable(self._reset_chord, members.id, chords.parts(members))
        self.expire(self.get_key_for_group(members.id), self._chord_result_expires)

    def _reset_chord(self, group_id: str, size: int) -> None:
        """Forget an earlier run of a chord that is sent again with its ids; it has ``size`` members."""
        self.delete(self.get_key_for_chord(group_id, ".c"))

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a member; the last collects the values and calls the body."""
        if self.implements_incr and request.group:
            self._ensure_retryable(
                self._count_and_complete,
                request,
                fallback_exc=lambda sentence: BackendStoreError(sentence, task_id=request.id),
                fallback_msg=f"the chord of task {request.id} cannot be counted",
            )

    def _count_and_complete(self, request: Any) -> None:
        group = self._group_of(request)
        if group is not None:
            count, again = self.count_chord_part(request.group, chords.part_of(request))
            self._complete_if_last(request, group, count, again)

    def _group_of(self, request: Any) -> Any:
        """The members of a chord; None if they cannot be had, of which the body is told unless the chord is done."""
        group_id = request.group
        try:
            members = self._restore_group(group_id)
        except (WireError, ValueError, TypeError, KeyError) as exc:
            chords.fail_body(self, request, f"Cannot restore group: {exc!r}")
            return None
        if members is not None:
            return members["result"]
        # real Celery completes chords too, and leaves no mark
        if not self._chord_is_done(group_id) and not chords.is_called(self, request):
            chords.fail_body(self, request, f"GroupResult {group_id} no longer exists")
        return None

    def _complete_if_last(self, request: Any, group: Any, count: int, again: bool) -> None:
        group_id, size = request.group, chords.size_of(request)
        complete = count >= (chords.parts(group) if size is None else size)
        # a count may be too high, by a member that died just after it was added: then the results themselves tell
        if not complete or not (self.counts_once or group.ready()):
            self.expire(self.get_key_for_chord(group_id), self.chord_expires)
            self.expire(self.get_key_for_group(group_id), self._chord_result_expires)
            self.expire(self.get_key_for_task(request.id), self._chord_result_expires)
            return
        if chords.complete_once(self, request, group, doubtful=again):
            self._delete_group(group_id)
            self.delete(self.get_key_for_chord(group_id))
            for member in group.results:
                self.expire(self.get_key_for_task(member.id), self.expires)

    def count_chord_part(self, group_id: str, part: str) -> tuple[int, bool]:
        """Count a member once: the count, and whether this member was counted before.

        A member whose process died between its mark and its count is counted again: too high a count is made good by a look
        at the results, too low a one would never be. A store that can only ``incr`` counts each report, as Celery does.
        """
        counter, mark = self.get_key_for_chord(group_id), self.get_key_for_chord(group_id, f".{part}")
        kept = self.chord_expires or CHORD_DONE_SECONDS
        try:
            fresh = self.add(mark, BEGUN, kept)
        except NotImplementedError:
            return self.incr(counter), False
        if not fresh and _text(self.get(mark) or "") == COUNTED:
            return int(self.get(counter) or 0), True
        count = self.incr(counter)
        self.set(mark, COUNTED)
        self.expire(mark, kept)
        return count, not fresh

    def claim_chord(self, group_id: str, token: str, seconds: int) -> str:
        """Ask for the right to complete a chord: "won", "held" by another for now, or "done"."""
        key = self.get_key_for_chord(group_id, ".c")
        other = "held"
        try:
            if self.add(key, token, seconds):
                return "won"
        except NotImplementedError:  # two at once both win; who comes later does not
            other = "won"
        return "done" if self._chord_is_done(group_id) else other

    def _chord_is_done(self, group_id: str) -> bool:
        found = self.get(self.get_key_for_chord(group_id, ".c"))
        return found is not None and _text(found) == chords.DONE

    def mark_chord_done(self, group_id: str) -> None:
        """The body's message is safe: whoever reports late does nothing."""
        key = self.get_key_for_chord(group_id, ".c")
        self.set(key, chords.DONE)
        self.expire(key, CHORD_DONE_SECONDS)

    def drop_chord_claim(self, group_id: str, token: str) -> None:
        """The body could not be called; somebody else may, unless another has taken over meanwhile."""
        key = self.get_key_for_chord(group_id, ".c")
        found = self.get(key)
        if found is not None and _text(found) == token:
            self.delete(key)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, (bytes, bytearray)) else str(value)
