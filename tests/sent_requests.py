"""What all tests of a run send to AWS: each request is told apart by who sends it, and judged.

It is taken where botocore has it, in the processes of pytest: its own model has checked the
parameters by then. Who sends it is seen from the functions that are being called. Whatever the
platform's code sends has to be allowed by the policies of deploy/, and whatever the resources can
send has to be known. A run with a refused request fails, whatever its tests say.
"""

import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from botocore import handlers

from tests.aws_requests import AwsRequest
from tests.deploy import iam_policies
from tests.deploy.iam_needs import Account, further_needs_of, needs_of
from tests.deploy.iam_policies import Need, Permission

CHECKOUT = Path(__file__).resolve().parent.parent
OUTPUT = CHECKOUT / "test-output"
# Of the embedded services.
ACCOUNT, REGION = "123456789012", "eu-west-1"
# Folder → who sends what its functions ask for. Nearer ones count before those that call them;
# what may be called by anybody comes into it only where there is no other.
SENDERS = {
    "platform_assets": "platform",
    "jobs": "platform",
    "monitoring": "platform",
    "metrics": "platform",
    "api": "api",
    "deploy": "operator",
    "tests": "test",
    "embedded": "embedded",
    "sagemaker_local": "embedded",
    "benchmarks": "test",
}
ANYBODYS = {"resources", "numbercruncher", "formats"}
# Dagster writes what runs print. What its launcher asks of ECS is judged in deploy/test_ecs.py.
DAGSTERS = f"{os.sep}dagster_aws{os.sep}s3{os.sep}"
# Judged by its resources, too; the rest by its actions alone, and what tests do by themselves not.
BY_RESOURCE = {"platform": iam_policies.PLATFORM, "api": iam_policies.API}
# Jobs that dagster_sagemaker offers and no asset runs.
OF_THE_RESOURCE_ALONE = {
    f"sagemaker:{verb}{kind}Job"
    for verb in ("Create", "Describe", "Stop")
    for kind in ("Transform", "Processing")
}
_LOOSE = re.compile(r"\d{4}-\d{2}-\d{2}|[0-9a-f]{8,}(-[0-9a-f]{4,})*|\d+")

README = (iam_policies.DEPLOY / "README.md").read_text()
_THREADS_OWN_START = threading.Thread.start
_FOR_WHOM: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()

Line = tuple[str, str, str, str, str]


@dataclass
class SentRequests:
    """A plugin of pytest that keeps what is sent, and at the end of the run writes it down.

    Attributes:
        lines: Sender, operation, action, resource and verdict → how often.
    """

    lines: Counter[Line] = field(default_factory=Counter)

    def install(self) -> None:
        """Have every client that botocore makes from now on tell what it sends."""
        handlers.BUILTIN_HANDLERS += [
            ("before-parameter-build", self._begin),
            ("after-call", self._end),
        ]
        setattr(threading.Thread, "start", _start)  # noqa: B010 - it is no method of ours

    def _begin(self, params: Mapping[str, Any], context: dict[str, Any], **_: object) -> None:
        context["sent"] = sender_of(sys._getframe(1)), params

    def _end(self, model: Any, context: dict[str, Any], http_response: Any, **_: object) -> None:
        if "sent" not in context:
            return
        sender, parameters = context.pop("sent")
        service = model.service_model.service_name
        operation = f"{service} {model.name}"
        if sender in {"test", "embedded"}:
            self.lines[sender, operation, "", "", ""] += 1
            return
        request = AwsRequest(service, model.name, parameters, http_response.status_code)
        for line in judged(sender, operation, request):
            self.lines[line] += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker has kept."""
        for *line, count in json.loads(getattr(node, "workeroutput", {}).get("sent", "[]")):
            self.lines[tuple(line)] += count

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand what was kept to the process that started this one, or say what is wrong."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["sent"] = json.dumps([[*line, count] for line, count in self.lines.items()])
            return
        self._write()
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if wrong := sorted({" ".join(line) for line in self.lines if line[4] in {"refused", "?"}}):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if reporter is not None:
                reporter.write_line("Requests to AWS that no policy allows, or no rule knows:")
                for line in wrong:
                    reporter.write_line(f"  {line}", red=True)

    def _write(self) -> None:
        OUTPUT.mkdir(exist_ok=True)
        lines = [f"{n:7}  {' '.join(line)}" for line, n in sorted(self.lines.items())]
        (OUTPUT / "requests-of-all-tests.txt").write_text(
            "How often, by whom, operation, action, resource, and what allows it.\n\n"
            + "\n".join(lines)
            + "\n"
        )


def _start(thread: threading.Thread) -> None:
    """Start a thread that knows for whom it works."""
    _FOR_WHOM[thread] = sender_of(sys._getframe(1))
    _THREADS_OWN_START(thread)


def sender_of(frame: Any) -> str:
    """Who has asked for a request, by the functions that are being called, or the thread's starter.

    Returns:
        One of SENDERS; `resource` where a test uses a resource by itself.
    """
    by_resource = False
    while frame is not None:
        file = frame.f_code.co_filename
        if DAGSTERS in file:
            return "platform"
        folder = folder_of(file)
        if sender := SENDERS.get(folder):
            return "resource" if by_resource and sender in {"test", "embedded"} else sender
        by_resource |= folder in ANYBODYS
        frame = frame.f_back
    sender = _FOR_WHOM.get(threading.current_thread(), "resource")
    return "resource" if by_resource and sender in {"test", "embedded"} else sender


@cache
def folder_of(file: str) -> str:
    """The first folder of a file within the checkout; empty for other files."""
    path = Path(file)
    within = path.is_relative_to(CHECKOUT) and ".venv" not in path.parts
    return path.relative_to(CHECKOUT).parts[0] if within else ""


def judged(sender: str, operation: str, request: AwsRequest) -> Iterator[Line]:
    """Lines of what a request needs, and whether it is allowed."""
    account = Account("aws", REGION, ACCOUNT)
    try:
        needs = [*needs_of(request, account), *further_needs_of(request)]
    except (KeyError, IndexError):
        yield sender, operation, "", "", "?"
        return
    for need in (in_the_account(one) for one in needs):
        shown = _LOOSE.sub("#", need.resource) if sender in BY_RESOURCE else ""
        yield sender, operation, need.action, shown, verdict(sender, need)


def in_the_account(need: Need) -> Need:
    """Roles that tests name are of any account."""
    resource = re.sub(r"(?<=:iam::)\d+", ACCOUNT, need.resource)
    return Need(need.action, resource, need.context)


def verdict(sender: str, need: Need) -> str:
    """What allows a need: a statement, the README or a reason; or that it is refused."""
    if sender in BY_RESOURCE:
        for one in allowed(BY_RESOURCE[sender], *place_of(need)):
            if one.allows(need):
                return one.sid
        return "README" if need.action in further() else "refused"
    if need.action in OF_THE_RESOURCE_ALONE:
        return "no asset does it"
    for one in allowed(iam_policies.PLATFORM, *place_of(need)):
        if one.action == need.action:
            return one.sid
    return "README" if need.action in named(README) else "refused"


def place_of(need: Need) -> tuple[str, str]:
    """Bucket and endpoint that the policies are to be filled in with.

    Each test has buckets of its own, which are called so, and one of them for both chains.
    """
    bucket = need.resource.removeprefix("arn:aws:s3:::").partition("/")[0]
    own = bucket.startswith("test-") or bucket == os.environ.get("PLATFORM_BUCKET")
    return bucket if own else "", os.environ.get("PLATFORM_ENDPOINT_NAME", "digits")


def allowed(path: Path, bucket: str, endpoint: str) -> list[Permission]:
    """All that a policy allows with these values, and those of the environment."""
    role = os.environ.get("PLATFORM_SAGEMAKER_ROLE_ARN", "unset").rpartition("/")[2]
    source = os.environ.get("PLATFORM_MNIST_SOURCE", "unset").removeprefix("s3://")
    return _filled_in(path, bucket or "nobodys", endpoint, source, role)


@cache
def _filled_in(path: Path, bucket: str, endpoint: str, source: str, role: str) -> list[Permission]:
    values = {
        "partition": "aws",
        "account": ACCOUNT,
        "region": REGION,
        "bucket": bucket,
        "airbnb_bucket": bucket,
        "mnist_source": source,
        "endpoint": endpoint.lower(),
        "endpoint_name": endpoint,
        "sagemaker_role": role,
        "algorithm_registry": "*",
        "function": "*",
    }
    return iam_policies.permissions(path, values)


def further() -> set[str]:
    """What deploy/README.md says that a key and alerts need beside the policies."""
    (row,) = (line for line in README.splitlines() if line.startswith("| a key |"))
    return {*named(row.split("|")[2]), "sns:Publish"} & named(README)


@cache
def named(text: str) -> set[str]:
    """The actions that a text names."""
    return set(re.findall(r"`([a-z0-9]+:\w+)`", text))
