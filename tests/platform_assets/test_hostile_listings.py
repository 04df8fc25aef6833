"""Texts of listings that mean something to spreadsheets, browsers, terminals and Markdown."""

import io
import re

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from psycopg2.extensions import connection

from platform_assets.pictures import to_table
from tests.hostile_texts import HOSTILE
from tests.platform_assets.airbnb_rig import CHANGES, DATES, FIRST, LAST, SUMMARY, change, result
from tests.platform_assets.conftest import Platform
from tests.platform_assets.test_shown_results import metadata

_TURNING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ADDRESS = re.compile(r"https?://|www\.|[\w.+-]@[\w-]+\.", re.IGNORECASE)


def cells(markdown: str) -> list[str]:
    """The cells of a table as a browser shows them; fails where one is more than text."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(markdown)
    assert {token.type for token in tokens} <= {
        *("table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close"),
        *("tr_open", "tr_close", "th_open", "th_close", "td_open", "td_close", "inline"),
    }
    shown: list[str] = []
    for token in tokens:
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text", "text_special"}
            shown.append("".join(child.content for child in token.children or []))
    return shown


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_shows_it_as_text(text: str) -> None:
    *_, first, second = cells(str(to_table(("a", "b"), [(text, 7)]).value))

    assert second == "7"
    assert not _TURNING.search(first)
    assert not _ADDRESS.search(first), "Dagster's UI would make a link of it"
    visible = first.replace("\u2060", "").replace("\ufffd", "")
    assert visible
    assert visible in _TURNING.sub("", " ".join(text.split()))


@given(st.text(), st.text(alphabet="\\|`*_~[]<>&!-:@/.w# \n"))
def test_whatever_a_text_is_the_table_keeps_its_form(one: str, other: str) -> None:
    assert len(cells(str(to_table(("a", "b"), [(one, other), (other, one)]).value))) == 6


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz"])
def test_it_is_unharmed_in_the_data_and_text_in_the_ui(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("PLATFORM_SNAPSHOT_FORMAT", form)
    # As neighbourhoods of the biggest groups, and of the biggest changes.
    for number, text in enumerate(HOSTILE):
        values = {"text": text, "number": number, "of": len(HOSTILE)}
        change(
            table,
            "update listings set neighbourhood = %(text)s, name = %(text)s"
            " where id %% %(of)s = %(number)s",
            **values,
        )

    assert platform.run("listings", FIRST, LAST).success

    data = platform.store.get_bytes(f"airbnb/listings/date={LAST}/listings.{form}", max_bytes=2**24)
    snapshot = read(data, form)
    assert set(snapshot["name"].to_pylist()) == set(HOSTILE)
    assert set(snapshot["neighbourhood"].to_pylist()) == set(HOSTILE)
    groups = result(platform, SUMMARY, LAST, "neighbourhood_summary.json")
    assert {group["neighbourhood"] for group in groups} == set(HOSTILE)
    for asset, names in {
        CHANGES: ("biggest_increase", "biggest_decrease"),
        SUMMARY: ("biggest_groups",),
    }.items():
        shown = metadata(platform, asset, LAST)
        assert "not_shown" not in shown
        for name in names:
            markdown = str(shown[name].value)
            assert len(cells(markdown)) > len(DATES)
            assert not _TURNING.search(markdown)
            assert not _ADDRESS.search(markdown)


def read(data: bytes, form: str) -> pa.Table:
    if form == "parquet":
        return pq.read_table(io.BytesIO(data))
    source = pa.input_stream(io.BytesIO(data), compression="gzip" if form == "csv.gz" else None)
    return pyarrow.csv.read_csv(
        source,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={"name": pa.string(), "neighbourhood": pa.string()}
        ),
    )
