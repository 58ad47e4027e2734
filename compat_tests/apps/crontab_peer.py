"""Answers, for each line of JSON, what a crontab says: run by our interpreter and by real Celery's, so it imports either."""

import json
import sys
from datetime import datetime
from zoneinfo import ZoneInfo


def answer(library, question):
    app = APPS.setdefault(
        question["zone"], library.Celery("x", timezone=question["zone"], set_as_current=False, broker="memory://")
    )
    zone = ZoneInfo(question["zone"])
    now = datetime.fromtimestamp(question["now"], zone)
    last = datetime.fromtimestamp(question["last"], zone)
    fields = {key: set(value) if isinstance(value, list) else value for key, value in question["fields"].items()}
    try:
        entry = library.schedules.crontab(**fields, nowfun=lambda: now, app=app)
    except ValueError:
        return "never"
    due, seconds = entry.is_due(last)
    return [due, round(seconds, 3), max(0, round(entry.remaining_estimate(last).total_seconds(), 3))]


APPS = {}


def main(name):
    library = __import__(name)
    __import__(f"{name}.schedules")
    for line in sys.stdin:
        print(json.dumps(answer(library, json.loads(line))))


if __name__ == "__main__":
    main(sys.argv[1])
