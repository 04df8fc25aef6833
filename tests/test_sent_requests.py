"""Requests of all tests: who has sent them, and that a run with a refused one fails."""

from collections import Counter
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from platform_assets.airbnb.published_snapshots import require_snapshot
from resources.s3 import NotPublishedError, ObjectStore
from tests import sent_requests
from tests.aws_requests import AwsRequest
from tests.sent_requests import Line, SentRequests, judged


@pytest.fixture
def sent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Counter[Line]:
    """What this process sends from now on; what it sent before is there again afterwards."""
    lines: Counter[Line] = Counter()
    plugin = request.config.pluginmanager.get_plugin("requests to AWS")
    assert isinstance(plugin, SentRequests)
    monkeypatch.setattr(plugin, "lines", lines)
    return lines


@pytest.mark.usefixtures("environment")
def test_senders_are_told_apart(sent: Counter[Line], bucket: str, s3_client: Any) -> None:
    store = ObjectStore(bucket=bucket)
    sent.clear()
    s3_client.head_bucket(Bucket=bucket)
    assert {line[:2] for line in sent} == {("test", "s3 HeadBucket")}
    sent.clear()
    thread = Thread(target=lambda: store.put_bytes("airbnb/a", b"x"))
    thread.start()
    thread.join()
    assert {line[:2] for line in sent} == {("resource", "s3 PutObject")}
    sent.clear()
    with pytest.raises(NotPublishedError):
        require_snapshot(store, "2026-01-05")
    assert {line[0] for line in sent} == {"platform"}
    assert {line[2] for line in sent} == {"s3:GetObject", "s3:ListBucket"}
    assert {line[4] for line in sent} == {"KeepOwnObjects", "ListOwnBuckets"}


@pytest.mark.parametrize(
    ("sender", "operation", "key", "expected"),
    [
        pytest.param("platform", "PutObject", "mnist/a", "KeepOwnObjects", id="its own"),
        pytest.param("platform", "PutObject", "elsewhere/a", "refused", id="another place"),
        pytest.param("resource", "PutObject", "elsewhere/a", "KeepOwnObjects", id="by its action"),
        pytest.param("resource", "GetObjectTagging", "mnist/a", "refused", id="another action"),
        pytest.param("api", "PutObject", "mnist/a", "refused", id="the API"),
        pytest.param("platform", "PutObject", None, "?", id="not understood"),
    ],
)
def test_a_request_is_judged_by_whoever_sends_it(
    sender: str, operation: str, key: str | None, expected: str
) -> None:
    parameters = {"Bucket": "test-1", "Key": key} if key else {}
    request = AwsRequest("s3", operation, parameters, 200)
    assert {line[4] for line in judged(sender, f"s3 {operation}", request)} == {expected}


@pytest.mark.parametrize(
    ("verdict", "fails"), [("KeepOwnObjects", False), ("refused", True), ("?", True)]
)
def test_a_run_with_a_refused_request_fails(
    verdict: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_requests, "OUTPUT", tmp_path)
    line: Line = ("platform", "s3 PutObject", "s3:PutObject", "arn:aws:s3:::b/k", verdict)
    worker, controller = SentRequests(Counter({line: 2})), SentRequests()
    output: dict[str, str] = {}
    worker.pytest_sessionfinish(session(workeroutput=output))
    controller.pytest_testnodedown(SimpleNamespace(workeroutput=output))
    run = session()
    controller.pytest_sessionfinish(run)
    assert (run.exitstatus == pytest.ExitCode.TESTS_FAILED) == fails
    written = (tmp_path / "requests-of-all-tests.txt").read_text()
    assert f"2  {' '.join(line)}" in written


def session(**more: Any) -> Any:
    """A run of tests, at its end."""
    plugins = SimpleNamespace(get_plugin=lambda _: None)
    config = SimpleNamespace(pluginmanager=plugins, **more)
    return SimpleNamespace(config=config, exitstatus=pytest.ExitCode.OK)
