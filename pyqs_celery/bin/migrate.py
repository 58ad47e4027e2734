"""``pyqs-celery migrate``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from pyqs_celery.bin.errors import UsageError
from pyqs_celery.bin.exit_codes import EX_FAILURE, EX_OK


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Change the files; without it only a diff is shown.")
@click.option("--check", is_flag=True, help="Exit with 1 if anything would change.")
def migrate(paths: tuple[Path, ...], write: bool, check: bool) -> int:
    """Swap the imports of Celery below PATHS to pyqs_celery; every other byte stays.

    Shows a diff and changes nothing unless --write is given. What pyqs-celery does not have is left and told, with its line,
    on standard error. Exit code 1 for a file that is no Python, and with --check.
    """
    from pyqs_celery.doctor.swap import swap

    if find_spec("libcst") is None:
        raise UsageError("migrate needs libcst: pip install 'pyqs-celery[migrate]'")
    changed = failed = 0
    for path in _python_files(paths):
        content = path.read_bytes()
        try:
            result = swap(content)
        except ValueError as exc:
            click.echo(f"{path}: {exc}", err=True)
            failed += 1
            continue
        for line, sentence in result.left:
            click.echo(f"{path}:{line}: {sentence}", err=True)
        if result.content == content:
            continue
        changed += 1
        if write:
            path.write_bytes(result.content)
        else:
            click.echo(_diff(path, content, result.content), nl=False)
    verb = "changed" if write else "would change"
    click.echo(f"{changed} file{'s' if changed != 1 else ''} {verb}.", err=True)
    return EX_FAILURE if failed or (check and changed) else EX_OK


def _python_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    from pyqs_celery.doctor.finding import Context

    for path, _ in Context(paths=paths).files():
        if path.suffix in (".py", ".pyi"):
            yield path


def _diff(path: Path, before: bytes, after: bytes) -> str:
    old, new = (content.decode("utf-8", "surrogateescape").splitlines(keepends=True) for content in (before, after))
    lines = difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
    shown = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return shown.encode("utf-8", "replace").decode("utf-8")
