"""``python -m pyqs_celery`` is the command ``pyqs-celery``."""

from pyqs_celery.bin import main

if __name__ == "__main__":
    main()
