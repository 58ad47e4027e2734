"""Results as objects of an S3 bucket: ``result_backend = "s3://my-bucket/results/"``, or Celery's settings ``s3_*``.

https://docs.celeryq.dev/en/stable/userguide/configuration.html#s3-backend-settings
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote, urlsplit

from pyqs_celery.backends import chords
from pyqs_celery.backends.aws import AwsBackend, Refused
from pyqs_celery.backends.keyvalue import CHORD_DONE_SECONDS, ensure_bytes
from pyqs_celery.exceptions import ImproperlyConfigured

ABSENT = frozenset("NoSuchKey NotFound 404".split())
CHANGED = frozenset("PreconditionFailed 412".split()) | ABSENT
READERS = 16
"""Threads by which many results are read, since S3 gives one at a time."""
UNTIL = "claimed-until"


class S3Backend(AwsBackend):
    """Result documents as objects: the base path, directly followed by Celery's key.

    The settings win over the URL, which Celery does not read. S3 cannot count, so ``celery.chord_unlock`` looks after
    chords. Nothing is dropped when it expires: give the bucket a lifecycle rule.
    """

    service = "s3"
    region_setting = "s3_region"
    supports_native_join = True

    def __init__(self, url: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        conf = self.app.conf
        self.use_keys(
            conf.get("s3_access_key_id"), conf.get("s3_secret_access_key"), "s3_access_key_id and s3_secret_access_key"
        )
        self.aws_region = conf.get("s3_region")
        self.endpoint_url = conf.get("s3_endpoint_url")
        parts = urlsplit(url or "")
        bucket, path = conf.get("s3_bucket"), conf.get("s3_base_path")
        if not bucket:
            bucket = parts.netloc
            path = path or unquote(parts.path[1:])
        if not bucket:
            raise ImproperlyConfigured(
                "result_backend s3:// needs a bucket: set s3_bucket, or write s3://bucket/base-path/"
            )
        self.bucket_name = bucket
        self.base_path = path or None

    @property
    def place(self) -> str:
        """The bucket."""
        return f"S3 bucket {self.bucket_name!r} ({self.endpoint_url or self.aws_region or 'default region'})"

    def refusal(self, action: str, where: str, code: str, text: str) -> str:
        """What to do about an error."""
        sentence = super().refusal(action.replace("Head", "Get"), where, code, text)
        if code == "NoSuchBucket":
            return f"{where}: there is no such bucket; create it, this back end does not"
        if action == "GetObject" and code in ("AccessDenied", "403"):
            return f"{sentence} and s3:ListBucket, without which S3 also denies what is only not there yet"
        return sentence

    # -- objects -----------------------------------------------------------------------------------

    def get(self, key: Any) -> Any:
        """An object's bytes."""
        try:
            return self.call("get_object", lambda answer: answer["Body"].read(), **self._object(key))
        except Refused as exc:
            if exc.code in ABSENT:
                return None
            raise

    def mget(self, keys: Iterable[Any]) -> list[Any]:
        """Many of them, several at a time."""
        keys = list(keys)
        if len(keys) < 2:
            return [self.get(key) for key in keys]
        with ThreadPoolExecutor(min(READERS, len(keys)), thread_name_prefix="s3-results") as pool:
            return list(pool.map(self.get, keys))

    def set(self, key: Any, value: Any) -> None:
        """Write an object."""
        self._put(key, value)

    def delete(self, key: Any) -> None:
        """Drop an object."""
        self.call("delete_object", **self._object(key))

    def add(self, key: Any, value: Any, expires: float) -> bool:
        """Write an object unless there is one that was added less than its ``expires`` seconds ago.

        Raises NotImplementedError where boto3 is too old for S3's conditional writes.
        """
        if "IfMatch" not in self.client.meta.service_model.operation_model("PutObject").input_shape.members:
            raise NotImplementedError("boto3 is too old for conditional writes to S3")
        if self._put_if(key, value, expires, IfNoneMatch="*"):
            return True
        try:
            found = self.call("head_object", **self._object(key))
        except Refused as exc:
            if exc.code in ABSENT:  # it was dropped since; who asks again may have it
                return False
            raise
        until = float(found.get("Metadata", {}).get(UNTIL, "inf"))
        return until < self.wall_clock() and self._put_if(key, value, expires, IfMatch=found["ETag"])

    def _put_if(self, key: Any, value: Any, expires: float, **condition: Any) -> bool:
        try:
            self._put(key, value, expires, **condition)
        except Refused as exc:
            if exc.code in CHANGED:
                return False
            raise
        return True

    def _put(self, key: Any, value: Any, expires: float | None = None, **condition: Any) -> None:
        if expires is not None:
            condition["Metadata"] = {UNTIL: str(self.wall_clock() + expires)}
        self.call("put_object", Body=ensure_bytes(value), **self._object(key), **condition)

    def _object(self, key: Any) -> dict[str, str]:
        return {"Bucket": self.bucket_name, "Key": f"{self.base_path or ''}{ensure_bytes(key).decode()}"}

    def mark_chord_done(self, group_id: str) -> None:
        """The body's message is safe: whoever looks late does nothing."""
        self._put(self.get_key_for_chord(group_id, ".c"), chords.DONE, CHORD_DONE_SECONDS)

    def cleanup(self) -> None:
        """Nothing: a lifecycle rule of the bucket drops what has expired."""
