"""Command lines of Celery's in files that start things, read as text: Procfile, compose, Dockerfile, Helm, systemd, shell.

Templates are no YAML until they are rendered, so nothing here parses a file as a whole; what looks like a command is
looked at, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

GLOBAL_WITH_VALUE = frozenset("-A --app -b --broker --result-backend --loader --config --workdir".split())
GLOBAL_SWITCHES = frozenset("-q --quiet -C --no-color --skip-checks".split())
VERBS = frozenset(
    "worker beat multi inspect control status flower events purge call report result list shell graph amqp logtool migrate "
    "upgrade".split()
)
_PROGRAMS = frozenset({"celery", "pyqs-celery"})
_VARIABLE = re.compile(r"\$[({]?CELERY(_?BIN|_?CMD|_?COMMAND)?[)}]?", re.IGNORECASE)
_KEY = re.compile(r"[\w.-]+:|[A-Za-z_]\w*=.*|-.*|[A-Z]+(-[A-Z]+)?|\$.*|\{\{.*")
_WRAPPERS = frozenset(
    "exec env nohup time nice ionice timeout sudo gosu su-exec tini dumb-init xvfb-run poetry pipenv uv uvx pdm hatch rye run "
    "newrelic-admin run-program ddtrace-run opentelemetry-instrument chamber docker compose docker-compose kubectl heroku sh "
    "bash then do else if while ! @ {".split()
)
_NOT_STARTED_BY = frozenset(
    "echo printf logger install add apt apt-get apk yum dnf brew grep egrep pgrep pkill killall which rm cp mv cd mkdir chown "
    "ps cat COPY ADD FROM WORKDIR LABEL image: name: description: Description".split()
)
_TOKEN = re.compile(
    r"""\s+|(?P<comment>\#.*)|(?P<operator>&&|\|\||\$\(|[;&|()`])"""
    r"""|(?P<word>(?:\{\{.*?\}\}|\$\{[^}]*\}|\$\(\w+\)|\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s;&|()'"\\`])+)|.""",
    re.DOTALL,
)
_QUOTES = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|\\(.)", re.DOTALL)
_FLOW_ITEM = re.compile(r"\"((?:\\.|[^\"\\])*)\"|'([^']*)'|((?:\{\{.*?\}\}|[^\s,\[\]\"'])(?:\{\{.*?\}\}|[^,\[\]])*)")
_YAML_KEY = re.compile(r"^(\s*)((?:-\s+)*)([\"']?[\w.$/-]+[\"']?):(?:\s+(.*))?$")
_YAML_ITEM = re.compile(r"^(\s*)-(?:\s+(.*))?$")
_BLOCK = re.compile(r"^([|>])[+-]?\d*\s*(#.*)?$")
_COMMAND_KEY = re.compile(r"(command|args?|entrypoint|cmd|exec|test|script|run)$", re.IGNORECASE)
_DOCKER = re.compile(r"^\s*(CMD|ENTRYPOINT)\s+(\[.*\])\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One start of Celery's command line: where, by which program, and its parts."""

    line: int
    program: str
    verb: str
    before: tuple[str, ...]
    behind: tuple[str, ...]

    @property
    def names_app(self) -> bool:
        """True if it has ``-A``, which prose has not."""
        return any(word.startswith(("-A", "--app")) for word in (*self.before, *self.behind))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Words, or the text of a shell, at a line; ``block`` and ``key`` tell what may belong together."""

    line: int
    content: str | list[str]
    key: str = ""
    block: int = -1


def command_lines(name: str, text: str) -> Iterator[CommandLine]:
    """Every start of Celery, or of this package, that a file of this name holds."""
    pieces = list(_yaml(text) if name.endswith((".yml", ".yaml", ".tpl")) else _plain(name, text))
    found = {(each.line, each): None for piece in pieces for each in _of_piece(piece)}
    found |= {(each.line, each): None for each in _split_over_keys(pieces)}
    yield from (each for _, each in sorted(found, key=lambda pair: pair[0]))


# -- pieces of files ---------------------------------------------------------------------------------


def _plain(name: str, text: str) -> Iterator[_Piece]:
    """Lines, continued ones joined. In ini files an indented line continues too."""
    folds = name.endswith((".conf", ".ini", ".service"))
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        start, line = index, lines[index]
        index += 1
        if line.lstrip().startswith(("#", ";")):
            continue
        while index < len(lines) and (line.rstrip().endswith("\\") or (folds and lines[index][:1] in (" ", "\t"))):
            # a comment between continued lines ends nothing
            if not lines[index].lstrip().startswith("#"):
                line = line.rstrip().removesuffix("\\") + " " + lines[index].strip()
            index += 1
        docker = _DOCKER.match(line)
        if docker:
            yield _Piece(start + 1, _flow(docker[2]), {"CMD": "args", "ENTRYPOINT": "command"}[docker[1].upper()], 0)
        else:
            yield _Piece(start + 1, line)


def _yaml(text: str) -> Iterator[_Piece]:
    """Values and lists of what looks like YAML. ``block`` is the mapping a key stands in."""
    lines = text.splitlines()
    index, blocks, count = 0, [(-1, 0)], 0
    while index < len(lines):
        line = lines[index]
        key = _YAML_KEY.match(line)
        if not line.strip() or line.lstrip().startswith("#") or key is None:
            yield _Piece(index + 1, "" if line.lstrip().startswith("#") else line)
            index += 1
            continue
        column = len(key[1]) + len(key[2])
        while blocks[-1][0] > column or (key[2] and blocks[-1][0] == column):
            blocks.pop()
        if blocks[-1][0] < column:
            count += 1
            blocks.append((column, count))
        start = index
        content, index = _value(lines, index, key[4] or "", column)
        # a list over many lines stands where its first word does
        first = start + 1 if (key[4] or "").strip() else start + 2
        if isinstance(content, str) and "\n" in content:
            yield from (_Piece(start + 1 + each.line, each.content) for each in _plain("", content))
        else:
            yield _Piece(first, content, key[3].strip("\"'"), blocks[-1][1])


def _value(lines: list[str], index: int, first: str, column: int) -> tuple[str | list[str], int]:
    """What stands behind a key, and the index of the line after it. Many lines of a shell are given as they are."""
    index += 1
    block = _BLOCK.match(first)
    if block:
        end = _end(lines, index, column)
        inner = [line.strip() for line in lines[index:end]]
        return ("\n".join([*inner, ""]) if block[1] == "|" else " ".join(inner)), end
    if first.startswith("["):
        while first.count("[") > first.count("]") and index < len(lines):
            first, index = f"{first} {lines[index].strip()}", index + 1
        return _flow(first), index
    if not first.strip() or first.lstrip().startswith("#"):
        return _items(lines, index, column)
    while index < len(lines) and _indent(lines[index]) > column and not _starts_something(lines[index]):
        first, index = f"{first} {lines[index].strip()}", index + 1
    return _unquoted_scalar(first), index


def _items(lines: list[str], index: int, column: int) -> tuple[list[str], int]:
    """A list of words over many lines, comments left out; no words if it holds anything else."""
    words: list[str] = []
    start = index
    while index < len(lines):
        item = _YAML_ITEM.match(lines[index])
        if not lines[index].strip() or lines[index].lstrip().startswith(("#", "{{")):
            index += 1
            continue
        if item is None or len(item[1]) < column:
            break
        text, index = item[2] or "", index + 1
        if _YAML_KEY.match(text):
            return [], start
        if _BLOCK.match(text):
            end = _end(lines, index, len(item[1]))
            text, index = "\n".join(line.strip() for line in lines[index:end]), end
        words.append(_unquoted_scalar(text))
    return words, index if words else start


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else -1


def _starts_something(line: str) -> bool:
    return bool(_YAML_KEY.match(line) or _YAML_ITEM.match(line) or line.lstrip().startswith(("#", "{{")))


def _end(lines: list[str], index: int, column: int) -> int:
    """Where the lines end that are indented deeper than ``column``; blank ones do not count."""
    while index < len(lines) and (not lines[index].strip() or _indent(lines[index]) > column):
        index += 1
    return index


def _unquoted_scalar(text: str) -> str:
    """A YAML scalar without the quotes around the whole of it, or without a comment behind it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace('\\"', '"')
    return re.sub(r"\s#.*$", "", text)


def _flow(text: str) -> list[str]:
    return [(item[1] or item[2] or item[3] or "").strip() for item in _FLOW_ITEM.finditer(text)]


def _split_over_keys(pieces: Sequence[_Piece]) -> Iterator[CommandLine]:
    """``command: [celery]`` with ``args: [...]`` beside it, in either order; so entrypoint and command of compose."""
    keyed = [piece for piece in pieces if piece.key in ("command", "args", "entrypoint") and piece.content]
    for pair in pairwise(keyed):
        if pair[0].block != pair[1].block or pair[0].key == pair[1].key:
            continue
        first, second = sorted(pair, key=lambda piece: ("entrypoint", "command", "args").index(piece.key))
        if not any(list(_commands(piece.line, piece.content)) for piece in pair):
            yield from _commands(first.line, [*_as_words(first.content), *_as_words(second.content)])


def _of_piece(piece: _Piece) -> Iterator[CommandLine]:
    """The commands of a piece. Behind a key may stand names as well, unless the key or ``-A`` says otherwise."""
    is_command = not piece.key or _COMMAND_KEY.search(piece.key) is not None
    yield from (each for each in _commands(piece.line, piece.content) if is_command or each.names_app)


def _as_words(content: str | list[str]) -> list[str]:
    return [word for part in _shell(content) for word in part] if isinstance(content, str) else content


# -- commands in a piece -----------------------------------------------------------------------------


def _commands(line: int, content: str | list[str]) -> Iterator[CommandLine]:
    for words in _shell(content) if isinstance(content, str) else [content]:
        found = _invocation(line, words)
        if found is not None:
            yield found
            continue
        for word in words:
            # sh -c "celery ..."
            if word != content and "celery" in word.lower() and re.search(r"\s", word):
                yield from _commands(line, word)


def _shell(text: str) -> Iterator[list[str]]:
    """The commands of a shell's text, each as words without quotes."""
    words: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["operator"] or "\n" in token[0].strip(" \t"):
            yield words
            words = []
        if token["word"]:
            words.append(_QUOTES.sub(lambda quote: quote[1] or quote[2] or quote[3] or "", token["word"]))
    yield words


def _invocation(line: int, words: Sequence[str]) -> CommandLine | None:
    """The start of Celery in one command, if there is one and it is no prose about it."""
    for index, word in enumerate(words):
        program = _program(word)
        if program is None:
            continue
        earlier = words[:index]
        if _NOT_STARTED_BY & {each.partition("=")[0] for each in earlier}:
            return None
        verb, before, behind = _parts(words[index + 1 :])
        if verb is None:
            continue
        found = CommandLine(line, program, verb, tuple(before), tuple(behind))
        if found.names_app or all(_is_before_a_command(each) for each in earlier):
            return found
    return None


def _program(word: str) -> str | None:
    """Celery for a path to it, ``ExecStart=/path/celery`` and ``$CELERY_BIN``; pyqs-celery; None for other words."""
    if _VARIABLE.fullmatch(word.rpartition("=")[2]):
        return "celery"
    name = word.rpartition("/")[2].rpartition("=")[2].lstrip("@-+!")
    return name if name in _PROGRAMS else None


def _is_before_a_command(word: str) -> bool:
    name = word.rpartition("/")[2]
    return (
        name in _WRAPPERS or name.startswith("python") or word.isdigit() or _KEY.fullmatch(word, re.DOTALL) is not None
    )


def _parts(words: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """(sub-command, the words before it, those behind it)."""
    index = 0
    while index < len(words):
        word = words[index]
        if not word.startswith("-"):
            return (word, list(words[:index]), list(words[index + 1 :])) if word in VERBS else (None, [], [])
        index += 2 if word in GLOBAL_WITH_VALUE else 1
    return None, [], []
