"""Little that would become much: compressed bodies, YAML aliases, nesting."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import subprocess
import sys
import zlib

import brotli
import pytest
import zstandard

from pyqs_celery import wire
from pyqs_celery.exceptions import BodyDecodeError
from pyqs_celery.wire.body import decode_body
from pyqs_celery.wire.compression import MAX_DECOMPRESSED_BYTES, compress, decompress

PLENTY = 256 * 1024 * 1024
CHILD = """
import base64, resource, sys
from pyqs_celery.exceptions import BodyDecodeError
from pyqs_celery.wire.compression import decompress
data = sys.stdin.buffer.read()
try:
    import brotli, zstandard
except ImportError:
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decompress(data, sys.argv[1])
except BodyDecodeError as exc:
    print(exc)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


class Brotli:
    """brotli's compressor under the names that the others have."""

    def __init__(self) -> None:
        self.packer = brotli.Compressor(quality=5, lgwin=24)

    def compress(self, data: bytes) -> bytes:
        return self.packer.process(data)

    def flush(self) -> bytes:
        return self.packer.finish()


PACKERS = {
    "application/x-gzip": lambda: zlib.compressobj(9),
    "application/x-bz2": lambda: bz2.BZ2Compressor(9),
    "application/x-lzma": lzma.LZMACompressor,
    "application/x-brotli": Brotli,
    "application/zstd": lambda: zstandard.ZstdCompressor(19).compressobj(),
}


@pytest.fixture(scope="module")
def bombs():
    """256 MiB of blanks in each form, none of them larger than an SQS message."""
    made = {}
    chunk = b" " * (16 * 1024 * 1024)
    for kind, packer in PACKERS.items():
        one = packer()
        made[kind] = b"".join([one.compress(chunk) for _ in range(PLENTY // len(chunk))]) + one.flush()
    return made


@pytest.mark.parametrize("kind", PACKERS)
def test_much_in_a_message_takes_little_to_refuse(bombs, kind):
    assert len(bombs[kind]) <= 1_100_000

    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind], input=bombs[kind], capture_output=True, timeout=60, check=True
    )

    reason, grown_kib = done.stdout.decode().splitlines()
    assert f"more than {MAX_DECOMPRESSED_BYTES} bytes" in reason
    assert int(grown_kib) < 200 * 1024


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "brotli", "zstd"])
def test_the_limit_is_exact(method):
    packed, kind = compress(b"x" * 1000, method)

    assert decompress(packed, kind, 1000) == b"x" * 1000
    with pytest.raises(BodyDecodeError, match="more than 999 bytes"):
        decompress(packed, kind, 999)


def head_of(body: bytes, **headers: object) -> wire.Head:
    envelope = {
        "body": base64.b64encode(body).decode(),
        "headers": {"task": "t", "id": "1", **headers},
        "properties": {"body_encoding": "base64"},
        "content-type": headers.pop("type", "application/json"),
        "content-encoding": "utf-8",
    }
    return wire.decode_head(json.dumps(envelope))


def test_the_limit_of_bodies_is_a_setting():
    packed, kind = compress(json.dumps([["x" * 5000], {}, {}]).encode(), "gzip")
    head = head_of(packed, compression=kind)

    assert decode_body(head).args == ["x" * 5000]
    with pytest.raises(BodyDecodeError, match="more than 4096 bytes"):
        decode_body(head, decompressed_most=4096)


def yaml_head(text: str) -> wire.Head:
    return head_of(text.encode(), type="application/x-yaml")


def test_yaml_that_multiplies_by_merging_is_refused():
    levels = ["a0: &a0 {k0: 1, k1: 2, k2: 3}"]
    levels += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], x{n}: 1}}" for n in range(1, 12)]

    with pytest.raises(BodyDecodeError):
        decode_body(yaml_head("\n".join(levels)), accept_content=["yaml"])


def test_yaml_with_ever_so_many_aliases_is_refused():
    text = "- [&a [x], " + ", ".join(["*a"] * 10_001) + "]\n- {}\n- {}\n"

    with pytest.raises(BodyDecodeError):
        decode_body(yaml_head(text), accept_content=["yaml"])


def test_yaml_of_a_sender_that_writes_aliases_is_read():
    text = "- [&a [x], *a, *a]\n- {}\n- {callbacks: null}\n"

    assert decode_body(yaml_head(text), accept_content=["yaml"]).args == [["x"], ["x"], ["x"]]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system [true]", "!!python/name:os.system", "!!python/module:os"]
)
def test_yaml_makes_no_objects(tag):
    with pytest.raises(BodyDecodeError):
        decode_body(yaml_head(f"- [{tag}]\n- {{}}\n- {{}}\n"), accept_content=["yaml"])


def test_a_reason_quotes_nothing_of_the_arguments():
    """It goes into logs and to the dead-letter queue."""
    secret = "hunter2"
    bodies = [
        json.dumps([[{"__type__": kind, "__value__": secret}], {}, {}]).encode()
        for kind in ("datetime", "date", "time", "decimal", "uuid", secret)
    ]
    bodies += [json.dumps(value).encode() for value in (secret, {"args": secret, "task": "t"}, [[secret], secret, {}])]
    bodies += [f'[["{secret}"], {{}}, {{}}'.encode(), f'[["{secret}'.encode() + b'\xff"], {}, {}]']

    for body in bodies:
        with pytest.raises(BodyDecodeError) as told:
            decode_body(head_of(body))
        assert secret not in str(told.value)
