"""The contract of stores, kept by django-celery-results on us; ``test_django_results.py`` runs it in a process of its own."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import django
import pytest

django.setup()

from django.core.management import call_command
from django.utils import timezone
from django_celery_results.models import ChordCounter, GroupResult, TaskResult

from pyqs_celery import states
from tests.stores.contract import CustomError, StoreContract, new_id


@pytest.fixture(scope="session", autouse=True)
def _tables():
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)


class TestDjangoDatabase(StoreContract):
    keeps_relations = False
    compresses = False
    # the counter is a row that is locked: there are no claims
    test_a_claim_whose_owner_died_is_taken_over = None
    test_a_member_whose_chord_another_completes_for_too_long_asks_for_its_message_again = None
    # it keeps tracebacks with result_extended only, and of the call what its own tables have; see rows.py
    test_anything_else_is_replaced = None
    test_extended_documents_tell_of_the_call = None
    test_an_exception_comes_back_as_what_it_was = None

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        for model in (TaskResult, GroupResult, ChordCounter):
            model.objects.all().delete()
        return {"result_backend": "django-db"}

    def spoil(self, backend, task_id, garbage):
        text = garbage.decode("latin-1").replace("\x00", "")
        kind = {"content_type": "application/json", "content_encoding": "utf-8"}
        TaskResult.objects.create(task_id=task_id, status="FAILURE", result=text, **kind)

    def seconds_left(self, backend, task_id):
        done = TaskResult.objects.get(task_id=task_id).date_done
        return (done + timedelta(seconds=backend.expires) - timezone.now()).total_seconds() if backend.expires else None

    @pytest.mark.parametrize("error", [ValueError("bad", 3), CustomError(1, "two")])
    def test_an_exception_comes_back(self, app, backend, error):
        task_id = new_id()

        backend.store_result(task_id, error, states.FAILURE)

        result = app.AsyncResult(task_id)
        assert (result.state, type(result.result), result.result.args) == (states.FAILURE, type(error), error.args)

    def test_a_member_that_fails_first_and_is_run_again_is_counted_once(self, chord):
        chord.report(0, CustomError("the process died after this"))

        chord.app.backend.store_result(chord.members[0], None, states.STARTED, request=chord.request(0))
        for index in range(4):
            chord.report(index)

        assert chord.bodies() == [[[0, 1, 2, 3]]]

    def test_cleanup_deletes_what_has_expired(self, make_app):
        backend = make_app(result_expires=100).backend
        for task_id in ("old", "new"):
            backend.store_result(task_id, 1, states.SUCCESS)
        TaskResult.objects.filter(task_id="old").update(date_done=timezone.now() - timedelta(seconds=101))

        backend.cleanup()

        assert [row.task_id for row in TaskResult.objects.all()] == ["new"]


@pytest.mark.skipif("POSTGRES_PORT" in os.environ, reason="once is enough")
class TestDjangoCache(StoreContract):
    compresses = False
    counts_chords = False
    # what pickles is kept as it is
    test_arguments_that_cannot_be_stored_are_their_repr = None

    @pytest.fixture
    def settings(self) -> dict[str, Any]:
        return {"result_backend": "django-cache", "cache_backend": "shared"}

    def seconds_left(self, backend, task_id):
        pytest.skip("Django's caches do not tell")
