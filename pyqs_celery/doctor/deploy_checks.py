"""Files that start things: Procfile, compose, Dockerfile, Helm, systemd, supervisor, shell scripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

from pyqs_celery.doctor.finding import Context, Finding

NAMES = re.compile(
    r"^(Procfile.*|Dockerfile.*|.*\.(ya?ml|tpl|service|conf|ini|sh|bash)|.*\.Dockerfile|justfile|Makefile)$"
)
COMMAND = re.compile(r"(?<![\w./-])(?:[\w./-]*/)?(?:python[\d.]*\s+-m\s+)?celery\s+(?=-|[a-z])")
ENDS = {"&&", "||", ";", "|", "&"}
GLOBAL_WITH_VALUE = {"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"}
VERBS = frozenset(
    "worker beat multi inspect control status flower events purge call report result list shell graph".split()
)


def check_deploys(context: Context) -> Iterable[Finding]:
    """Every command line of Celery's that a file starts."""
    for path, shown in context.files():
        if not NAMES.match(path.name):
            continue
        try:
            text = path.read_text("utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        for line, words in commands(text):
            yield from _command(context, f"{shown}:{line}", words)


def commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line, words behind ``celery``) of every command: one line, continued lines, or a list of words over many."""
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        start, line = index, lines[index]
        while line.rstrip().endswith("\\") and index + 1 < len(lines):
            index += 1
            line = line.rstrip()[:-1] + " " + lines[index].strip()
        item = re.match(r"^(\s*)-\s+(.*)$", line)
        if item and item[2].strip("\"' ") in ("celery", "python", "-m"):
            words = [item[2]]
            while index + 1 < len(lines) and re.match(rf"^{item[1]}-\s+", lines[index + 1]):
                index += 1
                words.append(lines[index].strip()[1:].strip())
            line = " ".join(words)
        index += 1
        plain = re.sub(r"[\[\],\"']", " ", line.split("#")[0] if not line.lstrip().startswith("#") else "")
        for match in COMMAND.finditer(plain):
            yield start + 1, _words(plain[match.end() :])


def _words(text: str) -> list[str]:
    try:
        found = shlex.split(text)
    except ValueError:
        found = text.split()
    end = next((index for index, word in enumerate(found) if word in ENDS), len(found))
    return found[:end]


def _command(context: Context, place: str, words: list[str]) -> Iterator[Finding]:
    verb, before, behind = _split(words)
    if verb is None:
        return
    if verb in ("inspect", "control", "status"):
        yield Finding(
            "warning",
            "remote-control",
            place,
            f"`celery {verb}` asks running workers, which SQS has no way for; Celery's answer is exit code 69 too",
            "probe the process instead, and stop workers with SIGTERM",
        )
        return
    if verb in ("flower", "events"):
        yield Finding("warning", "events", place, f"`celery {verb}` shows nothing on SQS", "take it out")
        return
    fixed = " ".join(["pyqs-celery", *before, verb, *behind])
    yield Finding("warning", "celery-command", place, f"this starts Celery's {verb}", f"write: {fixed}")
    if verb == "worker":
        for word in behind:
            name = word.split("=")[0]
            if name.startswith("--") and name not in context.flags:
                yield Finding("error", "unknown-flag", place, f"the worker has no flag {name}", "take it out")
        if {"-E", "--events", "--task-events"} & set(behind):
            yield Finding(
                "info", "events", place, "-E is accepted, and no events are sent: SQS has none", "take it out"
            )


def _split(words: list[str]) -> tuple[str | None, list[str], list[str]]:
    """(sub-command, the words before it, those behind it)."""
    index = 0
    while index < len(words):
        word = words[index]
        if word in VERBS:
            return word, words[:index], words[index + 1 :]
        index += 2 if word in GLOBAL_WITH_VALUE else 1
        if not word.startswith("-"):
            return None, [], []
    return None, [], []
