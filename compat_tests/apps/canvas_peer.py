"""Builds canvases and prints the messages that sending them makes; run by our interpreter and by real Celery's.

``python canvas_peer.py celery|pyqs_celery`` prints, for each canvas by name, the messages as [task, headers, body].
"""

import importlib
import json
import sys

LIBRARY = sys.argv[1]
lib = importlib.import_module(LIBRARY)
app = lib.Celery("compat", broker="memory://", backend="cache+memory://", set_as_current=True)
app.conf.result_expires = 3600
SENT = []


@app.task(name="compat.add")
def add(x, y):
    return x + y


@app.task(name="compat.total")
def total(values):
    return sum(values)


@app.task(name="compat.errback")
def errback(task_id):
    return task_id


chain, group, chord = lib.chain, lib.group, lib.chord

CANVASES = {
    "call": lambda: add.s(1, 2).apply_async(),
    "call with options": lambda: add.s(1, y=2).set(queue="q", priority=3).apply_async(headers={"a": 1}, shadow="s"),
    "immutable": lambda: add.si(1, 2).apply_async((5,), queue="q"),
    "links": lambda: add.s(1, 2).apply_async(link=[add.s(3), add.s(4)], link_error=errback.s()),
    "chain": lambda: chain(add.s(1, 2), add.s(3), add.s(4)).apply_async(queue="q"),
    "chain of lists": lambda: chain([add.s(1, 2), add.s(3)]).delay(),
    "chain in a chain": lambda: chain(add.s(1, 2), chain(add.s(3), add.s(4)), add.s(5)).delay(),
    "chain with links": lambda: chain(add.s(1, 2), add.s(3)).apply_async(link=add.s(9), link_error=errback.s()),
    "chain on_error": lambda: chain(add.s(1, 2), add.s(3)).on_error(errback.s()).delay(),
    "chain with a countdown": lambda: chain(add.s(1, 2).set(priority=1), add.s(3).set(queue="b")).apply_async(),
    "group": lambda: group(add.s(1, 2), add.s(3, 4)).apply_async(queue="q"),
    "group with arguments": lambda: group(add.s(1), add.s(2)).apply_async((10,)),
    "group of one": lambda: group(add.s(1, 2)).delay(),
    "group in a group": lambda: group(add.s(1, 1), group(add.s(2, 2), add.s(3, 3))).delay(),
    "group of chains": lambda: group(chain(add.s(1, 1), add.s(2)), add.s(3, 3)).delay(),
    "chain ending in a group": lambda: (add.s(1, 1) | group(add.s(2), add.s(3))).delay(),
    "chord": lambda: chord([add.s(1, 1), add.s(2, 2)], total.s()).delay(),
    "chord called": lambda: chord([add.s(1, 1), add.s(2, 2)])(total.s(), queue="q"),
    "chord with an errback": lambda: chord([add.s(1, 1), add.s(2, 2)], total.s().on_error(errback.s())).delay(),
    "chord of one": lambda: chord([add.s(1, 1)], total.s()).delay(),
    "chord with a chain as member": lambda: chord([chain(add.s(1, 1), add.s(2)), add.s(3, 3)], total.s()).delay(),
    "chord with a group as member": lambda: chord([group(add.s(1, 1)), add.s(3, 3)], total.s()).delay(),
    "chord with a chain as body": lambda: chord([add.s(1, 1), add.s(2, 2)], chain(total.s(), add.s(1))).delay(),
    "chord with a group as body": lambda: chord([add.s(1, 1), add.s(2, 2)], group(total.s(), total.s())).delay(),
    "chord in a chord": lambda: chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(3, 3)], total.s()).delay(),
    "chord as body": lambda: chord([add.s(1, 1)], chord([total.s(), total.s()], total.s())).delay(),
    "group | task": lambda: (group(add.s(1, 1), add.s(2, 2)) | total.s()).delay(),
    "group | task | task": lambda: (group(add.s(1, 1), add.s(2, 2)) | total.s() | add.s(5)).delay(),
    "task | group | task": lambda: (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s()).delay(),
    "task | group | task | task": lambda: (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(1)).delay(),
    "group | group": lambda: (group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s())).delay(),
    "group | group | task": lambda: (group(add.s(1, 1), add.s(2, 2)) | group(total.s(), total.s()) | total.s()).delay(),
    "chord | task": lambda: (chord([add.s(1, 1), add.s(2, 2)], total.s()) | add.s(5)).delay(),
    "chord | group": lambda: (chord([add.s(1, 1), add.s(2, 2)], total.s()) | group(add.s(5), add.s(6))).delay(),
    "map": lambda: total.map([[1, 2], [3]]).delay(),
    "starmap": lambda: add.starmap([(1, 2), (3, 4)]).apply_async(),
    "chunks": lambda: add.chunks([(1, 2), (3, 4), (5, 6)], 2).apply_async(),
    "chunks in a chain": lambda: chain(add.si(1, 1), add.chunks([(1, 2), (3, 4), (5, 6)], 2)).apply_async(),
    "stamped chain": lambda: stamped(chain(add.s(1, 2), add.s(3))).apply_async(),
    "stamped group": lambda: stamped(group(add.s(1, 2), add.s(3, 4))).apply_async(),
}


def stamped(sig):
    sig.stamp(tenant="a", stamped_headers=["tenant"])
    return sig


def capture():
    if LIBRARY == "celery":

        def send(producer, name, message, **options):
            headers, _, body, _ = message
            SENT.append([name, headers, body, options.get("routing_key") or getattr(options.get("queue"), "name", "")])

        app.amqp.__dict__["send_task_message"] = send
    else:
        from pyqs_celery.wire.body import decode_body
        from pyqs_celery.wire.envelope import decode_head

        def seen(outgoing, **budget):
            head = decode_head(outgoing.body)
            message = decode_body(head)
            embed = {key: getattr(message, key) for key in ("callbacks", "errbacks", "chain", "chord")}
            body = [message.args, message.kwargs, embed]
            SENT.append([head.task, dict(head.raw_headers), body, outgoing.queue])

        app.publisher().send = seen


def main():
    capture()
    found = {}
    for name, send in CANVASES.items():
        SENT.clear()
        try:
            send()
            found[name] = json.loads(json.dumps(SENT, default=str))
        except Exception as exc:  # noqa: BLE001 - the test shows it
            found[name] = repr(exc)
    print(json.dumps(found))


main()
