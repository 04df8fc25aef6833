"""Every request to AWS is one that AWS knows and that the policies of deploy/ allow, and they allow
nothing that is never asked for.

For it, both chains are run with all that surrounds them. What was sent and what it needed is in
`test-output/requests.txt`.
"""

import ast
import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from resources.sagemaker.names import REGISTRY_ACCOUNTS
from tests.aws_requests import AwsRequest, Recorder, service
from tests.conftest import CHECKOUT, Services
from tests.deploy.iam_needs import NEVER_NEEDED, Account, needs_of, needs_of_role
from tests.deploy.iam_policies import (
    API,
    PLATFORM,
    SAGEMAKER_ROLE,
    Need,
    Permission,
    permissions,
    statements,
)
from tests.deploy.recorded_runs import ROLE, Runs, fronts, own_place

# What SageMaker does in its role is told by the requests that hand the role to it.
POLICIES = {"platform": PLATFORM, "api": API, "sagemaker": SAGEMAKER_ROLE}
# The pipelines of other tests do: tests/iam_coverage.py.
PIPELINES = "only by pipelines in YAML, which publish by the code of the two chains"
UNUSED = {one: why for one, why in NEVER_NEEDED.items() if one[0] != "TagJobs"} | {
    ("KeepObjectsOfPipelines", f"s3:{action}"): PIPELINES
    for action in ("GetObject", "PutObject", "DeleteObject")
}


@dataclass
class Record:
    """What was sent, by whom, and the policies' placeholders.

    Attributes:
        requests: Sender and request.
        account: Where they went.
        values: Of the placeholders.
    """

    requests: list[tuple[str, AwsRequest]]
    account: Account
    values: dict[str, str]

    @cached_property
    def needs(self) -> list[tuple[str, AwsRequest, Need]]:
        """Who needs what for which request."""
        public = self.values["mnist_source"].split("/")[0]
        # A refusal of the public object is taken as its absence is.
        spared = Need("s3:ListBucket", self.account.s3(public))
        return [
            (who, request, need)
            for sender, request in self.requests
            for who, needs in (
                (sender, needs_of(request, self.account)),
                ("sagemaker", needs_of_role(request, self.account)),
            )
            for need in needs
            if need != spared
        ]

    def permissions(self, sender: str) -> list[Permission]:
        """What a sender may do."""
        return permissions(POLICIES[sender], self.values)

    @cached_property
    def uses(self) -> dict[str, Counter[Permission]]:
        """How often each permission of a sender was needed."""
        uses = {sender: Counter(dict.fromkeys(self.permissions(sender), 0)) for sender in POLICIES}
        for sender, _, need in self.needs:
            uses[sender].update(one for one in uses[sender] if one.allows(need))
        return uses


@pytest.fixture(scope="module")
def record(services: Services, s3_client: Any, tmp_path_factory: pytest.TempPathFactory) -> Record:
    recorder = Recorder()
    with fronts(recorder, services.env) as urls, own_place(services, s3_client) as own:
        env = {**services.env, **urls, **own}
        with Runs.on(env, recorder, s3_client, tmp_path_factory.mktemp("dagster")) as runs:
            runs.everything(tmp_path_factory.mktemp("api"))
    account, region = ROLE.split(":")[4], env["AWS_DEFAULT_REGION"]
    values = {
        "partition": "aws",
        "account": account,
        "region": region,
        "bucket": env["PLATFORM_BUCKET"],
        "airbnb_bucket": env["PLATFORM_AIRBNB_BUCKET"],
        "mnist_source": env["PLATFORM_MNIST_SOURCE"].removeprefix("s3://"),
        "endpoint": env["PLATFORM_ENDPOINT_NAME"].lower(),
        "endpoint_name": env["PLATFORM_ENDPOINT_NAME"],
        "sagemaker_role": ROLE.rpartition("/")[2],
        "algorithm_registry": REGISTRY_ACCOUNTS[region],
        "function": "data-platform-test-eu-west-1-prod",
    }
    sent = Record(recorder.requests(), Account("aws", region, account), values)
    note(sent)
    return sent


def note(record: Record) -> None:
    """Writes down the requests, and each permission with how often it was needed."""
    sent = Counter(
        f"{sender:10}{request.service} {request.operation}" for sender, request in record.requests
    )
    lines = [f"{count:6}  {line}" for line, count in sorted(sent.items())]
    unfilled = {name: f"${{{name}}}" for name in record.values}
    for sender, uses in record.uses.items():
        lines += ["", str(POLICIES[sender].relative_to(CHECKOUT))]
        for (one, count), shown in zip(
            uses.items(), permissions(POLICIES[sender], unfilled), strict=True
        ):
            why = "" if count else f": {UNUSED.get((one.sid, one.action), 'why?')}"
            lines.append(f"{count:6}  {one.sid}  {one.action}  {shown.resource}{why}")
    output = CHECKOUT / "test-output"
    output.mkdir(exist_ok=True)
    (output / "requests.txt").write_text(
        "The requests that tests recorded of both chains, and how often each permission was "
        "needed for them.\n\n" + "\n".join(lines) + "\n"
    )


def test_every_request_is_valid_by_botocores_model(record: Record) -> None:
    problems = {problem for _, request in record.requests if (problem := request.problems())}
    assert not problems


def test_every_request_is_allowed(record: Record) -> None:
    refused = {
        (sender, request.operation, need.action, need.resource)
        for sender, request, need in record.needs
        if not any(one.allows(need) for one in record.uses[sender])
    }
    assert not refused


def test_nothing_is_allowed_that_is_never_needed(record: Record) -> None:
    unused = {
        (one.sid, one.action)
        for uses in record.uses.values()
        for one, count in uses.items()
        if not count
    }
    assert unused == UNUSED.keys()


def test_every_operation_that_the_code_names_was_recorded(record: Record) -> None:
    """Or else nothing above is said of it."""
    names = ("s3", "sagemaker", "sagemaker-runtime", "logs")
    known = {xform_name(name): name for one in names for name in service(one).operation_names}
    folders = [CHECKOUT / "resources" / "s3", CHECKOUT / "resources" / "sagemaker"]
    paths = [path for folder in (*folders, CHECKOUT / "api") for path in folder.glob("*.py")]
    called = set(operations([*paths, CHECKOUT / "numbercruncher" / "store.py"]))
    # Those of jobs are put together; the platform's own jobs train.
    called |= {f"{verb}_training_job" for verb in ("create", "describe", "stop")}
    named = {known[name] for name in called & known.keys()}
    assert len(named) > 30
    assert named <= {request.operation for _, request in record.requests}


def operations(paths: list[Path]) -> Iterator[str]:
    """Operations that modules call: attributes of clients, and what is paginated by its name."""
    clients = {"control", "_control", "runtime", "logs", "client", "_client", "sagemaker", "s3"}
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in clients:
                yield node.attr
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in PAGES:
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


PAGES = {"pages", "get_paginator"}


def test_parliament_finds_nothing(record: Record, linters_of_aws: str) -> None:
    """Neither in the policies, nor in what requests are said to need: by AWS's own reference."""
    requests: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for sender, request, need in record.needs:
        requests[f"{sender} {request.operation}"].append((need.action, need.resource))
    policies = {
        path.name: {"Version": "2012-10-17", "Statement": statements(path, record.values)}
        for path in POLICIES.values()
    }
    done = subprocess.run(
        [linters_of_aws, Path(__file__).with_name("lint_policies.py")],
        input=json.dumps({"policies": policies, "requests": requests}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout.strip()
