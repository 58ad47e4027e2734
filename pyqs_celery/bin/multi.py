"""``pyqs-celery multi``: several detached workers of one machine, started and stopped together.

https://docs.celeryq.dev/en/stable/reference/celery.bin.multi.html
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import click

from pyqs_celery.bin.context import GlobalOptions
from pyqs_celery.bin.errors import UsageError
from pyqs_celery.utils.nodenames import host_format, node_format

VERBS = ("start", "restart", "stop", "stopwait", "stop_verify", "kill", "show", "names", "expand", "get")
GLOBAL = {"-A": "app", "--app": "app", "-b": "broker", "--broker": "broker", "--result-backend": "result_backend"}
GLOBAL |= {"--loader": "loader", "--config": "config", "--workdir": "workdir"}
OWN = {"--prefix", "-n", "--hostname", "-s", "--suffix", "--range-prefix"}
NODE_OPTIONS = ("--pidfile", "--logfile", "-f")


@dataclass(slots=True)
class Node:
    """One worker: its name and the options of its command line."""

    name: str
    options: dict[str, str | None] = field(default_factory=dict)

    def path(self, option: str, default: str) -> Path:
        """The file an option names for this node: %n is its name, %h the whole of that, %d its host. Raises UsageError."""
        node, _, host = self.name.partition("@")
        try:
            text = node_format(self.options.get(option) or default, self.name, h=self.name, d=host, N=node)
        except ValueError as exc:
            raise UsageError(f"{option}: {exc}") from exc
        return Path(text).absolute()

    @property
    def pidfile(self) -> Path:
        """Where its process id stands."""
        return self.path("--pidfile", "%n.pid")

    @property
    def pid(self) -> int | None:
        """Its process, None if it does not live."""
        try:
            pid = int(self.pidfile.read_text("ascii"))
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    def command(self) -> list[str]:
        """The command line that starts it."""
        before: list[str] = []
        behind: list[str] = []
        for option, value in self.options.items():
            if option not in NODE_OPTIONS:
                words = before if option in GLOBAL else behind
                words += [option] if value is None else [option, value]
        logfile = self.path("--logfile" if "--logfile" in self.options else "-f", "%n%I.log")
        own = ["--detach", f"--pidfile={self.pidfile}", f"--logfile={logfile}", f"--hostname={self.name}"]
        return [sys.executable, "-m", "pyqs_celery", *before, "worker", *own, *behind]


def parse(arguments: Iterable[str], host: str) -> list[Node]:
    """The nodes of ``w1 w2 -A proj -c 3 -c:w2 5 --pidfile=...``. A lone number N means N nodes. Raises UsageError."""
    names, common, special = _split(list(arguments))
    prefix = str(common.pop("--prefix", None) or common.pop("--range-prefix", None) or "celery")
    suffix = next(
        (found for option in ("-s", "--suffix", "-n", "--hostname") if (found := common.pop(option, None))), "%h"
    )
    if len(names) == 1 and names[0].isdigit():
        names = [f"{prefix}{number}" for number in range(1, int(names[0]) + 1)]
    nodes = []
    for name in names:
        full = name if "@" in name else f"{name}@{suffix.lstrip('@')}"
        try:
            nodes.append(Node(host_format(full, host), dict(common)))
        except ValueError as exc:
            raise UsageError(f"multi: {exc}") from exc
    for option, wanted, value in special:
        for node in _meant(wanted, nodes):
            node.options[option] = value
    return nodes


def _split(words: list[str]) -> tuple[list[str], dict[str, str | None], list[tuple[str, str, str | None]]]:
    names: list[str] = []
    common: dict[str, str | None] = {}
    special: list[tuple[str, str, str | None]] = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            names.append(word)
            continue
        option, equals, value = word.partition("=")
        found: str | None = value
        if not equals:
            short_with_value = len(option) > 2 and not option.startswith("--") and option[2] != ":"
            if short_with_value:
                option, found = option[:2], option[2:]
            else:
                found = words.pop(0) if words and not words[0].startswith("-") and not _is_switch(option) else None
        option, colon, wanted = option.partition(":")
        if colon:
            special.append((option, wanted, found))
        else:
            common[option] = found
    return names, common, special


def _is_switch(option: str) -> bool:
    from pyqs_celery.bin.options import ALL_FLAGS

    return any(flag.switch and option.partition(":")[0] in flag.names for flag in ALL_FLAGS)


def _meant(wanted: str, nodes: list[Node]) -> list[Node]:
    """``1``, ``1-3``, ``w1,w2``: nodes by number from 1, or by name."""
    found = []
    for part in wanted.split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            numbers = range(int(first), int(last or first) + 1)
            found += [nodes[number - 1] for number in numbers if 0 < number <= len(nodes)]
        else:
            named = [node for node in nodes if node.name == part or node.name.partition("@")[0] == part]
            if not named:
                raise UsageError(f"multi: no node is called {part!r}")
            found += named
    return found


def _signal(nodes: list[Node], signum: int) -> list[Node]:
    """Send a signal to those that live; gives them."""
    living = []
    for node in nodes:
        pid = node.pid
        if pid is None:
            click.echo(f"> {node.name}: DOWN")
            continue
        click.echo(f"\t> {node.name}: {signal.Signals(signum).name[3:]} -> {pid}")
        os.kill(pid, signum)
        living.append(node)
    return living


def _await_end(nodes: list[Node]) -> None:
    waiting = list(nodes)
    while waiting:
        click.echo(f"> Waiting for {len(waiting)} node{'s' if len(waiting) > 1 else ''}...")
        time.sleep(0.5)
        waiting = [node for node in waiting if node.pid is not None]


def _start(nodes: list[Node]) -> int:
    failed = 0
    for node in nodes:
        if node.pid is not None:
            click.echo(f"\t> {node.name}: already running (process {node.pid})")
            continue
        code = subprocess.call(node.command())  # noqa: S603 - the words the person typed, no shell
        click.echo(f"\t> {node.name}: {'OK' if code == 0 else f'ERROR, exit code {code}'}")
        failed += code != 0
    return 1 if failed else 0


def _signal_named(word: str) -> signal.Signals | None:
    """The signal that ``-INT``, ``-SIGINT`` or ``-9`` means; None for any other word. Raises UsageError."""
    name = word[1:].upper()
    if not word.startswith("-") or word.startswith("--"):
        return None
    if name.isdigit():
        try:
            return signal.Signals(int(name))
        except ValueError as exc:
            raise UsageError(f"multi: there is no signal {name}") from exc
    full = name if name.startswith("SIG") else f"SIG{name}"
    return signal.Signals[full] if full in signal.Signals.__members__ else None


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("verb", type=click.Choice(VERBS))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def multi(options: GlobalOptions, /, verb: str, arguments: tuple[str, ...]) -> int:
    """Start or stop several workers of this machine in the background.

    ARGUMENTS are node names (or their number), worker options for all, and options for some: -c 3 -c:w2 5 -Q:1-2 a,b.
    In --pidfile and --logfile %n is the node, %d its host, %h both. Stopping sends TERM, or the signal given as -INT,
    -9 ...; stopwait and restart wait until the nodes have ended.
    """
    named = [(word, _signal_named(word)) for word in arguments]
    signum = next((found for _, found in reversed(named) if found is not None), signal.SIGTERM)
    words = [word for word, found in named if found is None]
    nodes = parse(words, socket.gethostname())
    if not nodes:
        raise UsageError(f"multi {verb}: name the nodes, or say how many")
    for node in nodes:
        inherited = {"--app": options.app, "--broker": options.broker, "--workdir": options.workdir}
        node.options = {**{key: value for key, value in inherited.items() if value}, **node.options}
    if verb == "names":
        click.echo("\n".join(node.name for node in nodes))
    elif verb in ("show", "expand", "get"):
        click.echo("\n".join(shlex.join(node.command()) for node in nodes))
    elif verb == "start":
        return _start(nodes)
    elif verb == "kill":
        _signal(nodes, signal.SIGKILL)
    else:
        living = _signal(nodes, signum)
        if verb in ("restart", "stopwait", "stop_verify"):
            _await_end(living)
        if verb == "restart":
            return _start(nodes)
    return 0
