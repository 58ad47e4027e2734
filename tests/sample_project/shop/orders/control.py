from shop.celery import app


def cancel(task_id):
    app.control.revoke(task_id, terminate=True)


def alive():
    return app.control.inspect().ping()


def empty():
    return app.control.purge()
