"""Which queue a task goes to: ``task_routes`` in all its forms.

https://docs.celeryq.dev/en/stable/userguide/routing.html#automatic-routing
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from pyqs_celery.exceptions import ImproperlyConfigured
from pyqs_celery.utils.imports import symbol_by_name

RouteFunction = Callable[..., Any]


class MapRoute:
    """Routes by exact name, glob or compiled regular expression; exact names win."""

    def __init__(self, mapping: Any) -> None:
        pairs = list(mapping.items()) if isinstance(mapping, Mapping) else list(mapping)
        self.exact: dict[str, Any] = {}
        self.patterns: list[tuple[Callable[[str], Any], Any]] = []
        for key, route in pairs:
            if isinstance(key, re.Pattern):
                self.patterns.append((key.match, route))
            elif isinstance(key, str) and any(char in key for char in "*?["):
                self.patterns.append((partial(_matches, key), route))
            else:
                self.exact[key] = route

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The route for a task's name, or None."""
        if name in self.exact:
            return self.exact[name]
        return next((route for match, route in self.patterns if match(name)), None)


def prepare(routes: Any) -> list[RouteFunction]:
    """Turn the setting into functions that are asked in turn. Raises ImproperlyConfigured for what is no route."""
    if routes is None:
        return []
    if not isinstance(routes, (list, tuple)) or _is_pairs(routes):
        routes = (routes,)
    return [_prepared(route) for route in routes]


def _is_pairs(routes: Any) -> bool:
    """A list of (pattern, route) pairs is one mapping."""
    return bool(routes) and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], (str, re.Pattern))
        for entry in routes
    )


def _prepared(route: Any) -> RouteFunction:
    if isinstance(route, str):
        try:
            route = symbol_by_name(route)
        except (ImportError, AttributeError) as exc:
            raise ImproperlyConfigured(f"task_routes names {route!r}, which cannot be imported: {exc}") from exc
        if isinstance(route, type):
            route = route()
    if isinstance(route, Mapping):
        return MapRoute(route)
    if isinstance(route, (list, tuple)):
        return MapRoute(route)
    if hasattr(route, "route_for_task"):
        return route.route_for_task  # type: ignore[no-any-return]
    if callable(route):
        return route  # type: ignore[no-any-return]
    raise ImproperlyConfigured(f"task_routes holds {route!r}, which is no mapping, function or router")


def find_route(
    functions: list[RouteFunction], name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Any = None
) -> dict[str, Any]:
    """The options that the first route which knows this task gives it; a string is a queue."""
    for function in functions:
        route = function(name, args, kwargs, options, task=task)
        if route is None:
            continue
        if isinstance(route, str):
            return {"queue": route}
        return dict(route)
    return {}


def _matches(pattern: str, name: str) -> bool:
    return fnmatchcase(name, pattern)
