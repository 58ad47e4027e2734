"""Compression by kombu's names, and decompression that stops at a limit, so that little data cannot become much."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable

from kombu.exceptions import EncodeError

from pyqs_celery.exceptions import BodyDecodeError, MissingExtra

_ZSTD = ("zstd", "zstandard", "application/zstd")

MAX_DECOMPRESSED_BYTES = 32 * 1024 * 1024
"""The most a task body may unpack to unless ``worker_max_decompressed_bytes`` says otherwise: 32 of the largest messages."""
WORKING_BYTES = 128 * 1024 * 1024
"""What a decompressor may take for its own tables; ``xz -9`` takes 65 MiB, ``zstd --ultra`` up to 128."""


def _bounded(data: bytes, limit: int, step: Callable[[bytes, int], bytes]) -> bytes:
    out = step(data, limit + 1)
    if len(out) > limit:
        raise BodyDecodeError(f"the compressed body unpacks to more than {limit} bytes")
    return out


def _zlib(data: bytes, limit: int) -> bytes:
    """``application/x-gzip`` as kombu writes it is a zlib stream; a true gzip stream is read too."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    out = _bounded(data, limit, unpacker.decompress)
    if not unpacker.eof:
        raise ValueError("the stream is cut short")
    return out


def _bz2(data: bytes, limit: int) -> bytes:
    unpacker = bz2.BZ2Decompressor()
    out = _bounded(data, limit, unpacker.decompress)
    if not unpacker.eof:
        raise ValueError("the stream is cut short")
    return out


def _lzma(data: bytes, limit: int) -> bytes:
    unpacker = lzma.LZMADecompressor(memlimit=WORKING_BYTES)
    out = _bounded(data, limit, unpacker.decompress)
    if not unpacker.eof:
        raise ValueError("the stream is cut short")
    return out


def _brotli(data: bytes, limit: int) -> bytes:
    try:
        import brotli
    except ImportError as exc:
        raise _missing("brotli") from exc
    unpacker = brotli.Decompressor()
    parts, size = [], 0
    # 64 bytes at a time: releases of brotli before 1.2 have no output limit of their own
    for start in range(0, len(data), 64):
        part = unpacker.process(data[start : start + 64])
        size += len(part)
        if size > limit:
            raise BodyDecodeError(f"the compressed body unpacks to more than {limit} bytes")
        parts.append(part)
    if not unpacker.is_finished():
        raise ValueError("the stream is cut short")
    return b"".join(parts)


def _zstd(data: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError as exc:
        raise _missing("zstandard") from exc
    with zstandard.ZstdDecompressor(max_window_size=WORKING_BYTES).stream_reader(data) as reader:
        out: bytes = reader.read(limit + 1)
    if len(out) > limit:
        raise BodyDecodeError(f"the compressed body unpacks to more than {limit} bytes")
    return out


def _missing(package: str) -> BodyDecodeError:
    return MissingExtra(f"reading this body needs {package}: pip install 'pyqs-celery[compression]'")


_UNPACKERS: dict[str, Callable[[bytes, int], bytes]] = {
    "application/x-gzip": _zlib,
    "application/gzip": _zlib,
    "application/x-bz2": _bz2,
    "application/x-bzip2": _bz2,
    "application/x-lzma": _lzma,
    "application/xz": _lzma,
    "application/x-brotli": _brotli,
    "application/x-br": _brotli,
    "application/zstd": _zstd,
    "gzip": _zlib,
    "zlib": _zlib,
    "bzip2": _bz2,
    "lzma": _lzma,
    "xz": _lzma,
    "brotli": _brotli,
    "zstd": _zstd,
}


def is_known(method: str) -> bool:
    """True for a name or content type of a compression that is read here."""
    return method.lower() in _UNPACKERS


def decompress(data: bytes, method: str, limit: int = MAX_DECOMPRESSED_BYTES) -> bytes:
    """Unpack ``data`` by the header ``compression``. Raises BodyDecodeError, also for more than ``limit`` bytes."""
    unpack = _UNPACKERS.get(method.lower())
    if unpack is None:
        raise BodyDecodeError(f"unknown compression {method[:60]!r}")
    try:
        return unpack(data, limit)
    except BodyDecodeError:
        raise
    except Exception as exc:  # every library has errors of its own for damaged data
        raise BodyDecodeError(f"the compressed body is damaged: {str(exc)[:200]}") from exc


def compress(data: bytes, method: str) -> tuple[bytes, str]:
    """Pack ``data`` by a name kombu knows (gzip, bzip2, brotli, lzma, zstd): the bytes and their content type.

    Raises kombu's EncodeError for an unknown name and for a library that is not installed.
    """
    from kombu import compression as kombu_compression

    try:
        if method in _ZSTD:
            return _pack_zstd(data), "application/zstd"
        packed, content_type = kombu_compression.compress(data, method)
    except (KeyError, ImportError) as exc:
        raise EncodeError(
            f"unknown compression {method!r}; brotli and zstd need pip install 'pyqs-celery[compression]'"
        ) from exc
    return packed, content_type


def _pack_zstd(data: bytes) -> bytes:
    """Zstandard by the extra's package: which one kombu wants differs from release to release."""
    import zstandard

    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed
