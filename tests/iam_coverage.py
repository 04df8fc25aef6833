"""A plugin of pytest: at the end of a run, all that its processes sent to AWS is judged.

Parameters were checked by botocore, with its own model of each operation, before it sent anything.
What a request needs is in `tests/deploy/iam_needs.py`, with its sources. The policies of deploy/
have to allow it to whoever sent it, or the run fails. A run of the whole suite fails, too, where
they allow what nobody asks for. Requests and permissions: `test-output/all-requests.txt`.

Not judged is what obstore sends, what is sent in containers and in processes whose PYTHONPATH tests
replace, and what had no answer. What a thread sends counts as of whoever made its session of boto3.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tests import recorder_sitecustomize, request_recorder
from tests.aws_requests import AwsRequest
from tests.conftest import CHECKOUT
from tests.deploy.iam_needs import Account, needs_of, needs_of_role, never_needed
from tests.deploy.iam_policies import (
    API,
    DEPLOY,
    PLATFORM,
    SAGEMAKER_ROLE,
    Need,
    Permission,
    permissions,
)
from tests.recorded_requests import LOOSE, OF_TESTS, RecordedRequest, read

OUTPUT = CHECKOUT / "test-output" / "all-requests.txt"
SPARK = DEPLOY / "iam" / "spark.json"
README = (DEPLOY / "README.md").read_text()
# Who sends, and SageMaker in the role that is handed to it → what allows it.
POLICIES = {
    "platform": (PLATFORM, SPARK),
    "pipelines": (PLATFORM,),
    "api": (API,),
    "sagemaker": (SAGEMAKER_ROLE,),
    "resources": (PLATFORM, SPARK),
    "operator": (PLATFORM,),
}
# Whose requests show that a permission is needed. Spark on EMR Serverless is asked by tests of its
# resource alone, so these count for `spark.json`.
COUNTED = {"platform", "pipelines", "api", "sagemaker"}
# They act for others, who say on what: an action is allowed to them or not.
BY_ACTION = {"operator", "resources"}
# So it is with what pipelines in YAML read, train and serve, which pipelines/README.md says how to
# allow. In code that both chains and pipelines use, whose request it is cannot always be told; of
# the chains, `tests/deploy/test_requests.py` knows.
OF_PIPELINES = ("assets/models/", "assets/object_copies", "assets/tables/", "assets/module_runs")
WRITES = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
# Sender and action, or `*` for all of a service → why no policy has it.
ELSEWHERE = {
    ("platform", "ecs:*"): "by the roles in deploy/ecs/template.yaml: tests/deploy/test_ecs.py",
    ("platform", "sns:Publish"): "for an SNS topic, says deploy/README.md",
    ("resources", "sns:Publish"): "for an SNS topic, says deploy/README.md",
    **{
        ("resources", f"sagemaker:{verb}{kind}Job"): "no asset runs such jobs"
        for verb in ("Create", "Describe", "Stop")
        for kind in ("Transform", "Processing")
    },
}
# Of platform_assets/settings.py.
DEFAULTS = {
    "ENDPOINT_NAME": "digits",
    "MNIST_SOURCE": "s3://sagemaker-sample-data-eu-west-1/algorithms/kmeans/mnist/mnist.pkl.gz",
}
ACCOUNT = Account("aws", "eu-west-1", LOOSE)
# Options of pytest with which not all tests are run.
NARROWING = (
    "keyword",
    "markexpr",
    "deselect",
    "ignore",
    "ignore_glob",
    "lf",
    "stepwise",
    "collectonly",
    "setuponly",
    "setupplan",
    "showfixtures",
    "show_fixtures_per_test",
)
# Policy, statement, action and resource.
Use = tuple[str, str, str, str]


@dataclass
class Judgement:
    """What was seen.

    Attributes:
        requests: Sender, operation, action, resource, and what allows it → how many kinds.
        uses: How many kinds of requests of those who are COUNTED need a permission.
        findings: Sentences.
    """

    requests: Counter[tuple[str, ...]] = field(default_factory=Counter[tuple[str, ...]])
    uses: Counter[Use] = field(default_factory=Counter[Use])
    findings: set[str] = field(default_factory=set[str])


FOLDER = pytest.StashKey[Path]()
JUDGED = pytest.StashKey[Judgement]()


def pytest_configure(config: pytest.Config) -> None:
    """Have all processes of the run note what they send."""
    folder = config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="platform-test-requests-"))
    (folder / "sitecustomize.py").symlink_to(recorder_sitecustomize.__file__)
    (folder / "request_recorder.py").symlink_to(request_recorder.__file__)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    request_recorder.record(folder)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge, and have a run fail for what was found."""
    sent, unread = read(session.config.stash[FOLDER])
    judged = session.config.stash[JUDGED] = judge(sent)
    judged.findings |= unread
    if session.exitstatus == pytest.ExitCode.OK and is_whole(session):
        judged.findings |= set(unused(judged))
    if session.exitstatus == pytest.ExitCode.OK and judged.findings:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    write(judged)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was found, and where the rest is."""
    judged = config.stash.get(JUDGED, Judgement())
    needed = sum(map(bool, judged.uses.values()))
    terminalreporter.write_line(
        f"{judged.requests.total()} kinds of requests to AWS, {needed} of {len(judged.uses)} "
        f"permissions needed, {len(judged.findings)} findings: {OUTPUT.relative_to(CHECKOUT)}"
    )
    for sentence in sorted(judged.findings):
        terminalreporter.write_line(sentence, red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing."""
    shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


def is_whole(session: pytest.Session) -> bool:
    """Whether all tests were chosen and run, and none skipped."""
    config = session.config
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    left_out = reporter and (reporter.stats.get("skipped") or reporter.stats.get("deselected"))
    chosen = {Path(path).resolve() for path in config.args} == {CHECKOUT / "tests"}
    narrowed = any(config.getoption(one, None) for one in NARROWING)
    return bool(chosen and session.testscollected and not narrowed and not left_out)


def judge(sent: Iterable[RecordedRequest]) -> Judgement:
    """Hold requests against rules and policies."""
    judged = Judgement()
    for path in (PLATFORM, SPARK, API, SAGEMAKER_ROLE):
        judged.uses.update(dict.fromkeys(uses_of(path), 0))
    for one in sent:
        judged.requests.update(_judge(one, judged))
    return judged


def _judge(sent: RecordedRequest, judged: Judgement) -> Iterator[tuple[str, ...]]:
    operation = f"{sent.service} {sent.operation}"
    if sent.sender not in POLICIES:
        yield sent.sender or "foreign code", operation
        return
    where = f"{operation} is sent by {sent.place}, first in {sent.test or 'a process'}"
    try:
        given = json.loads(sent.parameters)
        request = AwsRequest(sent.service, sent.operation, given, int(sent.status))
        needs = [(sent.sender, need) for need in needs_of(request, ACCOUNT)]
        if sent.sender in {"platform", "pipelines"}:
            needs += [("sagemaker", need) for need in needs_of_role(request, ACCOUNT)]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        judged.findings.add(
            f"{where}. What it needs is not known ({error!r}): add it to tests/deploy/iam_needs.py,"
            " with the source."
        )
        return
    for who, need in needs:
        allowed_by = _allowed_by(who, need, sent, judged.uses)
        if not allowed_by:
            files = " or ".join(str(path.relative_to(CHECKOUT)) for path in POLICIES[who])
            judged.findings.add(
                f"{where}. {who.capitalize()} would need {need.action} on {need.resource}: allow "
                f"it in {files}, or say in ELSEWHERE of tests/iam_coverage.py why it is not there."
            )
        yield who, operation, need.action, need.resource, allowed_by or "REFUSED"


def _allowed_by(who: str, need: Need, sent: RecordedRequest, uses: Counter[Use]) -> str:
    """A statement, a README or a reason; empty where nothing allows it. Its use is counted."""
    allowed = []
    for path in POLICIES[who]:
        filled_in = permissions_of(path, *_values(sent, need).items())
        for one, use in zip(filled_in, uses_of(path), strict=True):
            if one.allows(need):
                uses[use] += who in COUNTED or (who, path) == ("resources", SPARK)
                allowed.insert(0, one.sid)
            elif one.action == need.action and _is_anybodys(who, need, sent):
                allowed.append(f"{one.sid}, by its action")
    if who == "operator" and f"`{need.action}`" in README:
        allowed.append("deploy/README.md")
    actions = (need.action, need.action.split(":")[0] + ":*")
    allowed += [ELSEWHERE[who, one] for one in actions if (who, one) in ELSEWHERE]
    return allowed[0] if allowed else ""


def _is_anybodys(who: str, need: Need, sent: RecordedRequest) -> bool:
    """Whether an action is allowed on whatever it is asked of."""
    if who in BY_ACTION:
        return True
    of_pipelines = sent.sender == "pipelines" or any(one in sent.place for one in OF_PIPELINES)
    return of_pipelines and (who == "sagemaker" or need.action not in WRITES)


def _values(sent: RecordedRequest, need: Need) -> dict[str, str]:
    """What the placeholders of policies stand for where a request was sent."""
    given = {name: value for name, value in json.loads(sent.settings).items() if value}
    settings = dict.fromkeys(request_recorder.SETTINGS, "") | DEFAULTS | given
    bucket = need.resource.removeprefix("arn:aws:s3:::").split("/")[0]
    ours = settings["BUCKET"], settings["AIRBNB_BUCKET"]
    # A test may have a bucket, for both chains, that no setting names.
    of_a_test = bucket.startswith(OF_TESTS) and not any(one.startswith(OF_TESTS) for one in ours)
    buckets = [bucket if of_a_test else one or bucket for one in ours]
    return {
        "partition": ACCOUNT.partition,
        "account": ACCOUNT.account,
        "region": ACCOUNT.region,
        "bucket": buckets[0],
        "airbnb_bucket": buckets[1],
        "mnist_source": settings["MNIST_SOURCE"].removeprefix("s3://"),
        "endpoint": settings["ENDPOINT_NAME"].lower(),
        "endpoint_name": settings["ENDPOINT_NAME"],
        "sagemaker_role": settings["SAGEMAKER_ROLE_ARN"].rpartition("/")[2],
        "algorithm_registry": LOOSE,
        "function": LOOSE,
        "spark_application": "*",
        "spark_role": "data-platform-spark",
    }


@cache
def permissions_of(path: Path, *values: tuple[str, str]) -> list[Permission]:
    """All that a policy allows with some values."""
    return permissions(path, dict(values))


@cache
def uses_of(path: Path) -> list[Use]:
    """A policy's permissions, in the same order, with its placeholders."""
    names = Template(path.read_text()).get_identifiers()
    unfilled = permissions(path, {name: f"${{{name}}}" for name in names})
    file = str(path.relative_to(CHECKOUT))
    return [(file, one.sid, one.action, one.resource) for one in unfilled]


def unused(judged: Judgement) -> Iterator[str]:
    """Sentences on what is allowed and was not asked for."""
    for (file, sid, action, resource), count in judged.uses.items():
        if not count and not never_needed(sid, action, resource):
            yield (
                f"{file} allows {action} on {resource} ({sid}), which no test asks for: take it "
                "out, or say in NEVER_NEEDED of tests/deploy/iam_needs.py why it is there."
            )


def write(judged: Judgement) -> None:
    """The list of requests and permissions."""
    requests = [f"{n:5}  {'  '.join(one)}" for one, n in sorted(judged.requests.items())]
    uses = [
        f"{n:5}  {'  '.join(use)}" + ("" if n else f"  {never_needed(*use[1:]) or 'by none'}")
        for use, n in judged.uses.items()
    ]
    parts = {
        "Kinds of requests: how many, whose, operation, action, resource, what allows it": requests,
        "Permissions, and how many kinds of requests need them": uses,
        f"Findings: {len(judged.findings)}": sorted(judged.findings),
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    text = "\n".join("\n".join([head, *part, ""]) for head, part in parts.items())
    OUTPUT.write_text(text, "utf-8", errors="backslashreplace")
