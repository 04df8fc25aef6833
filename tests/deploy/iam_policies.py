"""The policies of deploy/ with their placeholders filled in, and what they allow.

Not all of IAM: as much of it as these policies use, which name actions one by one and deny nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from tests.conftest import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
PLATFORM = DEPLOY / "iam" / "platform.json"
SAGEMAKER_ROLE = DEPLOY / "iam" / "sagemaker-role.json"
API = DEPLOY / "api" / "policy.json"


@dataclass(frozen=True)
class Need:
    """What a request has to be allowed.

    Attributes:
        action: Of IAM.
        resource: ARN of what it is asked of; `*` where an action takes no resource.
        context: Condition keys and what the request has for them.
    """

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)


@dataclass(frozen=True)
class Permission:
    """One action of a statement, on one of its resources.

    Attributes:
        sid: Of the statement.
        action: Of IAM.
        resource: Pattern of ARNs.
        conditions: Operator → condition key → one pattern or several.
    """

    sid: str
    action: str
    resource: str
    conditions: Mapping[str, Mapping[str, Any]] = field(compare=False)

    def allows(self, need: Need) -> bool:
        """Whether a need is met."""
        return (
            self.action == need.action
            and is_like(self.resource, need.resource)
            and all(
                key in need.context
                and any(OPERATORS[operator](one, need.context[key]) for one in many(patterns))
                for operator, keys in self.conditions.items()
                for key, patterns in keys.items()
            )
        )


def is_like(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` stands for anything, slashes included, `?` for one character."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


OPERATORS = {
    "ArnEquals": is_like,
    "ArnLike": is_like,
    "StringEquals": str.__eq__,
    "StringLike": is_like,
}


def statements(path: Path, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """A policy's statements, its placeholders filled in."""
    return json.loads(Template(path.read_text()).substitute(values))["Statement"]


def permissions(path: Path, values: Mapping[str, str]) -> list[Permission]:
    """All that a policy allows."""
    return permissions_of(statements(path, values))


def permissions_of(allowed: Iterable[Mapping[str, Any]]) -> list[Permission]:
    """All that statements allow."""
    return [
        Permission(statement["Sid"], action, resource, statement.get("Condition", {}))
        for statement in allowed
        for action in many(statement["Action"])
        for resource in many(statement["Resource"])
    ]


def many(value: str | list[str]) -> list[str]:
    """One or many, as many."""
    return [value] if isinstance(value, str) else value


def named_in_readme(words: str) -> set[str]:
    """The actions that deploy/README.md names after some words, up to the end of the sentence."""
    readme = " ".join((DEPLOY / "README.md").read_text().split())
    sentence = re.split(r"[.:] ", readme.partition(words)[2])[0]
    return set(re.findall(r"`([a-z]+\d?:\w+)`", sentence))
