"""Who may do what, on request: policies by access key, and keys whose session is over.

No signature is checked. The key is what the request's Authorization header claims (AWS: Signature Version 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyqs_celery.local.errors import ApiError
from pyqs_celery.local.messages import ACCOUNT, REGION

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """What one access key is allowed: actions and queue names, both as globs.

    As in IAM, the permission of an action covers its batch form, and ListQueues, which is about no queue, needs ``*``.
    """

    actions: tuple[str, ...]
    queues: tuple[str, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Statement:
        """Read one as the admin interface takes it; ``queues`` left out means all."""
        return cls(tuple(value["actions"]), tuple(value.get("queues", ("*",))))

    def allows(self, action: str, queue: str) -> bool:
        """True if it covers this."""
        return any(fnmatchcase(action, glob) for glob in self.actions) and any(
            fnmatchcase(queue, glob) if queue else glob == "*" for glob in self.queues
        )


@dataclass(frozen=True, slots=True)
class Access:
    """Keys that are named in ``policies`` may do only what these say; keys in ``expired`` nothing; all others everything."""

    policies: Mapping[str, tuple[Statement, ...]]
    expired: frozenset[str]

    @classmethod
    def from_json(cls, policies: Mapping[str, Iterable[Mapping[str, Any]]], expired: Iterable[str]) -> Access:
        """Read both as the admin interface takes them."""
        return cls(
            {key: tuple(Statement.from_json(each) for each in wanted) for key, wanted in policies.items()},
            frozenset(expired),
        )

    def refusal(self, authorization: str, action: str, queue: str) -> ApiError | None:
        """The error this request is answered with, if any."""
        found = _CREDENTIAL.search(authorization)
        key = found.group(1) if found else ""
        if key in self.expired:
            return ApiError("ExpiredToken", "The security token included in the request is expired", 403)
        statements = self.policies.get(key)
        needed = action.removesuffix("Batch")
        if statements is None or any(each.allows(needed, queue) for each in statements):
            return None
        return ApiError(
            "AccessDenied",
            f"User: arn:aws:iam::{ACCOUNT}:user/{key} is not authorized to perform: sqs:{needed} on resource: "
            f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue or '*'} because no identity-based policy allows the sqs:{needed} action",
            403,
        )
