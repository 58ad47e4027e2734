"""Files that start things: Procfile, compose, Dockerfile, Helm, systemd, supervisor, shell scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pyqs_celery.doctor.commandlines import GLOBAL_SWITCHES, GLOBAL_WITH_VALUE, CommandLine, command_lines
from pyqs_celery.doctor.finding import Context, Finding

NAMES = re.compile(
    r"^(Procfile.*|Dockerfile.*|.*\.(ya?ml|tpl|service|conf|ini|sh|bash)|.*\.[Dd]ockerfile|justfile|Makefile)$"
)
EVENTS = {"-E", "--events", "--task-events"}


def check_deploys(context: Context) -> Iterable[Finding]:
    """Every command line of Celery's that a file starts."""
    for path, shown in context.files():
        if not NAMES.match(path.name) and not _is_script(path):
            continue
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        for command in command_lines(path.name, text):
            yield from _command(context, f"{shown}:{command.line}", command)


def _is_script(path: Path) -> bool:
    """True for a shell script without an ending, as entry points of images often are."""
    if path.suffix:
        return False
    try:
        with path.open("rb") as file:
            return re.match(rb"#!.*\b(ba|da|a|z)?sh\b", file.readline(200)) is not None
    except OSError:
        return False


def _command(context: Context, place: str, command: CommandLine) -> Iterator[Finding]:
    verb = command.verb
    if verb in ("inspect", "control", "status"):
        yield Finding(
            "warning",
            "remote-control",
            place,
            f"`{command.program} {verb}` reaches workers of the same user on the same host only: SQS has no broadcast",
            f"write: pyqs-celery {verb} ... beside the worker; for a probe, pyqs-celery health tells more and loads less",
        )
        return
    if verb in ("flower", "events"):
        yield Finding("warning", "events", place, f"`{command.program} {verb}` shows nothing on SQS", "take it out")
        return
    if command.program == "celery" and verb in context.gone:
        reason = context.gone[verb]
        yield Finding("error", "command-gone", place, f"pyqs-celery has no `{verb}` like Celery's", reason)
        return
    if command.program == "celery":
        yield Finding(
            "warning", "celery-command", place, f"this starts Celery's {verb}", f"write: {_replacement(command)}"
        )
    if verb == "worker":
        yield from _worker(context, place, command.behind)


def _replacement(command: CommandLine) -> str:
    """The same command here: what is for the application as a whole stands before the sub-command."""
    if command.verb == "multi":  # its options may stand anywhere
        return " ".join(map(_quoted, ("pyqs-celery", *command.before, "multi", *command.behind)))
    first, rest = list(command.before), []
    words = iter(command.behind)
    for word in words:
        if word in GLOBAL_WITH_VALUE:
            first += [word, *filter(None, [next(words, None)])]
        elif _is_global(word):
            first.append(word)
        else:
            rest.append(word)
    return " ".join(map(_quoted, ("pyqs-celery", *first, command.verb, *rest)))


def _is_global(word: str) -> bool:
    name = word.split("=", maxsplit=1)[0]
    return name in GLOBAL_SWITCHES or name in GLOBAL_WITH_VALUE or (word[:2] in ("-A", "-b") and word[1:2] != "-")


def _quoted(word: str) -> str:
    """A word as a shell takes it; variables and templates stay what they are."""
    if word and not re.search(r"[\s*?\[\]|;&<>()#'\"]", word.replace("{{", "").replace("}}", "")):
        return word
    return word if word.startswith(("{{", "$")) else f'"{word}"' if "'" in word else f"'{word}'"


def _worker(context: Context, place: str, words: Sequence[str]) -> Iterator[Finding]:
    for name in _flags(context, words):
        if name not in context.flags:
            yield Finding(
                "error", "unknown-flag", place, f"the worker has no flag {name} and will not start", "take it out"
            )
        elif name in EVENTS:
            yield Finding(
                "info", "events", place, f"{name} is accepted, and no events are sent: SQS has none", "take it out"
            )
        elif name in context.idle_flags:
            yield Finding(
                "info",
                "flag-idle",
                place,
                f"{name} is accepted and changes nothing: {context.idle_flags[name]}",
                "take it out",
            )


def _flags(context: Context, words: Sequence[str]) -> Iterator[str]:
    """The worker's own flags among its words, by name; those for the application as a whole are left out."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        if not word.startswith("-") or word == "-":
            continue
        name = word.split("=")[0]
        if _is_global(word):
            if word in GLOBAL_WITH_VALUE:
                next(rest, None)
            continue
        if not word.startswith("--") and len(word) > 2:
            yield from _short(context, word)
            continue
        yield name
        if name in context.flags and name not in context.switches and "=" not in word:
            next(rest, None)


def _short(context: Context, word: str) -> Iterator[str]:
    """``-Ofair`` is one flag with its value; ``-BE`` are two."""
    for letter in word[1:]:
        yield f"-{letter}"
        if f"-{letter}" not in context.switches:
            return
