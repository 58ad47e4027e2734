"""Task calls as values, and what is composed of them."""

from __future__ import annotations

from pyqs_celery.canvas.chain import _chain, chain
from pyqs_celery.canvas.chord import _chord, chord
from pyqs_celery.canvas.group import group
from pyqs_celery.canvas.maps import _basemap, chunks, xmap, xstarmap
from pyqs_celery.canvas.signature import Signature, maybe_signature, signature
from pyqs_celery.canvas.signature import maybe_signature as maybe_subtask
from pyqs_celery.canvas.signature import signature as subtask
from pyqs_celery.canvas.stamping import StampingVisitor

__all__ = (
    "Signature",
    "StampingVisitor",
    "_basemap",
    "_chain",
    "_chord",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
)
