"""The soak's accounting finds what is wrong: fed with made-up histories, it must say so."""

from __future__ import annotations

import pytest

from tests.soak.accounting import Account, Disturbance, Event

TASK, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class Story:
    """Lines as processes write them, told in order."""

    def __init__(self):
        self.account = Account()

    def sends(
        self,
        task=TASK,
        kind="nothing",
        at=0.0,
        *,
        sure=True,
        queue="work",
        due=0.0,
        expires=0.0,
        group="",
        number=0,
        parent="",
    ):
        self.account.take_line(["S", str(at), task, kind, queue, str(due), str(expires), group, str(number), parent])
        if sure:
            self.account.take_line(["C", str(at), task])
        return self

    def begins(
        self,
        at,
        task=TASK,
        kind="nothing",
        *,
        retries=0,
        message="m1",
        count=1,
        pid=7,
        worker="ada",
        sent_at=0.0,
        parent="",
        queue="work",
    ):
        words = [
            "B",
            str(at),
            task,
            kind,
            str(retries),
            message,
            str(count),
            str(pid),
            worker,
            queue,
            str(sent_at),
            parent,
        ]
        self.account.take_line(words)
        return self

    def ends(self, at, outcome="ok", task=TASK, *, message="m1", count=1, pid=7):
        self.account.take_line(["E", str(at), task, message, str(count), str(pid), outcome])
        return self

    def runs(self, at, outcome="ok", task=TASK, **facts):
        self.begins(at, task, **facts)
        named = {key: facts[key] for key in ("message", "count", "pid") if key in facts}
        return self.ends(at + 0.1, outcome, task, **named)

    def suffers(self, *disturbances):
        self.account.take_disturbances(disturbances)
        return self

    def sqs(self, *events):
        self.account.take_events(events)
        return self

    @property
    def faults(self):
        return self.account.verdict().faults_found


@pytest.fixture
def story():
    return Story()


def killed(kind, at, *, worker="ada", pid=0, until=None):
    return Disturbance(kind, at, until or at, worker, pid)


def struck(detail, at, queue="work"):
    return Event(at, "fault", queue, "", detail)


def test_a_task_that_ran_once_is_in_order(story):
    story.sends().runs(1)

    assert story.faults == {}
    assert story.account.verdict().counts["succeeded"] == 1


def test_an_id_that_is_nowhere_is_lost(story):
    story.sends().sends(OTHER).runs(1)

    assert story.faults == {"lost": [OTHER]}


def test_an_id_whose_only_run_died_is_lost(story):
    story.sends().begins(1)

    assert story.faults == {"lost": [TASK]}


def test_a_send_in_doubt_may_be_nowhere(story):
    story.sends(sure=False)

    assert story.faults == {}
    assert story.account.verdict().counts["in doubt, and not there"] == 1


def test_a_dead_letter_is_no_loss_but_only_poison_may_become_one(story):
    story.sends(kind="hopeless").runs(1, "fail", kind="hopeless").sends(OTHER).runs(1, "fail", OTHER, message="m2")
    story.account.take_letters({"work-dlq": [TASK, OTHER]})

    assert story.faults == {"buried_alive": [OTHER]}


def test_what_expired_is_no_loss_but_only_what_may_expire_can(story):
    story.sends(kind="brief", expires=2.0).sends(OTHER)
    story.account.take_line(["X", "3", TASK])
    story.account.take_line(["X", "3", OTHER])

    assert story.faults == {"lost": [OTHER]}


def test_what_had_expired_when_it_was_sent_must_not_run(story):
    story.sends(kind="brief", at=10.0, expires=5.0).runs(11, kind="brief")

    assert story.faults == {"ran_expired": [TASK]}


def test_a_second_run_without_a_reason_is_told(story):
    story.sends().runs(1).runs(20, count=2)

    assert story.faults == {"unexplained": [TASK]}


@pytest.mark.parametrize("kind", ["kill consumer", "kill group", "quit"])
def test_the_end_of_its_consumer_explains_a_second_run(story, kind):
    story.sends().runs(1).runs(20, count=2).suffers(killed(kind, 1.05))

    assert story.faults == {}
    assert story.account.verdict().explained == {kind: 1}


@pytest.mark.parametrize(
    "disturbance",
    [
        killed("kill consumer", 1.05, worker="bob"),
        killed("kill consumer", 15.0),
        killed("kill child", 1.05, pid=8),
        killed("kill manager", 1.05),
        killed("term", 1.05),
        killed("hup", 1.05),
        killed("freeze child", 1.05, pid=7, until=20),
        killed("freeze manager", 1.05, until=20),
    ],
    ids=lambda each: f"{each.kind} {each.begin} {each.worker} {each.pid}",
)
def test_what_happened_elsewhere_or_should_do_no_harm_explains_nothing(story, disturbance):
    story.sends().runs(1).runs(20, count=2).suffers(disturbance)

    assert story.faults == {"unexplained": [TASK]}


def test_the_end_of_its_child_explains_a_second_run_of_what_it_ran(story):
    story.sends().begins(1).runs(3, count=2, pid=8).suffers(killed("kill child", 1.5, pid=7))

    assert story.faults == {}


def test_a_frozen_consumer_explains_a_second_run(story):
    story.sends().runs(15).runs(20, count=2, worker="bob").suffers(killed("freeze consumer", 1, until=14))

    assert story.faults == {}


def test_a_deletion_that_failed_explains_a_second_run_on_its_queue(story):
    story.sends().runs(1).runs(20, count=2)
    story.sends(OTHER, queue="other").runs(1, task=OTHER, message="m2", queue="other")
    story.runs(20, task=OTHER, message="m2", count=2, queue="other")
    story.sqs(struck("503 DeleteMessageBatch", 1.2), struck("503 GetQueueUrl", 1.2, "other"))

    assert story.faults == {"unexplained": [OTHER]}


def test_a_move_to_the_dead_letters_that_failed_explains_a_second_run(story):
    story.sends(kind="refusing").runs(1, "reject", kind="refusing").runs(20, "reject", kind="refusing", count=2)
    story.account.take_letters({"work-dlq": [TASK]})
    story.sqs(struck("slow_body GetQueueUrl", 1.2, "work-dlq"))

    assert story.faults == {}


def test_a_delivery_that_sqs_made_twice_explains_a_second_run(story):
    story.sends().runs(1).runs(2, count=2)
    story.sqs(Event(1.5, "duplicate", "work", "m1", "after its deletion"))

    assert story.faults == {}


def test_failing_deliveries_and_retries_need_no_excuse(story):
    story.sends(kind="stumbling").runs(1, "fail", kind="stumbling").runs(9, kind="stumbling", count=2)
    story.sends(OTHER, kind="flaky").runs(1, "retry", OTHER, kind="flaky", message="m2")
    story.runs(2, task=OTHER, kind="flaky", message="m3", retries=1)

    assert story.faults == {}
    assert story.account.verdict().explained == {"a failing delivery": 1}


def test_a_retry_that_is_sent_twice_needs_one(story):
    story.sends(kind="flaky").runs(1, "retry", kind="flaky")
    story.runs(2, kind="flaky", message="m2", retries=1).runs(3, kind="flaky", message="m3", retries=1)

    assert story.faults == {"unexplained": [TASK]}


def test_a_send_whose_answer_was_lost_explains_two_messages(story):
    story.sends().runs(1).runs(2, message="m2", sent_at=0.5)
    story.sqs(struck("reset_after SendMessageBatch", 0.1))

    assert story.faults == {}


def test_a_send_whose_answer_was_lost_explains_what_became_of_both_as_delayed_copies(story):
    story.sends(kind="late", due=25.0).runs(26, kind="late", sent_at=13.0)
    story.runs(27, kind="late", message="m2", sent_at=13.1)
    story.sqs(struck("reset_after SendMessage", 0.1))

    assert story.faults == {}


def test_an_answer_lost_elsewhere_or_long_after_explains_no_second_copy(story):
    story.sends(kind="late", due=25.0).runs(26, kind="late", sent_at=13.0)
    story.runs(27, kind="late", message="m2", sent_at=13.1)
    story.sqs(struck("reset_after SendMessage", 0.1, "elsewhere"), struck("reset_after SendMessage", 40.0))

    assert story.faults == {"unexplained": [TASK]}


def copied_late(story):
    """A late task without a delay of SQS's own, of which two copies with a delay ran."""
    story.sends(kind="late", due=25.0).runs(26, kind="late", sent_at=13.0)
    return story.runs(27, kind="late", message="m2", sent_at=13.1)


def test_a_first_message_that_came_twice_explains_two_copies_with_a_delay(story):
    copied_late(story).sqs(Event(12.0, "duplicate", "work", "m0", "in flight"))

    assert story.faults == {}


def test_a_first_message_that_came_twice_and_ran_itself_explains_its_copy(story):
    copied_late(story).sqs(Event(14.0, "duplicate", "work", "m2", "in flight"))

    assert story.faults == {}


def test_one_that_came_twice_only_after_it_ran_explains_nothing(story):
    copied_late(story).sqs(Event(28.0, "duplicate", "work", "m2", "after its deletion"))

    assert story.faults == {"unexplained": [TASK]}


@pytest.mark.parametrize(
    "event",
    [
        Event(12.0, "duplicate", "elsewhere", "m0", "in flight"),
        Event(14.0, "duplicate", "work", "m0", "in flight"),
        Event(-1.0, "duplicate", "work", "m0", "in flight"),
        Event(12.0, "duplicate", "work", "m9", "in flight"),
        Event(12.0, "receive", "work", "m0"),
    ],
    ids=["another queue", "after both copies", "before it was sent", "a message known to be another's", "no duplicate"],
)
def test_what_came_twice_elsewhere_explains_no_second_copy(story, event):
    story.sends(OTHER).runs(1, task=OTHER, message="m9")
    copied_late(story).sqs(event)

    assert story.faults == {"unexplained": [TASK]}


def test_a_duplicate_of_an_unseen_message_explains_nothing_but_copies_with_a_delay(story):
    story.sends().runs(1).runs(2, message="m2", sent_at=0.5)
    story.sqs(Event(0.3, "duplicate", "work", "m0", "in flight"))

    assert story.faults == {"unexplained": [TASK]}


def member_runs(story, *begins):
    story.sends(kind="member")
    for count, at in enumerate(begins, 1):
        story.runs(at, kind="member", count=count)
    return story


def test_the_claim_of_a_killed_worker_on_its_chord_explains_a_third_run(story):
    member_runs(story, 1, 14, 40).suffers(killed("kill child", 1.5, pid=7))

    assert story.faults == {}
    assert story.account.verdict().explained == {"kill child": 1, "kill child, and then its claim": 1}


def test_a_claim_explains_nothing_once_it_is_over_nor_for_other_kinds(story):
    member_runs(story, 1, 60, 90).suffers(killed("kill child", 1.5, pid=7))
    story.sends(OTHER)
    for count, at in enumerate((1, 14, 40), 1):
        story.runs(at, task=OTHER, message="m2", count=count)

    assert story.faults == {"unexplained": [TASK, OTHER]}


def test_a_send_that_was_refused_explains_none(story):
    story.sends().runs(1).runs(2, message="m2", sent_at=0.5)
    story.sqs(struck("500 SendMessageBatch", 0.1))

    assert story.faults == {"unexplained": [TASK]}


def test_what_could_not_send_what_follows_it_runs_again(story):
    story.sends(kind="step").runs(1, kind="step").runs(9, kind="step", count=2)
    story.sends(OTHER).runs(1, task=OTHER, message="m2").runs(9, task=OTHER, message="m2", count=2)
    story.sqs(struck("503 SendMessage", 1.2, "elsewhere"))

    assert story.faults == {"unexplained": [OTHER]}


def test_a_parent_that_ran_again_explains_a_second_message_of_its_child(story):
    story.sends().begins(1).runs(9, count=2, pid=8).suffers(killed("kill child", 1.5, pid=7))
    story.sends(OTHER, parent=f"x {TASK}").runs(2, task=OTHER, message="m2").runs(10, task=OTHER, message="m3")

    assert story.faults == {}


def test_a_group_out_of_order_is_told(story):
    story.sends(group="g", number=1).sends(OTHER, group="g", number=2)
    story.runs(2).runs(1, task=OTHER, message="m2")

    assert story.faults == {"disordered": [OTHER]}


def test_the_next_of_a_group_must_not_begin_before_the_one_before_has_ended(story):
    story.sends(group="g", number=1).sends(OTHER, group="g", number=2)
    story.begins(1).begins(1.5, OTHER, message="m2").ends(2).ends(2, task=OTHER, message="m2")

    assert story.faults == {"disordered": [OTHER]}


def test_a_group_in_order_through_a_failure_is_in_order(story):
    story.sends(group="g", number=1).sends(OTHER, group="g", number=2)
    story.runs(1, "fail").runs(9, count=2).runs(10, task=OTHER, message="m2")

    assert story.faults == {}


def test_a_task_that_runs_before_its_eta_is_told(story):
    story.sends(kind="late", due=5.0).runs(4.8, kind="late")

    assert story.faults == {"early": [TASK]}


def test_wrong_values_and_tasks_of_nobody_are_told(story):
    story.sends(kind="total").runs(1, "wrong", kind="total").runs(1, task=OTHER, message="m2")

    assert story.faults == {"lost": [TASK], "wrong": [TASK], "unknown": [OTHER]}
