"""Node names, and what stands for them in paths: the table of Celery's guide (workers: variables in file paths)."""

from __future__ import annotations

import socket

import pytest

from pyqs_celery.utils.nodenames import default_nodename, host_format, node_format, node_name

GEORGE = "george@foo.example.com"


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("%p.log", "george@foo.example.com.log"),
        ("%h.log", "foo.example.com.log"),
        ("%n.log", "george.log"),
        ("%d.log", "example.com.log"),
        ("%n-%i.log", "george-0.log"),
        ("%n%I.log", "george.log"),
        ("100%%-%n.log", "100%-george.log"),
        ("%%n.log", "%n.log"),
        ("plain.log", "plain.log"),
    ],
)
def test_a_path_of_a_file_has_the_node_in_it(path, file):
    assert node_format(path, GEORGE) == file


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (None, "celery@box.example.org"),
        ("w1", "w1@box.example.org"),
        ("w1@%h", "w1@box.example.org"),
        ("w1@%n.%d", "w1@box.example.org"),
        ("w%%1@elsewhere", "w%1@elsewhere"),
    ],
)
def test_a_node_is_named_by_a_pattern(pattern, name):
    assert node_name(pattern, "box.example.org") == name


def test_a_name_may_be_given_for_the_hosts_first_part():
    assert host_format("%n of %h", "box.example.org", "bob") == "bob of box.example.org"
    assert host_format("%n of %h") == f"{socket.gethostname().partition('.')[0]} of {socket.gethostname()}"


def test_what_stands_for_nothing_is_refused():
    with pytest.raises(ValueError, match="%x in 'w%x' stands for nothing"):
        host_format("w%x", "box")
    with pytest.raises(ValueError, match="%p"):
        host_format("%p", "box")


def test_a_default_name_has_what_is_missing():
    assert default_nodename("") == f"celery@{socket.gethostname()}"
    assert default_nodename("w1@box") == "w1@box"
