"""The base of all result back ends: what a result document holds, how it is written and read, and what is tried again.

A store of your own derives from ``Backend`` (methods ``_store_result``, ``_get_task_meta_for``, ``_forget``,
``_save_group``, ``_restore_group``, ``_delete_group``) or, for keys and values, from ``KeyValueStoreBackend``. Names and
documents are Celery's: https://docs.celeryq.dev/en/stable/reference/celery.backends.base.html
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kombu.exceptions import EncodeError
from kombu.serialization import registry

from pyqs_celery import _state, states
from pyqs_celery.backends import exceptions
from pyqs_celery.backends.spreading import Spreading
from pyqs_celery.backends.waiting import Waiting
from pyqs_celery.exceptions import (
    BackendError,
    BackendGetMetaError,
    BackendStoreError,
    ImproperlyConfigured,
    ResultTooLarge,
    WireError,
)
from pyqs_celery.exceptions import TimeoutError as ResultTimeout
from pyqs_celery.result_base import ResultBase
from pyqs_celery.utils.backoff import backoff
from pyqs_celery.utils.log import Sometimes
from pyqs_celery.utils.serialization import get_pickleable_exception, get_pickled_exception
from pyqs_celery.wire import serializers
from pyqs_celery.wire.compression import compress, decompress
from pyqs_celery.wire.dumping import dumps

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

logger = logging.getLogger("celery.backends.base")
PACKED = b"\x00celery-compressed\x00"
"""Stands before a compressed document, with its content type after it (Celery 5.7)."""
TRY_FOR_SECONDS = 10.0
"""How long a call to a store that fails is tried again, unless ``result_backend_always_retry`` says otherwise."""
MOST_UNPACKED_BYTES = 256 * 1024 * 1024


class Backend(Spreading, Waiting):
    """A result back end of one application.

    ``expires`` (seconds or timedelta; None: ``result_expires``), ``serializer`` and ``accept`` (None: the settings) and
    ``url`` are what Celery's constructor takes. ``clock`` and ``sleep`` are attributes, for tests.
    """

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES
    TimeoutError = ResultTimeout
    subpolling_interval: float | None = None
    supports_native_join = False
    """True if ``get_many`` reads several results at once."""
    supports_autoexpire = False
    """True if the store drops results by itself, so that ``celery.backend_cleanup`` need not be sent."""
    supports_result_compression = False
    """True if any bytes can be stored and come back as they were."""
    joins_by_results = True
    """True if a chord's values are its members' stored results; False if the members leave them with their count."""
    supports_failure_expires = False
    """True if ``result_failure_expires`` is heeded."""
    persistent = True
    thread_safe = False
    """True if all threads of a process may share one object."""
    try_for_seconds = TRY_FOR_SECONDS
    most_tries = float("inf")
    clock: Callable[[], float] = staticmethod(time.monotonic)
    sleep: Callable[[float], None] = staticmethod(time.sleep)

    def __init__(
        self,
        app: Celery,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Any = None,
        expires: Any = None,
        expires_type: Any = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.url = url
        conf = app.conf
        self.serializer = serializer or conf.result_serializer
        try:
            self.content_type, self.content_encoding, self.encoder = registry._encoders[self.serializer]
        except KeyError as exc:
            raise ImproperlyConfigured(f"result_serializer {self.serializer!r} is not known to kombu") from exc
        self.compression = self._wanted_compression(conf.result_compression)
        self.expires = self.prepare_expires(expires, expires_type)
        wanted = conf.result_accept_content if accept is None else accept
        self.accept = serializers.accepted_types(conf.accept_content if wanted is None else wanted)
        self.always_retry = bool(conf.result_backend_always_retry)
        self.max_retries = conf.result_backend_max_retries
        self._first_pause = conf.result_backend_base_sleep_between_retries_ms / 1000
        self._most_pause = conf.result_backend_max_sleep_between_retries_ms / 1000
        self._tell = Sometimes()
        self._cache = MetaCache(max_cached_results or conf.result_cache_max)
        if conf.result_failure_expires is not None and not self.supports_failure_expires:
            warnings.warn(f"{type(self).__name__} does not heed result_failure_expires", UserWarning, stacklevel=3)

    def as_uri(self, include_password: bool = False) -> str:
        """Where results are kept, the password shown as asterisks unless ``include_password``."""
        from kombu.utils.url import maybe_sanitize_url

        url = str((self.url if include_password else maybe_sanitize_url(self.url or "")) or "")
        return url[:-1] if url.endswith(":///") and not include_password else url

    def __reduce__(self, args: Any = (), kwargs: Any = None) -> Any:
        return unpickle_backend, (type(self), args, {**({"url": self.url} if self.url else {}), **(kwargs or {})})

    # -- documents ---------------------------------------------------------------------------------

    def prepare_expires(self, value: Any, type: Any = None) -> Any:  # noqa: A002 - Celery's name
        """Seconds from a number, a timedelta or, for None, ``result_expires``; ``type`` converts them."""
        value = self.app.conf.result_expires if value is None else value
        if isinstance(value, timedelta):
            value = value.total_seconds()
        return type(value) if type is not None and value is not None else value

    def prepare_persistent(self, enabled: bool | None = None) -> bool:
        """``enabled``, else ``result_persistent``, else what the store does by itself."""
        found = enabled if enabled is not None else self.app.conf.get("result_persistent")
        return self.persistent if found is None else bool(found)

    def _wanted_compression(self, name: str | None) -> str | None:
        if not name:
            return None
        if not self.supports_result_compression:
            warnings.warn(f"{type(self).__name__} cannot keep compressed results: not compressed", stacklevel=4)
            return None
        try:
            compress(b"", name)
        except EncodeError as exc:
            raise ImproperlyConfigured(f"result_compression: {exc}") from exc
        return name

    def encode(self, data: Any) -> Any:
        """A document as it is stored. Raises kombu's EncodeError for what ``result_serializer`` does not take."""
        _, _, payload = self._encode(data)
        if not self.compression:
            return payload
        packed, content_type = compress(
            payload.encode("utf-8") if isinstance(payload, str) else payload, self.compression
        )
        return b"".join([PACKED, content_type.encode("utf-8"), b"\x00", packed])

    def _encode(self, data: Any) -> tuple[str, str, Any]:
        content_type, encoding, payload = dumps(data, self.serializer)
        return content_type, encoding, payload if encoding == "binary" else payload.decode("utf-8")

    def decode(self, payload: Any) -> Any:
        """What a stored document holds; None for None. Raises the WireError family for what cannot be read."""
        if payload is None:
            return None
        if isinstance(payload, memoryview):
            payload = payload.tobytes()
        data = payload.encode("utf-8") if isinstance(payload, str) else bytes(payload)
        if data.startswith(PACKED):
            content_type, _, packed = data[len(PACKED) :].partition(b"\x00")
            data = decompress(packed, content_type.decode("ascii", "replace"), MOST_UNPACKED_BYTES)
        serializers.check_accepted(self.content_type, self.accept)
        allowed = self.app.conf.pickle_allowed_classes
        return serializers.loads(data, self.content_type, self.content_encoding, pickle_allowed_classes=allowed)

    def decode_result(self, payload: Any) -> dict[str, Any]:
        """A task's document, its exception rebuilt. Raises WireError or ValueError for what is no such document."""
        return self.meta_from_decoded(self.decode(payload))

    def meta_from_decoded(self, meta: Any) -> dict[str, Any]:
        """Rebuild the exception in a document. Raises ValueError if it is none."""
        if not isinstance(meta, dict) or not isinstance(meta.get("status"), str):
            raise ValueError(f"this is no result document: {meta!r:.200}")
        if meta["status"] in self.EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta.get("result"))
        return meta

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> Any:
        """An exception as ``serializer`` can hold it: itself for pickle, else a document."""
        if (serializer or self.serializer) == "pickle":
            return get_pickleable_exception(exc)
        return exceptions.to_document(exc, self.encode)

    def exception_to_python(self, exc: Any) -> BaseException | None:
        """The inverse."""
        if isinstance(exc, BaseException):
            return get_pickled_exception(exc)
        return exceptions.from_document(exc)

    def prepare_value(self, result: Any) -> Any:
        """A value as the serializer can hold it: results of tasks are their tuples."""
        return result.as_tuple() if self.serializer != "pickle" and isinstance(result, ResultBase) else result

    def encode_result(self, result: Any, state: str) -> Any:
        """The ``result`` of a document."""
        if state in self.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def current_task_children(self, request: Any = None) -> list[Any] | None:
        """The results of what a task has sent, as tuples; None outside of a task."""
        request = request or getattr(_state.get_current_task(), "request", None)
        return [child.as_tuple() for child in getattr(request, "children", ())] if request else None

    def _get_result_meta(
        self,
        result: Any,
        state: str,
        traceback: Any,
        request: Any,
        format_date: bool = True,
        encode: bool = False,
    ) -> dict[str, Any]:
        """A task's document. ``format_date``: its date as text; ``encode``: its arguments serialised by themselves."""
        done = self.app.now() if state in self.READY_STATES else None
        meta: dict[str, Any] = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": done.isoformat() if done is not None and format_date else done,
        }
        if request is not None:
            if getattr(request, "group", None):
                meta["group_id"] = request.group
            if getattr(request, "parent_id", None):
                meta["parent_id"] = request.parent_id
            if self.app.conf.result_extended:
                meta.update(self._extended(request, encode))
        return meta

    def _extended(self, request: Any, encode: bool) -> dict[str, Any]:
        info = getattr(request, "delivery_info", None) or {}
        found = {
            "name": getattr(request, "task", None),
            "args": getattr(request, "args", None),
            "kwargs": getattr(request, "kwargs", None),
            "worker": getattr(request, "hostname", None),
            "retries": getattr(request, "retries", None),
            "queue": info.get("routing_key"),
        }
        stamps, stamped = getattr(request, "stamps", None), getattr(request, "stamped_headers", None)
        if stamps:
            found["stamped_headers"] = stamped
            found |= {key: value for key, value in stamps.items() if key in (stamped or ())}
        if encode:
            for field in ("args", "kwargs"):
                text = self.encode(found[field])
                found[field] = text.encode("utf-8") if isinstance(text, str) else text
        return found

    # -- trying again ------------------------------------------------------------------------------

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """True if the same call may succeed later; each store knows its own errors."""
        return False

    def on_backend_retryable_error(self, exc: BaseException) -> None:
        """Called before a call is tried again."""

    def _ensure_retryable(
        self,
        func: Callable[..., Any],
        *args: Any,
        fallback_exc: Callable[[str], BaseException] | None = None,
        fallback_msg: str | None = None,
        max_retries: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a store; while it fails in a way that may pass, again, each time later.

        For ten seconds, or as long as ``result_backend_always_retry`` and ``result_backend_max_retries`` say. Then raises
        ``fallback_exc`` with the store's error as its cause, or that error.
        """
        limit = (self.max_retries if max_retries is None else max_retries) if self.always_retry else self.most_tries
        until = None if self.always_retry else self.clock() + self.try_for_seconds
        attempt = 0
        while True:
            try:
                return func(*args, **kwargs)
            except Exception as exc:
                attempt += 1
                pause = backoff(attempt, first=self._first_pause, most=self._most_pause)
                late = until is not None and self.clock() + pause > until
                passing = self.exception_safe_to_retry(exc)
                if not passing or attempt > limit or late:
                    if fallback_exc is None or not passing or isinstance(exc, BackendError):
                        raise
                    raise fallback_exc(f"{fallback_msg}: {type(exc).__name__}: {exc}") from exc
                if self._tell(type(exc), self.clock()):
                    logger.warning("Result back end: %s: %s; trying again", type(exc).__name__, exc)
                self.on_backend_retryable_error(exc)
                self.sleep(pause)

    # -- storing -----------------------------------------------------------------------------------

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Keep a task's state and value. A SUCCESS that is there already stays.

        Raises kombu's EncodeError for a value that ``result_serializer`` does not take, ResultTooLarge for one that the
        store does not, and BackendStoreError for a store that cannot be reached.
        """
        result = self.encode_result(result, state)

        def failed(sentence: str) -> BaseException:
            return BackendStoreError(sentence, task_id=task_id, state=state)

        self._ensure_retryable(
            self._store_result,
            task_id,
            result,
            state,
            traceback,
            fallback_exc=failed,
            fallback_msg=f"the result of task {task_id} cannot be stored",
            request=request,
            **kwargs,
        )
        return result

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not store results")

    def forget(self, task_id: str) -> None:
        """Drop what is kept of a task."""
        self._cache.pop(task_id, None)
        self._ensure_retryable(self._forget, task_id)

    def _forget(self, task_id: str) -> None:
        raise NotImplementedError("backend does not implement forget.")

    def cleanup(self) -> None:
        """Drop what has expired; ``celery.backend_cleanup`` calls it each night."""

    def close(self) -> None:
        """Close its connections; they are opened again when they are needed."""

    def process_cleanup(self) -> None:
        """Called after each task in a worker's child."""

    def on_task_call(self, producer: Any, task_id: str) -> dict[str, Any]:
        """Message properties that a client needs for its results: none."""
        return {}

    # -- reading -----------------------------------------------------------------------------------

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """A task's document; one with state PENDING for a task that is not known.

        Raises BackendGetMetaError for a store that cannot be reached and for a document that cannot be read.
        """
        self._warn_if_eager()
        if cache and task_id in self._cache:
            return self._cache[task_id]
        meta: dict[str, Any] = self._read(self._get_task_meta_for, task_id, f"the result of task {task_id}")
        if cache and meta.get("status") == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def _read(self, func: Callable[[str], Any], key: str, what: str) -> Any:
        def failed(sentence: str) -> BaseException:
            return BackendGetMetaError(sentence, task_id=key)

        try:
            return self._ensure_retryable(func, key, fallback_exc=failed, fallback_msg=f"{what} cannot be read")
        except (WireError, ValueError, TypeError, KeyError, IndexError) as exc:
            raise BackendGetMetaError(f"{what} is not one that can be read here: {exc}", task_id=key) from exc

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not read results")

    def _has_succeeded(self, task_id: str) -> bool:
        """True if a SUCCESS is stored, which nothing replaces; a document that cannot be read is replaced."""
        try:
            return bool(self._get_task_meta_for(task_id).get("status") == states.SUCCESS)
        except (WireError, ValueError, TypeError, KeyError) as exc:
            logger.warning("What was stored of task %s cannot be read and is replaced: %s", task_id, exc)
            return False

    def get_state(self, task_id: str) -> Any:
        """A task's state."""
        return self.get_task_meta(task_id)["status"]

    get_status = get_state

    def get_traceback(self, task_id: str) -> Any:
        """A failed task's traceback as text."""
        return self.get_task_meta(task_id).get("traceback")

    def get_result(self, task_id: str) -> Any:
        """A task's value, or its exception."""
        return self.get_task_meta(task_id).get("result")

    def get_children(self, task_id: str) -> Any:
        """Result tuples of what a task has sent."""
        return self.get_task_meta(task_id).get("children")

    def task_result_exists(self, task_id: str) -> bool:
        """True if something is stored of a task."""
        return bool(self.get_task_meta(task_id, cache=False)["status"] != states.PENDING)

    def reload_task_result(self, task_id: str) -> None:
        """Read a task's document again."""
        self._cache[task_id] = self.get_task_meta(task_id, cache=False)

    def is_cached(self, task_id: str) -> bool:
        """True if a read of this task would not ask the store."""
        return task_id in self._cache

    def _warn_if_eager(self) -> None:
        if self.app.conf.task_always_eager and not self.app.conf.task_store_eager_result:
            warnings.warn(
                "task_always_eager keeps no results: set task_store_eager_result to read them from the back end",
                RuntimeWarning,
                stacklevel=4,
            )

    _ensure_not_eager = _warn_if_eager

    # -- groups ------------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Any) -> Any:
        """Keep a group's members."""
        return self._ensure_retryable(self._save_group, group_id, result)

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """A group that was saved, None for one that is not known."""
        meta = self.get_group_meta(group_id, cache=cache)
        return meta["result"] if meta else None

    def get_group_meta(self, group_id: str, cache: bool = True) -> dict[str, Any] | None:
        """A group's document."""
        self._warn_if_eager()
        if cache and group_id in self._cache:
            return self._cache[group_id]
        meta: dict[str, Any] | None = self._read(self._restore_group, group_id, f"the group {group_id}")
        if cache and meta is not None:
            self._cache[group_id] = meta
        return meta

    def reload_group_result(self, group_id: str) -> None:
        """Read a group's document again."""
        meta = self.get_group_meta(group_id, cache=False)
        if meta is not None:
            self._cache[group_id] = meta

    def delete_group(self, group_id: str) -> None:
        """Drop a group that was saved."""
        self._cache.pop(group_id, None)
        self._ensure_retryable(self._delete_group, group_id)

    def _save_group(self, group_id: str, result: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not save groups")

    def _restore_group(self, group_id: str) -> dict[str, Any] | None:
        raise NotImplementedError(f"{type(self).__name__} does not save groups")

    def _delete_group(self, group_id: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not save groups")

    def too_large(self, task_id: str, size: int, limit: int) -> ResultTooLarge:
        """The error for a result that this store cannot hold."""
        return ResultTooLarge(
            f"the result of task {task_id} is {size} bytes and {type(self).__name__} takes {limit}: store a reference "
            "instead, or set result_compression",
            task_id=task_id,
        )


class MetaCache(OrderedDict[str, dict[str, Any]]):
    """The documents read last, ``limit`` of them at most; -1 keeps none, None or 0 all."""

    def __init__(self, limit: int | None) -> None:
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        if self.limit == -1:
            return
        super().__setitem__(key, value)
        while self.limit and len(self) > self.limit:
            self.popitem(last=False)


def unpickle_backend(cls: type[Backend], args: Any, kwargs: Mapping[str, Any]) -> Backend:
    """A back end of the current app."""
    return cls(*args, **{**kwargs, "app": _state.get_current_app()})
