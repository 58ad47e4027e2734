"""FIFO queues: a group's tasks run in their order whatever happens to one of them, groups run side by side, copies run once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone

import pytest

from tests.support.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]
QUEUE = "orders.fifo"
GROUPS = int(os.environ.get("PYQS_FIFO_GROUPS", "24"))
EACH = int(os.environ.get("PYQS_FIFO_EACH", "15"))
TURN_SECONDS = 0.03
FAILING = 0.05


@pytest.fixture
def send_groups(sqs, send, tmp_path):
    """Send ``each`` tasks to each of ``groups`` groups, in turn; one in twenty fails or is retried at first. Gives those."""

    def go(groups, each, *, dice, failing=FAILING):
        troubled = {}
        with send.app.publisher().batch():
            for number in range(each):
                for group in range(groups):
                    key = f"{group}.{number}"
                    options = {}
                    if dice.random() < failing:
                        options["trouble"] = troubled[key] = dice.choice(["fail", "retry"])
                        options["mark"] = str(tmp_path / f"mark-{key}")
                    send("take_turn", QUEUE, key, TURN_SECONDS, kwargs=options, task_id=key, MessageGroupId=f"g{group}")
        return troubled

    return go


def by_group(diary, event):
    found = defaultdict(list)
    for entry in diary.entries():
        if entry["event"] == event:
            group, number = map(int, entry["key"].split("."))
            found[group].append((number, entry["at"]))
    return found


def check_order(diary, groups, each):
    """No task begins before the one ahead of it has succeeded, and none of a group runs beside another."""
    starts, ends = by_group(diary, "start"), by_group(diary, "end")
    assert set(ends) == set(range(groups))
    for group in range(groups):
        done = {}
        for number, at in ends[group]:
            done.setdefault(number, at)
        assert set(done) == set(range(each)), f"group {group}"
        for number, at in starts[group]:
            if number:
                assert done[number - 1] <= at, f"{group}.{number} began before the one ahead of it had succeeded"


def most_at_once(diary):
    """How many groups were at work at the same time."""
    changes = sorted(
        (entry["at"], 1 if entry["event"] == "start" else -1, entry["key"])
        for entry in diary.entries()
        if entry["event"] in ("start", "end")
    )
    running, most = set(), 0
    for _, change, key in changes:
        (running.add if change > 0 else running.discard)(key.split(".")[0])
        most = max(most, len(running))
    return most


def test_groups_keep_their_order_through_failures_and_retries_and_run_side_by_side(
    sqs, start_worker, send, send_groups
):
    # given many groups, one in twenty of whose tasks fails or asks for a retry the first time, and two workers
    sqs.create(QUEUE, VisibilityTimeout=1)
    troubled = send_groups(GROUPS, EACH, dice=random.Random(5))
    assert set(troubled.values()) == {"fail", "retry"}
    workers = [start_worker("-Q", QUEUE, "-c", "4", "-n", f"w{number}") for number in range(2)]
    diary = workers[0].diary

    # when everything is done
    sqs.wait_empty(QUEUE, 150)

    # then each group was in order, and only those that had to ran again, once and at their place
    check_order(diary, GROUPS, EACH)
    assert diary.count("start") == Counter({f"{g}.{n}": 1 for g in range(GROUPS) for n in range(EACH)}) + Counter(
        troubled.keys()
    )
    assert most_at_once(diary) >= 6, "groups wait for each other"
    assert all(sqs.left(queue) == 0 for queue in sqs.ask("state"))

    # and when the same calls are sent once more, nothing runs
    again = sum(diary.count("start").values())
    for key in ("0.0", f"{GROUPS - 1}.{EACH - 1}", *troubled):
        send("take_turn", QUEUE, key, 0, task_id=key, MessageGroupId=f"g{key.split('.')[0]}")
    send("note", QUEUE, "after", MessageGroupId="g0")
    diary.wait("run", 1)
    sqs.wait_empty(QUEUE)
    assert sum(diary.count("start").values()) == again
    assert [worker.stop() for worker in workers] == [0, 0]


def test_order_holds_though_processes_are_killed(sqs, start_worker, send_groups):
    # given groups at work under short leases
    sqs.create(QUEUE, VisibilityTimeout=1)
    send_groups(12, 12, dice=random.Random(7), failing=0)
    worker = start_worker("-Q", QUEUE, "-c", "4", "worker_lease_seconds=3", "worker_max_deliveries=50")
    diary = worker.diary
    dice = random.Random(11)

    # when children are killed again and again, and once the consumer with all that it holds
    children = 0
    for blow in range(6):
        wanted = (blow + 1) * 18
        until(lambda wanted=wanted: sum(diary.count("end").values()) >= wanted, f"{wanted} tasks have ended", 90)
        family = worker.wait_family(5)
        victim = family[0] if blow == 3 else dice.choice(family[1:])
        children += blow != 3
        os.kill(victim, signal.SIGKILL)

    # then every group is in order, and there are no more repeats than there were victims
    sqs.wait_empty(QUEUE, 90)
    check_order(diary, 12, 12)
    repeats = sum(diary.count("start").values()) - 12 * 12
    held_by_the_consumer = 12  # of each group at most one was running, or done and not yet deleted
    assert repeats <= children + held_by_the_consumer
    assert worker.stop() == 0


def test_a_retry_comes_back_at_its_place(sqs, start_worker, send):
    """``self.retry()`` on a FIFO queue sends nothing, unless ``sqs_retry`` says so: a new message would go to the end."""
    sqs.create(QUEUE, VisibilityTimeout=30)
    send("retry_once", QUEUE, "a0", MessageGroupId="a")
    send("note", QUEUE, "a1", MessageGroupId="a")
    sqs.ask("reset")

    worker = start_worker("-Q", QUEUE, "-c", "2")
    worker.diary.wait("run", 3)
    sqs.wait_empty(QUEUE)

    runs = [(entry["key"], entry.get("retries")) for entry in worker.diary.entries() if entry["event"] == "run"]
    assert runs == [("a0", 0), ("a0", 1), ("a1", None)]
    assert not {name for name in sqs.requests() if name.startswith("Send")}
    assert worker.stop() == 0


def test_a_retry_that_is_a_new_message_is_not_taken_for_a_copy(sqs, start_worker, send):
    sqs.create(QUEUE, VisibilityTimeout=30)
    send("retry_once", QUEUE, "a0", MessageGroupId="a")
    send("note", QUEUE, "a1", MessageGroupId="a")

    worker = start_worker("-Q", QUEUE, "-c", "2", "sqs_retry=message")
    worker.diary.wait("run", 3)
    sqs.wait_empty(QUEUE)

    runs = [(entry["key"], entry.get("retries")) for entry in worker.diary.entries() if entry["event"] == "run"]
    assert runs == [("a0", 0), ("a1", None), ("a0", 1)]
    assert worker.stop() == 0


def test_receipts_that_led_to_no_run_are_not_counted_as_tries(sqs, start_worker, send, tmp_path):
    """Behind a failure the group goes back unrun, and SQS counts that receipt; a worker that knows it does not."""
    sqs.create(QUEUE, VisibilityTimeout=1)
    with send.app.publisher().batch():
        send("take_turn", QUEUE, "0.0", 0, "fail", str(tmp_path / "m0"), MessageGroupId="a")
        send("retry_once", QUEUE, "a1", MessageGroupId="a")

    worker = start_worker("-Q", QUEUE, "-c", "2", "--prefetch-multiplier", "5")
    worker.diary.wait("run", 2)
    sqs.wait_empty(QUEUE)

    runs = [(entry["key"], entry["retries"]) for entry in worker.diary.entries() if entry["event"] == "run"]
    assert runs == [("a1", 0), ("a1", 1)]
    assert worker.stop() == 0


def test_a_stop_gives_a_group_back_in_order(sqs, start_worker, send, tmp_path):
    sqs.create(QUEUE, VisibilityTimeout=30)
    gate = tmp_path / "gate"
    send("wait_for", QUEUE, "0.0", str(gate), MessageGroupId="g0")
    for number in range(1, 8):
        send("take_turn", QUEUE, f"0.{number}", 0, MessageGroupId="g0")
    worker = start_worker("-Q", QUEUE, "-c", "2", "--prefetch-multiplier", "5")
    worker.diary.wait("start", 1)

    worker.send_signal(signal.SIGTERM)
    worker.wait_logged("Warm shutdown")
    gate.touch()
    assert worker.wait() == 0
    assert sqs.state(QUEUE)["inflight"] == 0
    assert sqs.left(QUEUE) == 7

    second = start_worker("-Q", QUEUE, "-c", "2")
    sqs.wait_empty(QUEUE)
    check_order(second.diary, 1, 8)
    assert set(second.diary.count("start").values()) == {1}
    assert second.stop() == 0


@pytest.mark.parametrize("fault", ["reset_after", "partial_after"])
def test_a_send_whose_answer_is_lost_leaves_one_message(sqs, start_worker, send, fault):
    # given a server that does the work and loses the answer, twice
    sqs.create(QUEUE)
    sqs.faults({"kind": fault, "action": "SendMessageBatch", "count": 2})

    with send.app.publisher().batch():
        for number in range(10):
            send("note", QUEUE, number, MessageGroupId=f"g{number % 3}")

    assert sqs.left(QUEUE) == 10
    worker = start_worker("-Q", QUEUE, "-c", "2")
    sqs.wait_empty(QUEUE)
    assert worker.diary.count("run") == Counter(range(10))
    assert worker.stop() == 0


def test_a_dead_letter_whose_answer_is_lost_arrives_once_in_its_group(sqs, start_worker, send):
    sqs.create(QUEUE, VisibilityTimeout=30)
    sqs.create("orders-dlq.fifo")
    sqs.keep_events()
    sqs.faults({"kind": "reset_after", "action": "SendMessageBatch", "queue": "orders-dlq.fifo", "count": 1})
    send("reject", QUEUE, "away", False, MessageGroupId="tenant-7")

    worker = start_worker("-Q", QUEUE, "-c", "1")
    sqs.wait_empty(QUEUE)

    assert sqs.state("orders-dlq.fifo")["visible"] == 1
    groups = {event[4] for event in sqs.events("group") if event[2] == "orders-dlq.fifo"}
    assert groups == {"tenant-7"}
    assert worker.stop() == 0


# -- groups on every way a message is sent -------------------------------------------------------------


def groups_of(sqs, queue):
    """The groups of all messages that were ever put on a queue, in the order they came; None for one without."""
    grouped = {event[3]: event[4] for event in sqs.events("group") if event[2] == queue}
    return [grouped.get(event[3]) for event in sqs.events("send") if event[2] == queue]


@pytest.mark.parametrize("queue", ["emails", QUEUE])
def test_a_group_stays_on_every_way_that_a_message_is_sent(sqs, start_worker, send, queue):
    """The event log of the embedded SQS says of every message it took which group it has."""
    sqs.create(queue, VisibilityTimeout=30)
    sqs.keep_events()
    header = {"headers": {"tenant": "acme"}, "message_group_id": "header:tenant"}
    worker = start_worker("-Q", queue, "-c", "2", "sqs_retry=message")
    until(lambda: sqs.is_polled(queue), "the worker polls", 60)
    with send.app.publisher().batch():
        send("go_every_way", queue, "batch", "run", MessageGroupId="acme")
    send("go_every_way", queue, "retry", "retry", **header)
    send("go_every_way", queue, "reject", "reject", message_group_id=lambda name, args, kwargs, options: "acme")
    fifo = queue.endswith(".fifo")
    moment = {} if fifo else {"DelaySeconds": 0}
    send(
        "go_every_way",
        queue,
        "late",
        "run",
        message_group_id="acme",
        # it hops if it is received more than two seconds before that, so it is sent to a worker that waits for it
        eta=datetime.fromtimestamp(time.time() + 7, timezone.utc),
        **moment,
    )

    worker.diary.wait("run", 5)
    sqs.wait_empty(queue)

    runs = [(entry["key"], entry["group"]) for entry in worker.diary.entries() if entry["event"] == "run"]
    assert Counter(runs) == Counter({(key, "acme"): 1 for key in ("batch", "reject", "late")} | {("retry", "acme"): 2})
    sent = groups_of(sqs, queue)
    assert set(sent) == {"acme"}
    # the hop of what came before its ETA is one more message on a standard queue
    assert len(sent) == (5 if fifo else 6)
    dead = "orders-dlq.fifo" if fifo else "emails-dlq"
    assert groups_of(sqs, dead) == ["acme"]
    assert worker.stop() == 0


def test_groups_come_from_the_task_and_from_the_application(sqs, send, tmp_path):
    for queue in ("emails", QUEUE):
        sqs.create(queue)
    sqs.keep_events()
    app = send.app
    app.conf.sqs_message_group_id = "header:tenant"

    @app.task(name="proj.note", message_group_id=lambda name, args, kwargs, options: f"customer-{args[0]}")
    def note(number):
        """Sent, never run here."""

    for queue in ("emails", QUEUE):
        note.apply_async((7,), queue=queue)
        note.apply_async((7,), queue=queue, message_group_id="by-hand")
        note.s(8).apply_async(queue=queue)
        send("other", queue, headers={"tenant": "acme"})
        send("other", queue)

    wanted = ["customer-7", "by-hand", "customer-8", "acme"]
    assert groups_of(sqs, "emails") == [*wanted, None]
    assert groups_of(sqs, QUEUE) == [*wanted, "default"]
