from celery.app.control import Control
from celery.result import AsyncResult
from kombu.transport import SQS

from shop.celery import app


def cancel(task_id, token):
    AsyncResult(task_id).revoke()
    token.revoke()
    form = token.control.validate()
    return app.control.broadcast("pool_restart"), form, Control, SQS
