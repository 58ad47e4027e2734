"""``python manage.py pyqs_celery worker -Q emails``: the command line inside the project's set-up, as PyQS's users run it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):  # type: ignore[misc,unused-ignore]
    """Hands everything behind ``pyqs_celery`` on to the command line; the project's current app is used without -A."""

    help = "Run pyqs-celery: worker, beat, purge, call ... (see `manage.py pyqs_celery --help`)"
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's interface; the worker runs the checks itself

    def run_from_argv(self, argv: list[str]) -> None:
        """Take the arguments as they are; Django's own parser would claim some of them."""
        self.execute(arguments=argv[2:])

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> argparse.ArgumentParser:
        """For ``call_command("pyqs_celery", "worker", ...)``."""
        parser: argparse.ArgumentParser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        return parser

    def execute(self, *args: Any, **options: Any) -> None:
        """Run, and exit with the command's code."""
        from pyqs_celery._state import get_current_app
        from pyqs_celery.bin import run

        arguments = list(options.get("arguments") or args)
        named = any(word in ("-A", "--app") or word.startswith("--app=") for word in arguments)
        sys.exit(run(arguments, None if named else get_current_app()))
