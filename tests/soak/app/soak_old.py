"""The older application."""

from soak_tasks import declare, make, retired

app = declare(make(), retired)
