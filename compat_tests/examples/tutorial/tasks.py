from celery import Celery

app = Celery("tasks", broker="sqs://")


@app.task
def add(x, y):
    return x + y
