"""What the processes of a run have noted of their requests by `tests/request_recorder.py`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests import request_recorder

# How the names of the tests' own buckets begin.
OF_TESTS = ("test-", "api-")
# What accounts, dates and digests are replaced by.
LOOSE = "0"


class RecordedRequest(NamedTuple):
    """A kind of request; parameters and settings are JSON, without what differs."""

    sender: str
    service: str
    operation: str
    status: str
    parameters: str
    settings: str
    place: str
    test: str


def read(folder: Path) -> tuple[list[RecordedRequest], set[str]]:
    """The kinds of requests that the processes of a run have noted, and findings on the rest."""
    kinds: dict[tuple[str, ...], RecordedRequest] = {}
    errors = folder / "errors"
    findings = set(errors.read_text(errors="replace").splitlines()) if errors.exists() else set()
    for file in folder.glob("*.jsonl"):
        for line in file.read_text(errors="replace").splitlines(keepends=True):
            # One that is not whole is there where the disk was full.
            if line.endswith("\n"):
                try:
                    one = _sent(json.loads(line, parse_int=str, parse_float=str))
                except (LookupError, TypeError, ValueError) as error:
                    findings.add(f"What was noted cannot be read ({error!r}): {line.strip()}")
                else:
                    kinds.setdefault(one[:6], one)
    return [*kinds.values()], findings


def _sent(noted: list[Any]) -> RecordedRequest:
    one = RecordedRequest(*noted)
    given: Any = one.settings
    # Two buckets stay two.
    random = {
        given[name]: f"{OF_TESTS[0]}{name.lower()}"
        for name in ("BUCKET", "AIRBNB_BUCKET")
        if request_recorder.LOOSE.search(given[name])
    }
    parameters, settings = (json.dumps(_masked(two, random)) for two in (one.parameters, given))
    return one._replace(parameters=parameters, settings=settings)


def _masked(value: Any, names: Mapping[str, str]) -> Any:
    """A value of JSON without what differs from test to test in its strings.

    Args:
        value: As `json` reads it.
        names: What differs → what it is called instead.
    """
    if isinstance(value, dict):
        return {_masked(key, names): _masked(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_masked(one, names) for one in value]
    if not isinstance(value, str):
        return value
    for name, instead in names.items():
        value = value.replace(name, instead)
    return request_recorder.LOOSE.sub(LOOSE, value)
