"""Exception classes that both sides can import, and one that a reader cannot."""

from __future__ import annotations


class OutOfStockError(Exception):
    """A team's own error, rebuilt from its arguments."""


class Shop:
    """Holds a class whose qualified name has a dot."""

    class ClosedError(Exception):
        """Known as ``Shop.ClosedError``."""


class PickyError(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, *, code):
        super().__init__()
        self.code = code


class CodedError(Exception):
    """Keeps more than its arguments: only a pickle brings it back."""

    def __init__(self, text, code=0):
        super().__init__(text)
        self.code = code


class Opaque:
    """An argument that no serializer writes."""

    def __repr__(self):
        return "<opaque>"


def foreign(text):
    """An exception of a module that only the worker has imported."""
    from compat_tests.mixed import only_on_the_worker

    return only_on_the_worker.ForeignError(text)


def homeless(text):
    """An exception whose class nobody can import."""
    return type("HomelessError", (Exception,), {"__module__": "of_no_module"})(text)
