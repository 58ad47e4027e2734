"""One side's producer: sends what it reads from standard input, a call in JSON a line, and answers each with a line.

A call is {"broker", "settings", "task", "args", "options"}; the answer {"id"} or {"error"}.
"""

import json
import sys

from compat_tests.pains.app import make_app

apps = {}
for line in sys.stdin:
    call = json.loads(line)
    known = json.dumps([call["broker"], call["settings"]])
    if known not in apps:
        apps[known] = make_app(call["broker"], call["settings"])
    try:
        sent = apps[known].send_task(call["task"], call["args"], **call["options"])
        answer = {"id": sent.id}
    except Exception as exc:  # noqa: BLE001 - told to the one who asked
        answer = {"error": repr(exc)}
    print(json.dumps(answer), flush=True)
