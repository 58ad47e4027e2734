"""Task calls as values."""

from __future__ import annotations

from pyqs_celery.canvas.signature import Signature, maybe_signature, signature

__all__ = ("Signature", "maybe_signature", "signature", "subtask")

subtask = signature
