"""The newer application."""

from soak_tasks import declare, fresh, make

app = declare(make(), fresh)
