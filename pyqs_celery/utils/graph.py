"""Which result came of which: a graph of results, and its picture in DOT.

Interface: ``celery.utils.graph``. https://docs.celeryq.dev/en/stable/userguide/canvas.html#graphs
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TextIO

__all__ = ("CycleError", "DependencyGraph", "GraphFormatter")


class CycleError(Exception):
    """A cycle was detected in an acyclic graph."""


class GraphFormatter:
    """How nodes and edges are written as DOT; attributes are given to the constructor as keywords."""

    def __init__(self, root: Any = None, type: str = "digraph", id: str = "dependencies", **attrs: Any) -> None:  # noqa: A002
        self.root, self.type, self.id, self.attrs = root, type, id, attrs

    def head(self) -> str:
        """The first line."""
        shown = "".join(f' {key}="{value}"' for key, value in self.attrs.items())
        return f"{self.type} {self.id} {{\n    node [{shown.strip()}]"

    def node(self, obj: Any) -> str:
        """One node; the root is filled."""
        style = ' style="filled"' if self.root is not None and str(obj) == str(self.root) else ""
        return f'    "{obj}" [label="{obj}"{style}]'

    def edge(self, a: Any, b: Any) -> str:
        """One edge."""
        return f'    "{a}" -> "{b}"'

    def tail(self) -> str:
        """The last line."""
        return "}"


class DependencyGraph:
    """Objects and what each leads to, in the order in which they were added."""

    def __init__(self, it: Iterable[tuple[Any, Iterable[Any]]] | None = None, formatter: Any = None) -> None:
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[Any, list[Any]] = {}
        for obj, edges in it or ():
            self.add_arc(obj)
            for edge in edges:
                self.add_edge(obj, edge)

    def add_arc(self, obj: Any) -> None:
        """Add an object."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, a: Any, b: Any) -> None:
        """``a`` leads to ``b``. Raises KeyError for an ``a`` that was not added."""
        self.adjacent[a].append(b)

    def valency_of(self, obj: Any) -> int:
        """How many edges start at an object and what it leads to."""
        edges = self.adjacent.get(obj, [])
        return len(edges) + sum(self.valency_of(edge) for edge in edges)

    def topsort(self) -> list[Any]:
        """Every object after those that lead to it. Raises CycleError."""
        order: list[Any] = []
        done: dict[Any, bool] = {}

        def visit(obj: Any) -> None:
            if obj in done:
                if not done[obj]:
                    raise CycleError(obj)
                return
            done[obj] = False
            for edge in self.adjacent.get(obj, ()):
                visit(edge)
            done[obj] = True
            order.append(obj)

        for obj in list(self.adjacent):
            visit(obj)
        return order[::-1]

    def edges(self) -> list[Any]:
        """The objects that lead to others."""
        return [obj for obj, found in self.adjacent.items() if found]

    def iteritems(self) -> Iterator[tuple[Any, list[Any]]]:
        """(object, what it leads to) of all."""
        return iter(self.adjacent.items())

    items = iteritems

    def to_dot(self, fh: TextIO, formatter: Any = None) -> None:
        """Write the graph as DOT."""
        draw = formatter or self.formatter
        lines = [draw.head()]
        for obj, found in self.adjacent.items():
            lines += [draw.node(obj), *(draw.edge(obj, edge) for edge in found)]
        fh.write("\n".join([*lines, draw.tail(), ""]))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: Any) -> bool:
        return obj in self.adjacent

    def __str__(self) -> str:
        return "\n".join(f"{obj}({self.valency_of(obj)}): {found}" for obj, found in self.adjacent.items())
