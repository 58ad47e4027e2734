"""An SQS for one machine: for development, for ``pyqs-celery demo``, and the instrument of our own tests.

Standard library only, in memory or in a SQLite file. It checks no signatures and is never meant for production.
"""
