try:
    from celery.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded  # both
except ImportError:
    MaxRetriesExceededError = SoftTimeLimitExceeded = Exception
