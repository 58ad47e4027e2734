"""The policies that ``doctor --iam`` prints, and that docs/iam.rst shows them as they are."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pyqs_celery import Celery
from pyqs_celery.doctor.iam import ROLES, policy
from pyqs_celery.exceptions import InvalidRequest

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "iam.rst"
SHOWN = re.compile(
    r"^    \$ (?P<command>.+)\n\n\.\. code-block:: json\n\n(?P<json>(?:    .*\n|\n)+?)(?=^\S)", re.MULTILINE
)


def app_with(broker="sqs://", **conf):
    app = Celery("iam", broker=broker, set_as_current=False)
    app.conf.update(conf)
    return app


def command(folder, *arguments):
    """The command line, in a folder whose modules it finds."""
    return subprocess.run(
        [sys.executable, "-m", "pyqs_celery", *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def allowed(app, role, queues=("orders",), **options):
    """``action name-of-queue`` for each permission."""
    document = policy(app, [role], queues, **options)
    return {
        f"{action} {resource.rsplit(':', 1)[-1]}"
        for statement in document["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


def resources(app, role="producer", queues=("orders",), **options):
    document = policy(app, [role], queues, **options)
    return {resource for statement in document["Statement"] for resource in statement["Resource"]}


def test_a_producer_finds_and_sends():
    assert allowed(app_with(), "producer") == {"sqs:GetQueueUrl orders", "sqs:SendMessage orders"}


def test_creation_is_asked_for():
    tagged = app_with(broker_transport_options={"queue_tags": {"team": "a"}})
    assert "sqs:CreateQueue orders" in allowed(app_with(), "producer", create=True)
    assert {"sqs:CreateQueue orders", "sqs:TagQueue orders"} <= allowed(tagged, "producer", create=True)


def test_names_are_written_as_on_sqs():
    app = app_with(broker_transport_options={"queue_name_prefix": "prod-"})
    assert "sqs:SendMessage prod-email-send" in allowed(app, "producer", ["email.send"])
    assert "sqs:SendMessage prod-bills.fifo" in allowed(app, "producer", ["bills.fifo"])
    with pytest.raises(InvalidRequest):
        allowed(app, "producer", ["x" * 100])


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        (None, "arn:aws:sqs:*:*:orders"),
        ("eu-west-1", "arn:aws:sqs:eu-west-1:*:orders"),
        ("cn-north-1", "arn:aws-cn:sqs:cn-north-1:*:orders"),
        ("us-gov-west-1", "arn:aws-us-gov:sqs:us-gov-west-1:*:orders"),
    ],
)
def test_the_region_as_far_as_it_is_known(region, arn):
    assert resources(app_with(broker_transport_options={"region": region} if region else {})) == {arn}


def test_predefined_queues_are_named_exactly_and_need_no_looking_up():
    queues = {"orders": {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/shop-orders"}}
    app = app_with(broker_transport_options={"predefined_queues": queues})

    assert resources(app) == {"arn:aws:sqs:eu-west-1:123456789012:shop-orders"}
    assert allowed(app, "producer", create=True) == {"sqs:SendMessage shop-orders"}


def test_a_worker_moves_dead_letters_where_the_setting_says():
    moves = {"sqs:SendMessage orders-dlq", "sqs:GetQueueUrl orders-dlq"}
    assert moves <= allowed(app_with(), "worker")
    assert "sqs:SendMessage all-dead" in allowed(app_with(sqs_dead_letter_queue="all.dead"), "worker")
    assert not [each for each in allowed(app_with(sqs_dead_letter_queue=False), "worker") if "dlq" in each]
    assert "sqs:SendMessage bills-dlq.fifo" in allowed(app_with(), "worker", ["bills.fifo"])


def test_a_dead_letter_queue_that_is_predefined_is_not_looked_up():
    queues = {name: {"url": f"https://sqs.eu-west-1.amazonaws.com/1/{name}"} for name in ("orders", "orders-dlq")}
    found = allowed(app_with(broker_transport_options={"predefined_queues": queues}), "worker")

    assert not [each for each in found if each.startswith("sqs:GetQueueUrl")]
    assert "sqs:SendMessage orders-dlq" in found


def test_patterns_list_and_their_dead_letters_are_covered_where_they_are():
    found = allowed(app_with(), "worker", ["email.*"])
    assert {"sqs:ListQueues *", "sqs:ReceiveMessage email-*", "sqs:SendMessage email-*"} <= found
    assert "sqs:SendMessage email-*-dlq" not in found

    tight = allowed(app_with(), "worker", ["email-[ab]"])
    assert {"sqs:ReceiveMessage email-?", "sqs:SendMessage email-?-dlq", "sqs:SendMessage email-?-dlq.fifo"} <= tight


def test_exclusions_are_no_queues():
    assert allowed(app_with(), "producer", ["orders", "!mails"]) == allowed(app_with(), "producer", ["orders"])


def test_beat_holds_its_lock():
    found = allowed(app_with(beat_lock_queue="lock.fifo"), "beat")
    assert {"sqs:ReceiveMessage lock.fifo", "sqs:DeleteMessage lock.fifo", "sqs:SendMessage orders"} <= found
    assert allowed(app_with(), "beat") == allowed(app_with(), "producer")


def test_roles_may_be_assumed():
    role = "arn:aws:iam::1:role/"
    queues = {
        "a": {"url": "https://sqs.eu-west-1.amazonaws.com/1/a", "sts_role_arn": f"{role}a"},
        "b": {"url": "https://sqs.eu-west-1.amazonaws.com/1/b"},
    }
    app = app_with(broker_transport_options={"predefined_queues": queues, "sts_role_arn": f"{role}all"})

    assert resources(app, "assume-role") == {f"{role}a", f"{role}all"}
    assert policy(app_with(), ["assume-role"], ["orders"])["Statement"] == []


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("alias/aws/sqs", None),
        ("alias/ours", "arn:aws:kms:eu-west-1:*:key/*"),
        ("1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-west-1:*:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("arn:aws:kms:eu-west-1:1:key/k", "arn:aws:kms:eu-west-1:1:key/k"),
    ],
)
def test_queues_with_a_key_of_the_accounts_own(key, resource):
    app = app_with(broker_transport_options={"region": "eu-west-1", "sqs-creation-attributes": {"KmsMasterKeyId": key}})
    assert {each for each in resources(app, "worker") if ":kms:" in each} == ({resource} if resource else set())


@pytest.mark.parametrize("role", ROLES)
def test_every_policy_is_one_that_iam_takes(role):
    document = policy(app_with(beat_lock_queue="lock.fifo"), [role, "producer"], ["orders", "email.*"], create=True)

    sids = [statement["Sid"] for statement in document["Statement"]]
    assert document["Version"] == "2012-10-17"
    assert len(set(sids)) == len(sids)
    assert all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    assert all(statement["Action"] and statement["Resource"] for statement in document["Statement"])


def test_the_docs_show_what_is_printed(tmp_path):
    text = DOCS.read_text("utf-8")
    source = text.partition(".. code-block:: python\n\n")[2].partition("\n\nA process")[0]
    (tmp_path / "shop.py").write_text(textwrap.dedent(source))
    shown = list(SHOWN.finditer(text))
    assert len(shown) == text.count(".. code-block:: json") == 3
    for example in shown:
        program, *arguments = shlex.split(example["command"])
        assert program == "pyqs-celery"
        answer = command(tmp_path, *arguments)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(example["json"]) == json.loads(answer.stdout)
        assert textwrap.dedent(example["json"]).strip() == answer.stdout.strip()


def test_without_an_application_there_is_no_policy(tmp_path):
    answer = command(tmp_path, "doctor", "--iam", "worker")
    assert answer.returncode == 2
    assert "name an application with -A" in answer.stderr


@pytest.mark.parametrize("more", [(), ("-Q", "emails"), ("--iam", "producer")])
def test_whose_policy_it_is_need_not_be_said_of_the_worker(tmp_path, more):
    (tmp_path / "shop.py").write_text(
        "from pyqs_celery import Celery\napp = Celery('shop', broker='sqs://')\n"
        "app.conf.broker_transport_options = {'region': 'eu-west-1'}\n"
    )

    def printed(*words):
        answer = command(tmp_path, "-A", "shop", "doctor", *words, *more)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    assert printed("--iam") == printed("--iam", "worker")
