"""Runs the canvases it reads, one JSON list a line, eagerly, and prints each one's value; by our interpreter or Celery's."""

import importlib
import json
import sys

import canvas_trees

lib = importlib.import_module(sys.argv[1])
app = lib.Celery("compat", broker="memory://", backend="cache+memory://", task_always_eager=True)


@app.task(name="compat.step")
def step(value, tag):
    return canvas_trees.digest(value, tag)


for line in sys.stdin:
    try:
        value = canvas_trees.build(lib, step, json.loads(line)).apply_async(("start",)).get()
    except Exception as exc:  # noqa: BLE001 - the test shows it
        value = {"error": repr(exc)}
    print(json.dumps(value))
