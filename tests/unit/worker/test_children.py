"""The consumer's side of its children, over real sockets."""

from __future__ import annotations

import selectors
import socket
import time

import pytest

from pyqs_celery.outcome import Outcome
from pyqs_celery.worker.channel import ChildEnd, Control, outcome_to_json
from pyqs_celery.worker.children import Children
from pyqs_celery.worker.quick import BUFFER_BYTES
from tests.unit.worker.core_harness import World


@pytest.fixture
def family():
    """A core whose only slot runs a task, its child's end of the socket, and the consumer's side; children have pid 7."""
    world = World()
    world.later(time.time() - world.now)  # the consumer's side looks at the real clock
    world.arrive(world.delivery())
    manager, consumer = socket.socketpair()
    ours, theirs = socket.socketpair()
    control, child, selector = Control(consumer), ChildEnd(theirs), selectors.DefaultSelector()
    children = Children(world.core, control, selector)
    children.adopt(0, 7, ours.detach())
    yield world, child, children
    children.close()
    child.close()
    control.close()
    manager.close()
    selector.close()


@pytest.mark.parametrize("size", [10, 3 * BUFFER_BYTES], ids=["in one read", "in several reads"])
def test_what_a_child_said_before_it_died_counts(family, size):
    # given a child that reports the end of its task, and dies before anybody has read that
    world, child, children = family
    outcome = Outcome(
        "failed", "t", "id", reason="x" * size, exception="ValueError", exhausted=True, runtime_seconds=0.1
    )
    child.tell(outcome=outcome_to_json(outcome))
    child.close()

    # when the manager says that it is dead
    children.buried(0, 7, "signal 9")
    world.act()

    # then the task has failed, and its process was not lost with it
    assert "failed" in world.events()
    assert "lost" not in world.events()
    assert len(children) == 0


def test_a_child_that_dies_without_a_word_loses_its_task(family):
    world, child, children = family
    child.sock.send(b"\0\0\1\0 half a frame")
    child.close()

    children.buried(0, 7, "signal 9")
    world.act()

    assert "failed" not in world.events()
    assert "lost" in world.events()
