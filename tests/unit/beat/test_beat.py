"""Beat: what it sends and when, what survives a crash, and two of them."""

from __future__ import annotations

import json
import os
import threading
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from pyqs_celery import Celery, signals
from pyqs_celery.beat import BeatLazyFunc, PersistentScheduler, ScheduleEntry, Scheduler, Service, scheduler_class
from pyqs_celery.beat.lock import BeatLock
from pyqs_celery.broker.config import broker_config
from pyqs_celery.exceptions import BootError, ImproperlyConfigured, OperationalError
from pyqs_celery.schedules import crontab, schedule

UTC = timezone.utc


@pytest.fixture
def app(tmp_path):
    made = Celery("beat", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.beat_schedule_filename = str(tmp_path / "schedule")

    @made.task(name="job")
    def job(*args, **kwargs):
        pass

    yield made
    made.close()


def calls_of(app):
    """What was sent, as (task, args, kwargs)."""
    sent = []

    @signals.before_task_publish.connect(weak=False)
    def note(sender, body, **kwargs):
        sent.append((sender, list(body[0]), dict(body[1])))

    return sent


@pytest.fixture(autouse=True)
def _forget_receivers():
    before = list(signals.before_task_publish.receivers)
    yield
    signals.before_task_publish.receivers = before


def ago(**delta):
    return datetime.now(UTC) - timedelta(**delta)


# -- entries -------------------------------------------------------------------------------------------


def test_an_entry_counts_its_runs_and_keeps_them_over_an_edit(app):
    entry = ScheduleEntry("a", "job", schedule=10, app=app, last_run_at=ago(hours=1))

    following = next(entry)
    following.update(ScheduleEntry("a", "other", schedule=20, app=app))

    assert (following.total_run_count, following.task, following.schedule) == (1, "other", schedule(20))
    assert following.last_run_at > entry.last_run_at


def test_entries_compare_by_what_a_person_may_edit(app):
    one = ScheduleEntry("a", "job", schedule=crontab(5), app=app, last_run_at=ago(hours=1))

    assert one == ScheduleEntry("a", "job", schedule=crontab(5), app=app)
    assert one != ScheduleEntry("a", "job", schedule=crontab(6), app=app)


def test_periodic_tasks_are_added_when_the_app_is_configured(app):
    job = app.tasks["job"]
    names = []

    @app.on_after_configure.connect
    def add(sender, **kwargs):
        names.append(sender.add_periodic_task(10.0, job.s(1), name="ten"))
        names.append(sender.add_periodic_task(crontab(5), job.s(2), expires=5, queue="q"))

    fresh = Celery("again", broker=app.conf.broker_url, set_as_current=False)
    fresh.on_after_configure.connect(add)
    entries = fresh.conf.beat_schedule

    assert list(entries) == names == ["ten", "job(2)"]
    assert entries["job(2)"]["options"] == {"expires": 5, "queue": "q"}


# -- ticking -------------------------------------------------------------------------------------------


def test_what_is_due_is_sent_and_then_waited_for(app):
    sent = calls_of(app)
    app.conf.beat_schedule = {
        "lazy": {"task": "job", "schedule": 60, "args": [BeatLazyFunc(lambda: 7)], "kwargs": {"x": 1}},
    }
    scheduler = Scheduler(app)
    scheduler.schedule["lazy"].last_run_at = ago(seconds=61)

    assert scheduler.tick() == 0
    assert 58 < scheduler.tick() < 60
    assert sent == [("job", [7], {"x": 1})]


def test_the_sleep_is_never_longer_than_the_longest_allowed(app):
    app.conf.beat_schedule = {"daily": {"task": "job", "schedule": timedelta(days=1)}}

    assert Scheduler(app, max_interval=5).tick() <= 5
    assert Scheduler(app).tick() <= 300
    app.conf.beat_schedule = {}
    assert Scheduler(app, max_interval=7).tick() == 7


def test_a_schedule_that_changes_while_it_runs_is_taken_in(app):
    app.conf.beat_schedule = {"slow": {"task": "job", "schedule": 3600}}
    scheduler = Scheduler(app)
    scheduler.tick()

    scheduler.add(name="quick", task="job", schedule=5)

    assert scheduler.tick() < 5


def test_a_tick_the_broker_does_not_take_is_sent_later(app, monkeypatch):
    # given a broker that is out of reach
    reachable = []
    app.conf.beat_schedule = {"a": {"task": "job", "schedule": 3600}}

    class Guarded(Scheduler):
        def apply_async(self, entry, producer=None, advance=True, **kwargs):
            if not reachable:
                try:
                    raise OperationalError("out of reach")
                except OperationalError as exc:
                    from pyqs_celery.beat import SchedulingError

                    raise SchedulingError("not sent") from exc
            return super().apply_async(entry, producer, advance, **kwargs)

    sent = calls_of(app)
    scheduler = Guarded(app)
    scheduler.schedule["a"].last_run_at = ago(seconds=3601)

    # when it ticks, and the broker comes back
    scheduler.tick()
    assert scheduler.tick() < 60
    reachable.append(True)
    scheduler._retry_at = 0
    scheduler.tick()

    # then the tick is sent, once
    scheduler.tick()
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"schedule": 1}, "no task"),
        ({"task": "job"}, "no schedule"),
        ("job", "must be a dictionary"),
        ({"task": "job", "schedule": 1, "shedule": 2}, "shedule"),
        ({"task": "job", "schedule": "hourly"}, "a schedule is"),
    ],
)
def test_an_entry_that_is_none_is_named(app, entry, words):
    app.conf.beat_schedule = {"mine": entry}

    with pytest.raises(ImproperlyConfigured, match=words):
        Scheduler(app)


def test_a_task_that_is_not_here_is_told_and_sent_all_the_same(app, caplog):
    sent = calls_of(app)
    app.conf.beat_schedule = {"elsewhere": {"task": "of.another.app", "schedule": 1}}
    scheduler = Scheduler(app)
    scheduler.schedule["elsewhere"].last_run_at = ago(seconds=5)

    scheduler.tick()

    assert "of.another.app" in caplog.text
    assert [task for task, _, _ in sent] == ["of.another.app"]


# -- the file ------------------------------------------------------------------------------------------


def test_what_has_run_is_known_after_a_crash(app):
    # given a beat that has sent a task and is killed: nothing is closed
    app.conf.beat_schedule = {"a": {"task": "job", "schedule": 3600}}
    path = app.conf.beat_schedule_filename
    killed = PersistentScheduler(app, schedule_filename=path)
    killed.schedule["a"].last_run_at = ago(seconds=3601)
    killed.tick()
    os.close(killed._lock)

    # when another begins
    sent = calls_of(app)
    scheduler = PersistentScheduler(app, schedule_filename=path)

    # then it waits for the rest of the hour
    assert scheduler.tick() > 290
    assert scheduler.schedule["a"].total_run_count == 1
    assert sent == []
    scheduler.close()


@pytest.mark.parametrize(
    "content", [b"garbage", b"{}", b'{"format": 2}', b"\x00\x13Cgdbm", b'{"format":1,"entries":[]}']
)
def test_a_file_that_is_none_is_set_aside(app, content, caplog, tmp_path):
    path = tmp_path / "schedule"
    path.write_bytes(content)
    app.conf.beat_schedule = {"a": {"task": "job", "schedule": 3600}}

    scheduler = PersistentScheduler(app, schedule_filename=str(path))

    assert (tmp_path / "schedule.unreadable-1").read_bytes() == content
    assert "schedule.unreadable-1" in caplog.text
    assert json.loads(path.read_text())["entries"].keys() == {"a"}
    scheduler.close()


def test_another_timezone_begins_anew(app, caplog):
    app.conf.beat_schedule = {"a": {"task": "job", "schedule": 3600}}
    path = app.conf.beat_schedule_filename
    first = PersistentScheduler(app, schedule_filename=path)
    first.schedule["a"].last_run_at = ago(days=2)
    first.close()

    app.conf.timezone = "Asia/Tokyo"
    second = PersistentScheduler(app, schedule_filename=path)

    assert "Timezone changed" in caplog.text
    assert second.schedule["a"].last_run_at > ago(minutes=1)
    second.close()


def test_two_beats_do_not_share_a_file(app):
    first = PersistentScheduler(app, schedule_filename=app.conf.beat_schedule_filename)

    with pytest.raises(BootError, match="another beat"):
        PersistentScheduler(app, schedule_filename=app.conf.beat_schedule_filename)

    first.close()
    PersistentScheduler(app, schedule_filename=app.conf.beat_schedule_filename).close()


# -- schedulers of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["celery.beat:PersistentScheduler", "celery.beat.PersistentScheduler"])
def test_celerys_name_for_the_default_is_ours(name):
    assert scheduler_class(name) is PersistentScheduler


def test_a_scheduler_that_does_not_import():
    with pytest.raises(ImproperlyConfigured, match=r"no_such\.module"):
        scheduler_class("no_such.module:Scheduler")


def test_a_scheduler_of_ones_own_is_used(app):
    stop = threading.Event()

    class Own(Scheduler):
        ticks = 0

        def tick(self, *args, **kwargs):
            Own.ticks += 1
            return 0.0

    service = Service(app, scheduler_cls=Own)

    service.start(wait=lambda seconds: Own.ticks >= 3 or stop.is_set())

    assert Own.ticks == 3


def test_beat_tells_that_it_begins(app):
    told = []

    @signals.beat_init.connect(weak=False)
    def note(sender, **kwargs):
        told.append(type(sender.scheduler).__name__)

    try:
        Service(app, scheduler_cls=Scheduler).start(wait=lambda seconds: True)
    finally:
        signals.beat_init.receivers = []

    assert told == ["Scheduler"]


# -- one at a time -------------------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def locks():
    config = broker_config(f"memory://{uuid.uuid4().hex}", {}, {})
    clock = Clock()
    return [BeatLock(config, "beat-lock.fifo", 10, clock) for _ in range(2)], clock


def test_one_of_two_beats_ticks(locks):
    (first, second), _ = locks
    first.hold()

    held = [first.hold(), second.hold(), second.hold()]

    assert held == [True, False, False]


def test_the_holder_goes_on_holding(locks):
    (first, second), clock = locks
    first.hold()
    assert first.hold()

    clock.now += 6
    assert first.hold()
    clock.now += 6
    assert first.held
    assert not second.hold()


def test_a_lock_that_is_released_is_taken_at_once(locks):
    (first, second), _ = locks
    first.hold()
    assert first.hold()

    first.release()

    assert not first.held
    assert second.hold()
    assert not first.hold()


def test_a_lock_that_could_not_be_renewed_in_time_is_no_lock(locks):
    (first, _), clock = locks
    first.hold()
    assert first.hold()

    clock.now += 9.5

    assert not first.held


def test_the_other_begins_where_the_first_may_have_ended(app):
    app.conf.beat_schedule = {"a": {"task": "job", "schedule": 3600}}
    service = Service(app, scheduler_cls=Scheduler)
    scheduler = service.scheduler
    scheduler.schedule["a"].last_run_at = ago(days=3)

    service._take_over(scheduler)

    assert ago(seconds=70) < scheduler.schedule["a"].last_run_at < ago(seconds=50)
