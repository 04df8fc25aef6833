"""FilterLogEvents: streams, patterns and pages."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.logs import Logs
from sagemaker_local.store import Store

GROUP = {"logGroupName": "/jobs"}


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    """Two streams in a group, and a third one in another."""
    with closing(Store(tmp_path)) as store:
        logs = Logs(store, Config(tmp_path, "key", "secret"))
        logs.write("/jobs", "a-1", ["loss = 1", "-verbose is on", "Loss = 2"])
        logs.write("/jobs", "b-1", ["1 = loss", 'a "quoted" loss', "{loss: 3}"])
        logs.write("/others", "a-1", ["loss = 4"])
        yield logs


def messages(answer: dict[str, Any]) -> list[str]:
    return [event["message"] for event in answer["events"]]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("loss", ["loss = 1", "1 = loss", 'a "quoted" loss', "{loss: 3}"]),
        ("loss 1", ["loss = 1", "1 = loss"]),
        ('"loss = 1"', ["loss = 1"]),
        ('loss "= 1"', ["loss = 1"]),
        ('"-verbose"', ["-verbose is on"]),
        ('"{loss"', ["{loss: 3}"]),
        ("none", []),
        (
            "",
            ["loss = 1", "-verbose is on", "Loss = 2", "1 = loss", 'a "quoted" loss', "{loss: 3}"],
        ),
    ],
)
def test_all_words_and_phrases_of_a_pattern_have_to_occur(
    logs: Logs, pattern: str, expected: list[str]
) -> None:
    assert messages(logs.filter_log_events({**GROUP, "filterPattern": pattern})) == expected


@pytest.mark.parametrize(
    "pattern", ["?loss ?error", "loss -1", "{ $.loss > 1 }", "[a, b]", "%l.ss%"]
)
def test_other_patterns_are_refused_and_find_nothing_silently(logs: Logs, pattern: str) -> None:
    with pytest.raises(AwsError, match="words, and phrases in quotation marks") as caught:
        logs.filter_log_events({**GROUP, "filterPattern": pattern})
    assert caught.value.code == "InvalidParameterException"


def test_streams_are_chosen_by_their_names_or_how_these_begin(logs: Logs) -> None:
    for chosen in ({"logStreamNames": ["b-1", "c"]}, {"logStreamNamePrefix": "b"}):
        events = logs.filter_log_events({**GROUP, **chosen})["events"]
        assert {event["logStreamName"] for event in events} == {"b-1"}
    assert messages(logs.filter_log_events({**GROUP, "logStreamNames": []})) == []


def test_pages_hold_each_event_once_and_their_tokens_are_for_the_same_question(logs: Logs) -> None:
    asked = {**GROUP, "filterPattern": "loss", "limit": 3}
    first = logs.filter_log_events(asked)
    rest = logs.filter_log_events({**asked, "nextToken": first["nextToken"]})
    assert (len(messages(first)), messages(rest)) == (3, ["{loss: 3}"])
    assert "nextToken" not in rest
    for other in ({"logStreamNames": ["b-1"]}, {"startTime": 1}, {"endTime": 2**40}):
        with pytest.raises(AwsError, match="the other parameters have changed"):
            logs.filter_log_events({**asked, **other, "nextToken": first["nextToken"]})
