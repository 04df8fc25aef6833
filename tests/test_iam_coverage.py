"""What all tests send is noted, told apart by its sender, and judged."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from platform_assets.settings import Settings
from resources.s3 import ObjectStore
from tests import iam_coverage, recorder_sitecustomize, request_recorder
from tests.conftest import CHECKOUT, clean_environ
from tests.deploy.iam_needs import NEVER_NEEDED
from tests.iam_coverage import DEFAULTS, FOLDER, judge, unused
from tests.recorded_requests import RecordedRequest, read

CHILD = "import boto3, sys; boto3.client('s3').list_objects_v2(Bucket=sys.argv[1], Prefix='child')"
SETTINGS = (
    '{"BUCKET": "digits", "AIRBNB_BUCKET": "listings", "ENDPOINT_NAME": "Live",'
    ' "MNIST_SOURCE": "s3://public/digits", "SAGEMAKER_ROLE_ARN": "arn:aws:iam::0:role/r"}'
)
OURS, OTHERS = '{"Bucket": "digits", "Key": "mnist/a"}', '{"Bucket": "digits", "Key": "b"}'
ELSEWHERE, OF_A_TEST = OURS.replace("digits", "another"), OURS.replace("digits", "test-0")


def list_in(file: str, store: ObjectStore, prefix: str) -> None:
    """List a prefix as a function in a file of the checkout would."""
    names: dict[str, Any] = {}
    code = "def call(store, prefix): list(store.list(prefix))"
    exec(compile(code, str(CHECKOUT / file), "exec"), names)
    names["call"](store, prefix)


def test_senders_are_told_apart_in_this_process_and_in_others(
    environment: Mapping[str, str], bucket: str, s3_client: Any
) -> None:
    store = ObjectStore(bucket=bucket)
    s3_client.list_objects_v2(Bucket=bucket, Prefix="tests")
    thread = Thread(target=lambda: [*store.list("resources")])
    thread.start()
    thread.join()
    list_in("jobs/a.py", store, "platform")
    list_in("platform_assets/components/a.py", store, "pipelines")
    command = [sys.executable, "-c", CHILD, bucket]
    subprocess.run(command, check=True, env=clean_environ(**environment))
    # Where pytest_configure has put it.
    sent, _ = read(Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]))
    for sender in ("tests", "resources", "platform", "pipelines", "child"):
        (one,) = (one for one in sent if f'"Prefix": "{sender}"' in one.parameters)
        assert one.sender == sender.replace("child", "")
        assert (one.service, one.operation, one.status) == ("s3", "ListObjectsV2", "200")


def test_what_fails_in_the_recorder_is_a_finding_and_no_matter_of_who_asks(tmp_path: Path) -> None:
    folder, machine = tmp_path / "recorder", tmp_path / "machine"
    folder.mkdir()
    machine.mkdir()
    (folder / "sitecustomize.py").symlink_to(recorder_sitecustomize.__file__)
    (folder / "request_recorder.py").write_text("no Python")
    (machine / "sitecustomize.py").write_text("print('the machine has its own,', end=' ')")
    child = subprocess.run(
        [sys.executable, "-c", "import botocore.session; print('botocore is there')"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{machine}"},
    )
    assert child.stdout == "the machine has its own, botocore is there\n"
    (finding,) = read(folder)[1]
    assert "SyntaxError" in finding


def test_a_request_that_cannot_be_noted_is_a_finding(tmp_path: Path) -> None:
    with request_recorder.errors_noted(tmp_path):
        raise RecursionError("of parameters")
    with request_recorder.errors_noted(tmp_path / "gone"):
        raise RecursionError("of others")
    assert read(tmp_path)[1] == {"A request is not noted: RecursionError('of parameters')"}


@pytest.mark.parametrize(
    ("sender", "operation", "parameters", "refused"),
    [
        pytest.param("platform", "PutObject", OURS, "", id="the platform, its own"),
        pytest.param("platform", "PutObject", OTHERS, "s3:PutObject", id="the platform, others'"),
        pytest.param("platform", "PutObject", ELSEWHERE, "s3:PutObject", id="another bucket"),
        pytest.param("platform", "PutObject", OF_A_TEST, "", id="a test's own bucket"),
        pytest.param("platform", "GetObjectTagging", OURS, "Tagging", id="another action"),
        pytest.param("platform", "PutObject", "{}", "is not known", id="without parameters"),
        pytest.param("api", "PutObject", OURS, "s3:PutObject", id="the API"),
        pytest.param("pipelines", "GetObject", OTHERS, "", id="a pipeline reads"),
        pytest.param("pipelines", "PutObject", OTHERS, "s3:PutObject", id="a pipeline writes"),
        pytest.param("resources", "PutObject", OTHERS, "", id="a resource"),
        pytest.param("resources", "GetObjectTagging", OURS, "Tagging", id="a resource, otherwise"),
        pytest.param("operator", "GetBucketEncryption", OTHERS, "", id="by the README"),
        pytest.param("tests", "GetObjectTagging", OURS, "", id="tests"),
    ],
)
def test_a_request_has_to_be_allowed_to_its_sender(
    sender: str, operation: str, parameters: str, refused: str
) -> None:
    sent = RecordedRequest(
        sender, "s3", operation, "200", parameters, SETTINGS, "a.py call", "a test"
    )
    findings = judge([sent]).findings
    assert bool(findings) == bool(refused)
    assert all("a.py call" in one and refused in one for one in findings)


def test_whatever_a_key_holds_is_read_and_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    odd = "mnist/\u2026\u0000\ud800-2026-11-30"
    lines = [
        ["platform", "s3", "PutObject", 200, {"Bucket": "digits", "Key": odd}],
        ["platform", "s3", "PutObject", 200, {"Bucket": "digits", "Key": f"others/{odd}"}],
    ]
    text = "".join(f'{json.dumps(one)[:-1]}, {SETTINGS}, "a.py call", ""]\n' for one in lines)
    (tmp_path / "1.jsonl").write_text(text + '["platform"]\nno JSON\n["cut o')
    sent, unread = read(tmp_path)
    assert [json.loads(one.parameters)["Key"] for one in sent] == [
        "mnist/\u2026\u0000\ud800-0",
        "others/mnist/\u2026\u0000\ud800-0",
    ]
    assert len(unread) == 2
    (refused,) = judge(sent).findings
    assert "s3:PutObject on arn:aws:s3:::digits/others/mnist/\u2026" in refused


def test_a_test_s_two_buckets_are_not_taken_for_each_other(tmp_path: Path) -> None:
    names = {"BUCKET": "test-0123456789ab", "AIRBNB_BUCKET": "test-ba9876543210"}
    settings = json.dumps(json.loads(SETTINGS) | names)
    keys = [(one, key) for one in names.values() for key in ("mnist/a", "airbnb/a")]
    text = "".join(
        f'["platform", "s3", "PutObject", 200, {json.dumps({"Bucket": bucket, "Key": key})},'
        f' {settings}, "a.py call", ""]\n'
        for bucket, key in keys
    )
    (tmp_path / "1.jsonl").write_text(text)
    refused = judge(read(tmp_path)[0]).findings
    assert {one.split(" on ")[1].split(": ")[0] for one in refused} == {
        "arn:aws:s3:::test-bucket/airbnb/a",
        "arn:aws:s3:::test-airbnb_bucket/mnist/a",
    }


def test_what_is_allowed_has_to_be_asked_for() -> None:
    puts = RecordedRequest(
        "platform", "s3", "PutObject", "200", OURS, SETTINGS, "a.py call", "a test"
    )
    before, after = (set(unused(judge(sent))) for sent in ([], [puts]))
    (used,) = before - after
    assert used.startswith(
        "deploy/iam/platform.json allows s3:PutObject on arn:${partition}:s3:::${bucket}/mnist/* "
    )
    assert len(before) > 60
    # What tests ask for by a resource shows nothing of the platform.
    assert set(unused(judge([puts._replace(sender="resources")]))) == before
    uses = judge([]).uses
    assert {part for use in uses for part in (use[1:3], use[1:])} >= NEVER_NEEDED.keys()


def test_settings_that_are_not_given_are_those_of_the_platform() -> None:
    defaults = {name: Settings.model_fields[name.lower()].default for name in DEFAULTS}
    assert defaults == DEFAULTS


@pytest.mark.parametrize(
    ("key", "arguments", "fails", "says"),
    [
        pytest.param("mnist/a", ["tests/api"], False, "Findings: 0", id="nothing"),
        pytest.param(
            r"\u2026\u0000\ud800", ["tests/api"], True, "Findings: 1", id="refused, and odd"
        ),
        pytest.param("mnist/a", ["tests"], True, "which no test asks for", id="unused, of all"),
    ],
)
def test_a_run_with_a_finding_fails(
    key: str,
    arguments: list[str],
    fails: bool,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(iam_coverage, "OUTPUT", tmp_path / "out" / "requests.txt")
    line = f'["platform", "s3", "PutObject", 200, {{"Bucket": "digits", "Key": "{key}"}}, '
    (tmp_path / "1.jsonl").write_text(f'{line}{SETTINGS}, "a.py call", ""]\n["cut o')
    config: Any = SimpleNamespace(
        stash=pytest.Stash(),
        args=[str(CHECKOUT / one) for one in arguments],
        getoption=lambda *_: None,
        pluginmanager=SimpleNamespace(get_plugin=lambda _: SimpleNamespace(stats={})),
    )
    config.stash[FOLDER] = tmp_path
    session: Any = SimpleNamespace(config=config, exitstatus=pytest.ExitCode.OK, testscollected=9)
    iam_coverage.pytest_sessionfinish(session)
    assert (session.exitstatus == pytest.ExitCode.TESTS_FAILED) == fails
    assert says in (tmp_path / "out" / "requests.txt").read_text()


@pytest.mark.parametrize(
    ("options", "stats", "collected", "whole"),
    [
        ([], {}, 9, True),
        (["--ff", "-x"], {"passed": [1]}, 9, True),
        ([], {}, 0, False),
        ([], {"skipped": [1]}, 9, False),
        ([], {"deselected": [1]}, 9, False),
        *(
            (options.split(), {}, 9, False)
            for options in (
                "-k a",
                "-m docker",
                "--deselect tests/api",
                "--ignore tests/api",
                "--ignore-glob *api*",
                "--lf",
                "--sw",
                "--collect-only",
                "--setup-only",
                "--setup-plan",
                "--fixtures",
                "--fixtures-per-test",
            )
        ),
    ],
)
def test_a_run_is_whole_where_every_test_is_run(
    options: list[str], stats: dict[str, list[int]], collected: int, whole: bool
) -> None:
    # pytest's own, as it reads its options.
    config = pytest.Config.fromdictargs({}, [*options, str(CHECKOUT / "tests")])
    config.pluginmanager.register(SimpleNamespace(stats=stats), "terminalreporter")
    session: Any = SimpleNamespace(config=config, testscollected=collected)
    assert iam_coverage.is_whole(session) == whole
