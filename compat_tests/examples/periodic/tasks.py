from celery import Celery
from celery.schedules import crontab

app = Celery("tasks", broker="sqs://")
app.conf.timezone = "Europe/London"


@app.on_after_configure.connect
def setup_periodic_tasks(sender: Celery, **kwargs):
    # Calls test('hello') every second.
    sender.add_periodic_task(1.0, test.s("hello"), name="every second")

    # Calls test('world') every minute, expires in ten seconds.
    sender.add_periodic_task(60.0, test.s("world"), expires=10)

    # Executes every Monday morning at 7:30 a.m.
    sender.add_periodic_task(
        crontab(hour=7, minute=30, day_of_week=1),
        test.s("Happy Mondays!"),
    )


@app.task
def test(arg):
    print(arg)


@app.task
def add(x, y):
    z = x + y
    print(z)
