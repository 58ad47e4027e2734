LOGGING = {
    "loggers": {
        "celery": {"level": "INFO"},
        "celery.task": {"level": "INFO"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.worker": {"level": "INFO"},
    },
    "formatters": {"task": {"()": "celery.app.log.TaskFormatter"}},
}
