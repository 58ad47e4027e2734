"""An application in the middle of a deploy, which knows the tasks of both."""

from soak_tasks import declare, fresh, make, retired

app = declare(make(), fresh, retired)
