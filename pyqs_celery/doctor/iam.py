"""The IAM policies that an application's parts need and no more, from its settings alone: no call to AWS is made.

AWS: Actions, resources, and condition keys for Amazon SQS. The permission for an action covers its batch form;
ListQueues cannot be limited to some queues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pyqs_celery.broker.config import BrokerConfig, region_of
from pyqs_celery.broker.queues import (
    check_queue_name,
    dead_letter_name,
    find_predefined,
    is_pattern,
    sqs_pattern,
)

if TYPE_CHECKING:
    from pyqs_celery.app.base import Celery

ROLES = ("producer", "worker", "beat", "purge", "assume-role")
OWN_KEY = re.compile(r"(arn:[\w-]+:kms:[\w-]*:\d*:)?key/.+|[0-9a-f]{8}-[0-9a-f-]+", re.IGNORECASE)
_SPECIAL = {"*": "0star0", "?": "0mark0"}


@dataclass(frozen=True, slots=True)
class Place:
    """A queue, or all that a pattern matches, as IAM names them. ``predefined`` ones are known by URL."""

    region: str
    account: str
    name: str
    predefined: bool = False

    @property
    def partition(self) -> str:
        """AWS's partition, by the region."""
        return (
            "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if self.region.startswith("us-gov-") else "aws"
        )

    @property
    def arn(self) -> str:
        """What a policy names; ``*`` for a region or an account that the settings do not tell."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{self.name}"

    def named(self, name: str) -> Place:
        """Another queue of the same region and account."""
        return Place(self.region, self.account, name)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy that allows."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        """As IAM reads it."""
        return {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(set(self.resources)),
        }


def policy(app: Celery, roles: Iterable[str], queues: Sequence[str], *, create: bool = False) -> dict[str, Any]:
    """The policy document of one or several of ROLES.

    ``queues`` are names and patterns of the application's. ``create`` allows what makes queues that are missing. Raises
    InvalidRequest for a name that SQS does not take, and ImproperlyConfigured.
    """
    config = app.consumer_broker_config()
    places = [place_of(config, queue) for queue in queues if not queue.startswith("!")]
    makers = {
        "producer": lambda: _producer(config, places, create=create),
        "worker": lambda: _worker(app, config, places, create=create),
        "beat": lambda: _beat(app, config, places, create=create),
        "purge": lambda: _purge(places),
        "assume-role": lambda: _assume_role(config),
    }
    statements = [statement for role in roles for statement in makers[role]() if statement.resources]
    return {"Version": "2012-10-17", "Statement": [statement.document for statement in _merged(statements)]}


def place_of(config: BrokerConfig, queue: str) -> Place:
    """Where a queue of the application's is, as far as its settings tell."""
    predefined = find_predefined(config, queue)
    if predefined is not None:
        account, _, name = urlsplit(predefined.url).path.strip("/").rpartition("/")
        return Place(
            predefined.region or config.region or "*", account.rpartition("/")[2] or "*", name, predefined=True
        )
    region = config.region or region_of(config.endpoint_url or "") or "*"
    if is_pattern(queue):
        name = re.sub(r"\[[^]]*\]", "?", sqs_pattern(queue, config.queue_name_prefix))
        return Place(region, "*", name, predefined=bool(config.predefined_queues))
    return Place(region, "*", check_queue_name(queue, config.queue_name_prefix))


# -- roles -------------------------------------------------------------------------------------------


def _producer(config: BrokerConfig, places: Sequence[Place], *, create: bool) -> Iterator[Statement]:
    exact = [place for place in places if not place.predefined]
    yield Statement("FindQueues", ("sqs:GetQueueUrl",), _arns(exact))
    yield Statement("Send", ("sqs:SendMessage",), _arns(places))
    yield from _creation(config, exact, create=create)
    yield from _encryption(config, places, ("kms:GenerateDataKey", "kms:Decrypt"))


def _worker(app: Celery, config: BrokerConfig, places: Sequence[Place], *, create: bool) -> Iterator[Statement]:
    exact = [place for place in places if not place.predefined]
    patterns = [place for place in exact if is_pattern(place.name)]
    letters = _dead_letters(config, places, app.conf.sqs_dead_letter_queue)
    uncovered = [place for place in letters if not _covered(place, exact)]
    yield Statement(
        "Receive", ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"), _arns(places)
    )
    yield Statement(
        "FindQueues", ("sqs:GetQueueUrl",), _arns([*exact, *(place for place in uncovered if not place.predefined)])
    )
    yield Statement("ListQueues", ("sqs:ListQueues",), ("*",) if patterns else ())
    yield Statement("RetryAndMoveDeadLetters", ("sqs:SendMessage",), _arns([*places, *uncovered]))
    yield Statement("ReadAttributesOptional", ("sqs:GetQueueAttributes",), _arns(places))
    yield from _creation(
        config, [*(p for p in exact if p not in patterns), *(p for p in letters if not p.predefined)], create=create
    )
    yield from _encryption(config, places, ("kms:GenerateDataKey", "kms:Decrypt"))


def _beat(app: Celery, config: BrokerConfig, places: Sequence[Place], *, create: bool) -> Iterator[Statement]:
    yield from _producer(config, places, create=create)
    if app.conf.beat_lock_queue:
        lock = [place_of(config, str(app.conf.beat_lock_queue))]
        yield from _producer(config, lock, create=create)
        held = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")
        yield Statement("HoldBeatLock", held, _arns(lock))


def _purge(places: Sequence[Place]) -> Iterator[Statement]:
    exact = [place for place in places if not place.predefined]
    yield Statement("FindQueues", ("sqs:GetQueueUrl",), _arns([p for p in exact if not is_pattern(p.name)]))
    yield Statement("ListQueues", ("sqs:ListQueues",), ("*",) if any(is_pattern(p.name) for p in exact) else ())
    yield Statement("Purge", ("sqs:PurgeQueue", "sqs:GetQueueAttributes"), _arns(places))


def _assume_role(config: BrokerConfig) -> Iterator[Statement]:
    roles = [config.sts_role_arn, *(queue.sts_role_arn for queue in config.predefined_queues.values())]
    yield Statement("AssumeRole", ("sts:AssumeRole",), tuple(role for role in roles if role))


# -- parts -------------------------------------------------------------------------------------------


def _arns(places: Iterable[Place]) -> tuple[str, ...]:
    return tuple(place.arn for place in places)


def _creation(config: BrokerConfig, places: Sequence[Place], *, create: bool) -> Iterator[Statement]:
    if create:
        actions = ("sqs:CreateQueue", "sqs:TagQueue") if config.queue_tags else ("sqs:CreateQueue",)
        yield Statement("CreateQueues", actions, _arns(places))


def _encryption(config: BrokerConfig, places: Sequence[Place], actions: tuple[str, ...]) -> Iterator[Statement]:
    """For queues that are made with a key of the account's own; AWS's own (``alias/aws/sqs``) needs no permission."""
    key = config.creation_attributes.get("KmsMasterKeyId", "")
    if key.startswith("arn:") and ":alias/" not in key:
        yield Statement("Encrypt", actions, (key,))
    elif key and key != "alias/aws/sqs":
        # an alias is no resource to IAM
        name = f"key/{key.removeprefix('key/')}" if OWN_KEY.fullmatch(key) else "key/*"
        yield Statement(
            "Encrypt", actions, tuple(p.arn.replace(":sqs:", ":kms:").removesuffix(p.name) + name for p in places)
        )


def _dead_letters(config: BrokerConfig, places: Sequence[Place], wanted: Any) -> list[Place]:
    """Where the worker moves what can never succeed, if the queue's own redrive policy names nothing else."""
    found = []
    for place in places:
        stand_in = place.name
        for char, text in _SPECIAL.items():
            stand_in = stand_in.replace(char, text)
        kinds = [stand_in] if stand_in == place.name or place.name.endswith(".fifo") else [stand_in, f"{stand_in}.fifo"]
        for kind in kinds:
            target = dead_letter_name(kind, wanted)
            if target is not None:
                for char, text in _SPECIAL.items():
                    target = target.replace(text, char)
                known = find_predefined(config, target) is not None
                found.append(place_of(config, target) if known else place.named(target))
    return found


def _covered(place: Place, others: Iterable[Place]) -> bool:
    return any(is_pattern(other.name) and fnmatchcase(place.arn, other.arn) for other in others)


def _merged(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Statements that allow the same as one; then a statement's name is its first one's."""
    by_actions: dict[tuple[str, ...], Statement] = {}
    for each in statements:
        known = by_actions.get(each.actions)
        by_actions[each.actions] = (
            each if known is None else Statement(known.sid, each.actions, (*known.resources, *each.resources))
        )
    sids: set[str] = set()
    for each in by_actions.values():
        sid = each.sid if each.sid not in sids else f"{each.sid}{len(sids)}"
        sids.add(sid)
        yield Statement(sid, each.actions, each.resources)
