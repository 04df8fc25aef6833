"""Judges policies by parliament, and requests by its copy of AWS's Service Authorization Reference.

Runs in an environment of parliament's own, which needs an older setuptools than the platform has.
Standard input: {"policies": {name: policy}, "requests": {title: [[action, ARN], …]}}. Prints what
is wrong, a line each.
"""

import json
import re
import sys
from collections.abc import Iterator

import parliament  # pyright: ignore[reportMissingImports]


def judge_policy(name: str, policy: object) -> Iterator[str]:
    """What parliament says of a policy."""
    for finding in parliament.analyze_policy_string(json.dumps(policy)).findings:
        yield f"{name}: {finding}"


def judge_request(title: str, needs: list[tuple[str, str]]) -> Iterator[str]:
    """Where what a request is said to need is not what the reference says."""
    for action in sorted({action for action, _ in needs}):
        kinds = resources_of(*action.split(":"))
        if kinds is None:
            yield f"{title}: there is no {action}"
            continue
        asked = [resource for other, resource in needs if other == action]
        formats = [form for form, _ in kinds] or ["*"]
        for resource in asked:
            if not any(matches(form, resource) for form in formats):
                yield f"{title}: {action} is not asked of {resource}"
        for form, required in kinds:
            if required and not any(matches(form, resource) for resource in asked):
                yield f"{title}: {action} is asked of {form}, too"


def resources_of(prefix: str, name: str) -> list[tuple[str, bool]] | None:
    """ARNs that an action is asked of, and whether always; None where there is no such action."""
    for service in parliament.iam_definition:
        arns = {one["resource"]: one["arn"] for one in service["resources"]}
        for privilege in service["privileges"] if service["prefix"] == prefix else ():
            if privilege["privilege"] == name:
                kinds = [one["resource_type"] for one in privilege["resource_types"]]
                return [(arns[kind.rstrip("*")], kind.endswith("*")) for kind in kinds if kind]
    return None


def matches(form: str, resource: str) -> bool:
    """Whether an ARN has a form such as `arn:${Partition}:s3:::${BucketName}`."""
    parts = re.split(r"\$\{\w+\}", form)
    # A bucket's name has no slash, as an object's has.
    anything = "[^/]*" if form.endswith(":::${BucketName}") else ".*"
    return re.fullmatch(anything.join(map(re.escape, parts)), resource) is not None


if __name__ == "__main__":
    given = json.load(sys.stdin)
    problems = [line for policy in given["policies"].items() for line in judge_policy(*policy)]
    problems += [line for request in given["requests"].items() for line in judge_request(*request)]
    print("\n".join(problems))
