"""The manifest as bytes: one canonical form, read back, and what is no manifest refused."""

import json
import math
from typing import Any

import pytest

from formats import manifest
from formats.columns import Column
from formats.manifest import Manifest, ManifestError, ManifestFile

WHOLE = Manifest(
    partition="2026-11-22",
    rows=3,
    files=(ManifestFile("listings.csv", 12, "0" * 64),),
    code_version="1",
    columns=(Column("id", "int64"), Column("neighbourhood", "string")),
    inputs={"airbnb/listings/date=2026-11-22/manifest.json": "1" * 64},
    extra={"note": None, "left_out": {}, "place": "Šibenik"},
)


def changed(**fields: Any) -> bytes:
    """The bytes of a whole manifest with other values in some fields."""
    return json.dumps({**json.loads(WHOLE.encode()), **fields}).encode()


def test_what_is_written_is_read_back() -> None:
    assert manifest.decode(WHOLE.encode()) == WHOLE


def test_the_canonical_form_does_not_depend_on_the_order_of_fields() -> None:
    shuffled = json.dumps(dict(reversed(json.loads(WHOLE.encode()).items()))).encode()
    assert shuffled != WHOLE.encode()
    assert manifest.decode(shuffled).encode() == WHOLE.encode()


def test_a_number_that_json_does_not_have_is_written_as_null() -> None:
    odd = Manifest("", 0, (), "1", extra={"largest": math.nan, "all": [(1.5, -math.inf)]})
    assert manifest.decode(odd.encode()).extra == {"largest": None, "all": [[1.5, None]]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"\xff", "not JSON", id="no UTF-8"),
        pytest.param(b"[" * 100_000, "not JSON", id="nested without end"),
        pytest.param(b"[]", "the whole is", id="a list"),
        pytest.param(b'{"version": 2}', "version is 2", id="another version"),
        pytest.param(b'{"version": 1, "partition": "d"}', "rows is missing", id="a part of it"),
        pytest.param(changed(more=1), "more is not known", id="a field more"),
        pytest.param(changed(rows=-1), "rows is -1", id="fewer rows than none"),
        pytest.param(changed(rows=True), "rows is True", id="rows that are no number"),
        pytest.param(changed(rows=math.nan), "the number NaN", id="a number outside JSON"),
        pytest.param(changed(partition=1), "partition is 1", id="a partition that is no text"),
        pytest.param(changed(files={}), "files is", id="files that are no list"),
        pytest.param(
            changed(files=[{"name": "a", "bytes": 1, "sha256": "0"}]),
            r"files\.0\.sha256 is '0'",
            id="a digest too short",
        ),
        pytest.param(
            changed(columns=[{"name": "", "type": "int64"}]),
            r"columns\.0\.name is ''",
            id="a column without a name",
        ),
        pytest.param(changed(inputs={"a": 1}), r"inputs\.a is 1", id="a digest that is no text"),
    ],
)
def test_what_is_no_manifest_is_refused_with_what_is_wrong(data: bytes, problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        manifest.decode(data)
