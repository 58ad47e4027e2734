"""Chords in Redis: Celery's keys, counted and claimed by one script, so that Celery's workers may finish them as well.

Beside a group's key: ``.j`` the members' results in order, ``.s`` how many there will be, ``.t`` how many were added, ``.d``
which members have reported, ``.c`` who completes the chord and then "done". Celery up to 5.6 knows the first three.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pyqs_celery import states
from pyqs_celery.backends import chords
from pyqs_celery.backends.keyvalue import CHORD_DONE_SECONDS
from pyqs_celery.backends.spreading import chord_error
from pyqs_celery.exceptions import BackendStoreError

logger = logging.getLogger("celery.backends.redis")
PUBLISH_SECONDS = 30
"""How much longer a claim is kept once the values are there: the time to send the body."""

# A second run of a member counts nothing, whatever its value is. What Celery 5.6 has counted is only in .j: a value at the
# same place with the same id.
REPORT = """
local j, s, t, d, c, saved = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, place, value = ARGV[1], ARGV[2], ARGV[3]
local ordered, seconds, saved_seconds = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local token, claim_seconds = ARGV[7], ARGV[8]
local owner = redis.call('GET', c)
if owner == 'done' then
    return {'done', 0}
end
local fresh = redis.call('SADD', d, id .. ':' .. place)
if fresh == 1 and ordered and place ~= '+inf' then
    for _, other in ipairs(redis.call('ZRANGEBYSCORE', j, place, place)) do
        if string.find(other, id, 1, true) then
            fresh = 0
        end
    end
end
if fresh == 1 and ordered then
    redis.call('ZADD', j, place, value)
elseif fresh == 1 then
    redis.call('RPUSH', j, value)
end
if seconds > 0 then
    for _, key in ipairs({j, s, t, d}) do
        redis.call('EXPIRE', key, seconds)
    end
    if saved_seconds > 0 then
        redis.call('EXPIRE', saved, saved_seconds)
    end
end
local size = redis.call('GET', s)
if not size then
    return {'counted', fresh}
end
local count = redis.call(ordered and 'ZCARD' or 'LLEN', j)
if count < tonumber(size) + tonumber(redis.call('GET', t) or 0) then
    return {'counted', fresh}
end
if owner == token or redis.call('SET', c, token, 'NX', 'EX', claim_seconds) then
    return {'won', fresh}
end
return {'held', fresh}
"""
EXTEND = """
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] or (not owner and redis.call('EXISTS', KEYS[2]) == 1) then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return 1
end
return 0
"""
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
"""


class RedisChords:
    """The mixin of ``RedisBackend`` that counts."""

    app: Any
    client: Any
    chord_expires: Any
    _chord_result_expires: Any
    _transport_options: Mapping[str, Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    encode_result: Callable[[Any, str], Any]
    exception_to_python: Callable[[Any], Any]
    get_key_for_group: Callable[..., Any]
    _ensure_retryable: Callable[..., Any]
    _restore_group: Callable[[str], Any]
    _run: Callable[..., Any]

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Told how many members a chord has; a chord that is sent again with its ids is a new one."""

        def write() -> None:
            with self.client.pipeline() as pipe:
                pipe.delete(self.get_key_for_group(group_id, ".c"))
                pipe.set(self.get_key_for_group(group_id, ".s"), chord_size, ex=self.chord_expires or None)
                pipe.execute()

        self._chord_write(group_id, write)

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        """Keep a header whose members are groups, since their values are to come as lists; others need nothing."""
        from pyqs_celery.result import GroupResult

        header = self.app.GroupResult(*header_result_args)
        if any(isinstance(member, GroupResult) for member in header.results):
            key, value = self.get_key_for_group(header.id), self.encode({"result": header.as_tuple()})
            self._chord_write(header.id, lambda: self.client.set(key, value, ex=self.chord_expires or None))

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        """One more member for a chord that is under way."""
        self._chord_write(chord_id, lambda: self.client.incr(self.get_key_for_group(chord_id, ".t")))

    def _chord_write(self, group_id: str, write: Callable[[], Any]) -> Any:
        message = f"chord {group_id} cannot be kept in Redis"
        return self._ensure_retryable(self._run, write, fallback_exc=BackendStoreError, fallback_msg=message)

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a member, once; who completes the chord calls the body.

        Raises BackendStoreError and OperationalError if the member's message must come again.
        """
        if not request.id or not request.group:
            return
        report = self._report(request, state, result)
        counted_now: list[bool] = []

        def claim(token: str, seconds: int) -> str:
            answer, fresh = report(token, seconds)
            counted_now.append(fresh)
            return answer

        token, was_held = chords.claimed(self, request.group, claim)
        if token is not None:
            self._complete(request, token, doubtful=was_held or not counted_now[0])

    def _report(self, request: Any, state: str, result: Any) -> Callable[[str, int], tuple[str, bool]]:
        """The call of the script that counts a member and claims a complete chord; it may be called again."""
        group_id = request.group
        value = self.encode([1, request.id, state, self.encode_result(result, state)])
        place = "+inf" if request.group_index is None else request.group_index
        keys = [self.get_key_for_group(group_id, suffix) for suffix in (".j", ".s", ".t", ".d", ".c", "")]
        script = self.client.register_script(REPORT)
        expiry = (self.chord_expires or 0, self._chord_result_expires)

        def report(token: str, seconds: int) -> tuple[str, bool]:
            words = [request.id, place, value, int(self._chord_ordered), *expiry, token, seconds]
            answer, fresh = self._chord_write(group_id, lambda: script(keys=keys, args=words))
            return answer if isinstance(answer, str) else answer.decode("ascii"), bool(fresh)

        return report

    @property
    def _chord_ordered(self) -> bool:
        return bool(self._transport_options.get("result_chord_ordered", True))

    def _complete(self, request: Any, token: str, *, doubtful: bool) -> None:
        group_id = request.group
        claim = self.get_key_for_group(group_id, ".c")
        try:
            if not (doubtful and chords.is_called(self, request)):
                group: list[Any] = []
                chords.call_body(self, request, lambda: self._values(group_id, token, group), lambda: group)
        except BaseException:
            release = self.client.register_script(RELEASE)
            self._chord_write(group_id, lambda: release(keys=[claim], args=[token]))
            raise
        try:
            self._chord_write(group_id, lambda: self._mark_done(group_id))
        except BackendStoreError as exc:  # the body has been called; this member has nothing left to do
            logger.warning("%s: a member that reports again could call the body again", exc)

    def _mark_done(self, group_id: str) -> None:
        with self.client.pipeline() as pipe:
            pipe.set(self.get_key_for_group(group_id, ".c"), chords.DONE, ex=CHORD_DONE_SECONDS)
            pipe.delete(*(self.get_key_for_group(group_id, suffix) for suffix in (".j", ".s", ".t", ".d")))
            pipe.execute()

    def _values(self, group_id: str, token: str, group: list[Any]) -> list[Any]:
        """The members' values in order; ``group`` is filled with the results if they are joined.

        Raises ChordError for the first that failed, BackendStoreError if another worker completes the chord now.
        """
        keys = [self.get_key_for_group(group_id, suffix) for suffix in (".c", ".s")]
        extend = self.client.register_script(EXTEND)
        seconds = chords.claim_seconds(self.app) + PUBLISH_SECONDS
        if not self._chord_write(group_id, lambda: extend(keys=keys, args=[token, seconds])):
            raise BackendStoreError(f"chord {group_id} is being completed by another worker")
        saved = self._chord_write(group_id, lambda: self._restore_group(group_id))
        if saved is not None:
            group.extend(saved["result"].results)
            return chords.joined(self, saved["result"])
        key = self.get_key_for_group(group_id, ".j")
        read = self.client.zrange if self._chord_ordered else self.client.lrange
        return [self._value(entry) for entry in self._chord_write(group_id, lambda: read(key, 0, -1))]

    def _value(self, entry: Any) -> Any:
        _, task_id, state, value = self.decode(entry)
        if state in states.EXCEPTION_STATES:
            value = self.exception_to_python(value)
        if state in states.PROPAGATE_STATES:
            raise chord_error(f"Dependency {task_id} raised {value!r}", value)
        return value
