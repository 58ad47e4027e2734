"""The consumer's calls on children's sockets, against real sockets."""

from __future__ import annotations

import socket
import threading

import pytest

from pyqs_celery.worker.quick import BUFFER_BYTES, QuickSocket


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_is_sent_arrives(pair):
    ours, theirs = pair

    assert QuickSocket(ours).send(b"work") == 4
    assert theirs.recv(10) == b"work"


def test_what_is_there_is_read_and_no_more_than_the_buffer_holds(pair):
    ours, theirs = pair
    theirs.sendall(b"x" * (BUFFER_BYTES + 1))
    quick = QuickSocket(ours)

    assert quick.receive() == b"x" * BUFFER_BYTES
    assert quick.receive() == b"x"


def test_binary_zeros_are_bytes_like_others(pair):
    ours, theirs = pair

    QuickSocket(ours).send(b"a\0b\0")
    assert theirs.recv(10) == b"a\0b\0"

    theirs.sendall(b"\0\0c")
    assert QuickSocket(ours).receive() == b"\0\0c"


def send_for_ever(quick):
    while True:
        quick.send(b"x" * 65536)


def test_neither_call_blocks_even_on_a_blocking_socket(pair):
    quick = QuickSocket(pair[0])

    with pytest.raises(BlockingIOError):
        quick.receive()
    with pytest.raises(BlockingIOError):
        send_for_ever(quick)


def test_the_end_of_the_other_side_is_an_empty_read_and_a_broken_pipe(pair):
    ours, theirs = pair
    theirs.close()
    quick = QuickSocket(ours)

    assert quick.receive() == b""
    with pytest.raises(BrokenPipeError):
        quick.send(b"work")


def test_a_socket_that_is_closed_here_is_an_error_and_nobody_elses_descriptor(pair):
    quick = QuickSocket(pair[0])
    pair[0].close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        quick.receive()
    with pytest.raises(OSError, match="Bad file descriptor"):
        quick.send(b"work")


def test_errors_of_two_threads_are_told_apart():
    found = {}

    def look(name, break_it):
        ours, theirs = socket.socketpair()
        if break_it:
            ours.close()
        for _ in range(300):
            try:
                QuickSocket(ours).receive()
            except OSError as exc:
                found.setdefault(name, set()).add(type(exc))
        ours.close()
        theirs.close()

    threads = [threading.Thread(target=look, args=(name, name == "closed")) for name in ("closed", "empty")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {"closed": {OSError}, "empty": {BlockingIOError}}
