"""A file of facts: each line says who saw what, under a token that one behaviour of one driver owns."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def write(token, event, **facts):
    line = json.dumps({"token": token, "event": event, "role": os.environ["MIXED_ROLE"], **facts}, default=str) + "\n"
    descriptor = os.open(os.environ["MIXED_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(token, event=None):
    """The facts under a token, in the order in which they were written."""
    found = []
    with Path(os.environ["MIXED_DIARY"]).open(encoding="utf-8") as lines:
        for line in lines:
            if f'"{token}"' in line:
                entry = json.loads(line)
                if entry["token"] == token and event in {None, entry["event"]}:
                    found.append(entry)
    return found


def wait(token, event, number, seconds):
    """``number`` facts or more, or as many as there are when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = read(token, event)
        if len(found) >= number or time.monotonic() > deadline:
            return found
        time.sleep(0.02)
