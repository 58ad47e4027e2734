"""What will differ after the swap. A check is a function ``check(context) -> Iterable[Finding]``; add one to CHECKS."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyqs_celery.doctor.code_checks import check_code
from pyqs_celery.doctor.deploy_checks import check_deploys
from pyqs_celery.doctor.finding import Context, Finding
from pyqs_celery.doctor.queue_checks import check_queues, queues_of
from pyqs_celery.doctor.settings_checks import check_settings
from pyqs_celery.doctor.task_checks import check_tasks

__all__ = ("CHECKS", "Context", "Finding", "examine", "queues_of")

CHECKS: tuple[Callable[[Context], Iterable[Finding]], ...] = (
    check_code,
    check_settings,
    check_tasks,
    check_queues,
    check_deploys,
)


def examine(context: Context) -> list[Finding]:
    """All findings, the worst first, then by place."""
    found = {finding for check in CHECKS for finding in check(context)}
    return sorted(found, key=lambda each: each.order)
