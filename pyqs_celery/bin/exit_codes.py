"""Exit codes of the commands, which are Celery's where it has one."""

EX_OK = 0
EX_FAILURE = 1
EX_USAGE = 2
EX_BOOT = 3
EX_UNAVAILABLE = 69
EX_CANTCREAT = 73
