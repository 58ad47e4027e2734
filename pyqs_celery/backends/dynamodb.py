"""Results in a table of Amazon DynamoDB: ``result_backend = "dynamodb://eu-west-1/celery?ttl_seconds=86400"``.

Items are Celery's: https://docs.celeryq.dev/en/stable/userguide/configuration.html#aws-dynamodb-backend-settings
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pyqs_celery.backends import chords, dynamodb_table
from pyqs_celery.backends.aws import AwsBackend, Refused
from pyqs_celery.backends.backend import TRY_FOR_SECONDS
from pyqs_celery.backends.keyvalue import CHORD_DONE_SECONDS, ensure_bytes
from pyqs_celery.exceptions import BackendGetMetaError, ImproperlyConfigured
from pyqs_celery.utils.backoff import backoff

ITEM_BYTES = 400 * 1024
"""The largest item, names of attributes included.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
"""
NUMBER_BYTES = 21
"""A number in an item, at most."""
KEYS_A_BATCH = 100
LOCAL_PORT = 8000
NOT_THE_CASE = "ConditionalCheckFailedException"
TTL = dynamodb_table.TTL
UNTIL = "claimed_until"
"""Our attribute of marks that stop to hold: DynamoDB drops items by their ``ttl`` days late, so the time is compared."""
NOT_COUNTED = "(attribute_not_exists(chord_parts) OR NOT contains(chord_parts, :part))"


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says. ``ttl_seconds`` below 0 turns Time to Live off, None leaves it as it is."""

    region: str | None = None
    endpoint_url: str | None = None
    key: str | None = None
    secret: str | None = None
    table: str | None = None
    read_units: int | None = None
    write_units: int | None = None
    ttl_seconds: int | None = None


def place_of(url: str) -> Place:
    """Read ``dynamodb://[key:secret@]region-or-host[:port]/[table][?read=&write=&ttl_seconds=]``. Raises ImproperlyConfigured."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    try:
        port = parts.port
        read, write, ttl = (
            int(options[name]) if name in options else None for name in ("read", "write", "ttl_seconds")
        )
    except ValueError as exc:
        raise ImproperlyConfigured(
            f"result_backend dynamodb://: read, write, ttl_seconds and a port are numbers: {exc}"
        ) from exc
    host = unquote(parts.hostname or "") or None
    region, endpoint = host, None
    if host is not None and _is_this_machine(host):
        endpoint = f"http://{f'[{host}]' if ':' in host else host}:{port or LOCAL_PORT}"
        region = "us-east-1"
    return Place(
        region,
        endpoint,
        unquote(parts.username or "") or None,
        unquote(parts.password or "") or None,
        unquote(parts.path[1:]) or None,
        read,
        write,
        ttl,
    )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or bool(ip_address(host))
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Counter:
    """A chord's counter after a member reported, ``again`` if it had before; ``size`` where our producer left it."""

    count: int
    again: bool
    size: int | None

    @classmethod
    def of(cls, item: dict[str, Any], again: bool) -> Counter | None:
        """None for an item without a count."""
        if "chord_count" not in item:
            return None
        size = item.get("chord_size", {}).get("N")
        return cls(int(item["chord_count"]["N"]), again, None if size is None else int(size))

    def is_short_of(self, size: int | None) -> bool:
        """True if more are to report; a count is never too low, so that the results need not be looked at."""
        size = self.size if size is None else size
        return size is not None and self.count < size


class DynamoDBBackend(AwsBackend):
    """Result documents as items of one table, which is created if it is missing.

    ``ttl_seconds`` in the URL is how long items are kept (``result_expires`` is not heeded, as in Celery), and DynamoDB drops
    them: nothing is left for ``celery.backend_cleanup``. All reads are consistent, so that a chord's last member sees what the
    others have stored. The setting ``dynamodb_endpoint_url`` names another server.
    """

    service = "dynamodb"
    region_setting = "it in result_backend, dynamodb://<region>/<table>,"
    supports_autoexpire = True
    supports_native_join = True
    counts_once = True
    supports_result_compression = True
    implements_incr = True
    table_name = "celery"
    read_capacity_units = 1
    write_capacity_units = 1
    time_to_live_seconds: int | None = None

    def __init__(self, url: str | None = None, table_name: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        place = place_of(url) if url else Place()
        self.use_keys(
            place.key, place.secret, "the access key and its secret in result_backend, dynamodb://key:secret@..."
        )
        self.aws_region = place.region
        self.endpoint_url = self.app.conf.get("dynamodb_endpoint_url") or place.endpoint_url
        self.table_name = place.table or table_name or self.table_name
        self.read_capacity_units = place.read_units or self.read_capacity_units
        self.write_capacity_units = place.write_units or self.write_capacity_units
        if place.ttl_seconds is not None:
            self.time_to_live_seconds = place.ttl_seconds
        self._ttl_is_set = self.time_to_live_seconds is None

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return super().__reduce__(args, {"table_name": self.table_name, **(kwargs or {})})

    @property
    def place(self) -> str:
        """The table."""
        return f"DynamoDB table {self.table_name!r} ({self.endpoint_url or self.aws_region or 'default region'})"

    # -- items -------------------------------------------------------------------------------------

    def get(self, key: Any) -> Any:
        """The ``result`` of an item."""
        return _value(self._ask("get_item", Key=_id(key), ConsistentRead=True).get("Item"))

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        """Many of them, a hundred at once."""
        keys = list(keys)
        found: dict[str, Any] = {}
        left = iter(dict.fromkeys(_name(key) for key in keys))
        while batch := list(islice(left, KEYS_A_BATCH)):
            found.update(self._read_batch([{"id": {"S": name}} for name in batch]))
        return [found.get(_name(key)) for key in keys]

    def _read_batch(self, wanted: list[Any]) -> dict[str, Any]:
        """DynamoDB answers as much as it likes: 16 MB, or what the table's capacity allows. The rest is asked for again."""
        found = {}
        attempt, until = 0, self.clock() + TRY_FOR_SECONDS
        while wanted:
            request = {self.table_name: {"Keys": wanted, "ConsistentRead": True}}
            answer = self._ask("batch_get_item", with_table=False, RequestItems=request)
            items = answer.get("Responses", {}).get(self.table_name, ())
            found.update({item["id"]["S"]: _value(item) for item in items})
            wanted = answer.get("UnprocessedKeys", {}).get(self.table_name, {}).get("Keys", [])
            if items:
                attempt, until = 0, self.clock() + TRY_FOR_SECONDS
            elif wanted:
                attempt += 1
                if self.clock() > until:
                    raise BackendGetMetaError(f"{self.place} has no capacity to read {len(wanted)} results")
                self.sleep(backoff(attempt, first=0.05, most=2.0))
        return found

    def set(self, key: Any, value: Any) -> None:
        """Write an item. Raises ResultTooLarge for one over 400 KB."""
        self._put(key, value)

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write an item unless there is one that was added less than its ``expires`` seconds ago."""
        now = self.wall_clock()
        condition = f"attribute_not_exists(id) OR {UNTIL} < :now"
        try:
            self._put(
                key, value, expires, ConditionExpression=condition, ExpressionAttributeValues={":now": _number(now)}
            )
        except Refused as exc:
            if exc.code == NOT_THE_CASE:
                return False
            raise
        return True

    def delete(self, key: Any) -> None:
        """Drop an item."""
        self._ask("delete_item", Key=_id(key))

    def incr(self, key: Any) -> int:
        """Add one to an item's ``chord_count``."""
        return int(self._update(key, "ADD chord_count :one", {":one": _number(1)})["chord_count"]["N"])

    def _put(self, key: Any, value: Any, expires: float | None = None, **conditions: Any) -> None:
        data = ensure_bytes(value)
        item = {**_id(key), "result": {"B": data}, "timestamp": _number(self.wall_clock()), **self._ttl(expires)}
        if expires is not None:
            item[UNTIL] = _number(self.wall_clock() + expires)
        size = len(_name(key)) + len(data) + sum(map(len, item)) + NUMBER_BYTES * (len(item) - 2)
        if size > ITEM_BYTES:
            raise self._too_large(key, size, ITEM_BYTES)
        try:
            self._ask("put_item", Item=item, **conditions)
        except Refused as exc:
            if exc.code == "ValidationException" and "maximum allowed size" in str(exc):
                raise self._too_large(key, size, ITEM_BYTES) from exc
            raise

    def _ttl(self, seconds: float | None = None) -> dict[str, Any]:
        """When DynamoDB may drop an item: as long as results are kept, or a mark's own ``seconds``."""
        if seconds is None:
            seconds = self.time_to_live_seconds
            if seconds is None or seconds < 0:
                return {}
        return {TTL: {"N": str(int(self.wall_clock() + seconds))}}

    def _update(self, key: Any, expression: str, values: dict[str, Any], **conditions: Any) -> dict[str, Any]:
        """Change a counter: what it is then."""
        ttl = self._ttl()
        if ttl:  # a counter is kept as long as its group
            expression += " SET #ttl = :ttl"
            values = {**values, ":ttl": ttl[TTL]}
            conditions["ExpressionAttributeNames"] = {"#ttl": TTL}  # ttl is a reserved word
        answer = self._ask(
            "update_item",
            Key=_id(key),
            UpdateExpression=expression,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_NEW",
            **conditions,
        )
        found: dict[str, Any] = answer["Attributes"]
        return found

    def _ask(self, action: str, *, with_table: bool = True, **request: Any) -> Any:
        if with_table:
            request["TableName"] = self.table_name
        if not self._ttl_is_set:
            self._set_ttl()
        try:
            return self.call(action, **request)
        except Refused as exc:
            if exc.code != dynamodb_table.NO_TABLE:
                raise
        self._create_table()
        return self.call(action, **request)

    def _create_table(self) -> None:
        dynamodb_table.create(self, self.table_name, self.read_capacity_units, self.write_capacity_units)

    def _set_ttl(self) -> None:
        wanted = (self.time_to_live_seconds or 0) >= 0
        with self._lock:
            if not self._ttl_is_set:
                if not dynamodb_table.set_time_to_live(self, self.table_name, wanted):
                    self._create_table()
                    dynamodb_table.set_time_to_live(self, self.table_name, wanted)
                self._ttl_is_set = True

    def cleanup(self) -> None:
        """Nothing: DynamoDB drops items by their ``ttl``."""

    # -- chords ------------------------------------------------------------------------------------

    def _reset_chord(self, group_id: str, size: int) -> None:
        """A counter of 0, without which Celery's workers cannot count. Its size is for ours."""
        item = {**_id(self.get_key_for_chord(group_id)), "chord_count": _number(0), "chord_size": _number(size)}
        self._ask("put_item", Item=item | {"timestamp": _number(self.wall_clock()), **self._ttl()})
        super()._reset_chord(group_id, size)

    def _count_and_complete(self, request: Any) -> None:
        """Most members only count: the group, which may be large, is read by the last."""
        counter = self._count(request.group, chords.part_of(request), "attribute_exists(chord_count) AND ")
        if counter is None:
            super()._count_and_complete(request)
        elif not counter.is_short_of(chords.size_of(request)):
            group = self._group_of(request)
            if group is not None:
                self._complete_if_last(request, group, counter.count, counter.again)

    def count_chord_part(self, group_id: str, part: str) -> tuple[int, bool]:
        """Count a member once, in one step: nobody who dies here leaves it half done."""
        counter = self._count(group_id, part)
        return (counter.count, counter.again) if counter is not None else (0, True)

    def _count(self, group_id: str, part: str, only_if: str = "") -> Counter | None:
        """None if there is no counter and ``only_if`` asks for one."""
        key, mark = self.get_key_for_chord(group_id), _short(part)
        values = {":one": _number(1), ":parts": {"SS": [mark]}, ":part": {"S": mark}}
        expression = "ADD chord_count :one, chord_parts :parts"
        try:
            return Counter.of(self._update(key, expression, values, ConditionExpression=only_if + NOT_COUNTED), False)
        except Refused as exc:
            if exc.code != NOT_THE_CASE:
                raise
        projection = "chord_count, chord_size"
        answer = self._ask("get_item", Key=_id(key), ConsistentRead=True, ProjectionExpression=projection)
        return Counter.of(answer.get("Item", {}), True)

    def mark_chord_done(self, group_id: str) -> None:
        """The body's message is safe: whoever reports late does nothing."""
        self._put(self.get_key_for_chord(group_id, ".c"), chords.DONE, CHORD_DONE_SECONDS)


def _name(key: Any) -> str:
    """A key as Celery writes it: the text that Python shows for bytes, quotes included."""
    return repr(ensure_bytes(key))


def _id(key: Any) -> dict[str, Any]:
    return {"id": {"S": _name(key)}}


def _number(value: float) -> dict[str, str]:
    return {"N": str(value)}


def _value(item: Any) -> Any:
    found = (item or {}).get("result", {})
    return found.get("B", found.get("S"))


def _short(part: str) -> str:
    """A member in eleven letters: a counter is written as a whole each time, and each kilobyte of it is paid for."""
    return base64.urlsafe_b64encode(hashlib.blake2b(part.encode(), digest_size=8).digest()).decode().rstrip("=")
