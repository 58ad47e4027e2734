import celery
import celery.schedules, celery.states
from celery.schedules import \
    crontab  # continued

SCHEDULER = "celery.nowhere:Scheduler"


def later(tasks: "celery.Task"):
    return celery.chord(tasks), celery.schedules.schedule, crontab
