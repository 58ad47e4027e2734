from celery import bootsteps


class Live(bootsteps.StartStopStep):
    pass
