"""Inside Airbnb files of all years and kinds reach the table, value by value."""

import csv
import datetime as dt
import gzip
import io
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from typer.testing import CliRunner

from embedded.cli import app
from embedded.load_listings import load
from embedded.plan import home_from, keep_first_partition, kept_first_partition
from tests.embedded.listings_rig import (
    FLOATS,
    HEADER_2018,
    TABLE,
    TEXT,
    column,
    write,
    write_detailed,
)

FILES = [
    ("amsterdam_2018-10-05_listings.csv", "2018-10-05", 19_930),
    ("amsterdam_2024-12-07_listings.csv", "2024-12-07", 10_032),
    ("albany_2025-01-04_listings.csv", "2025-01-04", 429),
]


def reference_records(text: str) -> list[list[tuple[str, bool]]]:
    """The fields of each record by RFC 4180, and whether each was quoted; a reference reader."""
    records: list[list[tuple[str, bool]]] = []
    record: list[tuple[str, bool]] = []
    field, quoted, inside, at = "", False, False, 0
    while at < len(text):
        letter = text[at]
        if inside:
            if letter == '"' and text[at + 1 : at + 2] == '"':
                field, at = field + '"', at + 1
            elif letter == '"':
                inside = False
            else:
                field += letter
        elif letter == '"' and not field:
            inside = quoted = True
        elif letter in ",\n":
            record.append((field, quoted))
            field, quoted = "", False
            if letter == "\n":
                records.append(record)
                record = []
        elif letter != "\r":
            field += letter
        at += 1
    return records


def reference_value(column: str, text: str, quoted: bool) -> object:
    if not text and not (quoted and column in TEXT):
        return None
    if column in TEXT:
        return text
    if column in FLOATS:
        return float(text)
    return dt.date.fromisoformat(text) if column == "last_review" else int(text)


def reference_rows(text: str) -> list[tuple[object, ...]]:
    header, *records = reference_records(text)
    rows = []
    for record in records:
        fields = dict(zip([name for name, _ in header], record, strict=True))
        rows.append(tuple(reference_value(name, *fields.get(name, ("", False))) for name in TABLE))
    return sorted(rows, key=lambda row: int(str(row[0])))


def stored(dsn: str, date: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(TABLE)} FROM listings WHERE download_date = %s ORDER BY id", (date,)
        )
        return cursor.fetchall()


@pytest.mark.parametrize(("name", "date", "rows"), FILES)
def test_every_value_of_a_real_file_reaches_the_table_unchanged(
    shared_data: Path, database: str, name: str, date: str, rows: int
) -> None:
    path = shared_data / "airbnb" / name
    assert load(database, path, date) == rows
    expected = reference_rows(path.read_bytes().decode())
    assert len(expected) == rows
    assert stored(database, date) == expected


def test_loading_again_changes_nothing_and_leaves_other_days_alone(
    shared_data: Path, database: str
) -> None:
    path = shared_data / "airbnb" / "albany_2025-01-04_listings.csv"
    load(database, path, "2025-01-04")
    load(database, path, "2025-01-05")
    first = stored(database, "2025-01-04")
    load(database, path, "2025-01-04")
    assert stored(database, "2025-01-04") == first
    assert stored(database, "2025-01-05") == first


def spreadsheet(path: Path, date_form: Callable[[dt.date], str]) -> bytes:
    """A file as a spreadsheet saves it: CRLF records, LF in quotes, its own dates, a BOM."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["last_review"]:
            row["last_review"] = date_form(dt.date.fromisoformat(row["last_review"]))
        if row["price"]:
            row["price"] = f"${int(row['price']):,}.00"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


@pytest.mark.parametrize(
    "date_form",
    [lambda d: f"{d.month}/{d.day}/{d.year}", lambda d: d.strftime("%d/%m/%Y"), str],
    ids=["M/D/YYYY", "DD/MM/YYYY", "ISO"],
)
@pytest.mark.parametrize("name", ["albany_2025-01-04", "amsterdam_2024-12-07"])
def test_a_copy_that_a_spreadsheet_saved_has_the_same_values(
    shared_data: Path, database: str, tmp_path: Path, name: str, date_form: Any
) -> None:
    original = shared_data / "airbnb" / f"{name}_listings.csv"
    copy = tmp_path / "copy.csv"
    copy.write_bytes(spreadsheet(original, date_form))
    load(database, copy, name[-10:])
    assert stored(database, name[-10:]) == reference_rows(original.read_bytes().decode())


def test_a_file_of_late_2025_brings_the_hosts_profile(database: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        {"host_profile_id": "1460000000000000001", "license": "x", "number_of_reviews_ltm": "5"},
        header=list(TABLE),
    )
    assert load(database, path, "2025-12-01") == 1
    assert column(database, "host_profile_id") == ["1460000000000000001"]
    assert column(database, "number_of_reviews_ltm") == [5]


def test_a_file_of_2015_has_no_neighbourhood_groups(database: str, tmp_path: Path) -> None:
    header = [name for name in HEADER_2018 if name != "neighbourhood_group"]
    path = write(tmp_path / "a.csv", {"neighbourhood": "North"}, header=header)
    assert load(database, path, "2015-04-06") == 1
    assert column(database, "neighbourhood") == ["North"]
    assert column(database, "neighbourhood_group") == [None]


def test_columns_of_later_years_are_left_out_and_named(database: str, tmp_path: Path) -> None:
    """So are unnamed columns that a spreadsheet adds at the end."""
    header = [*TABLE[:4], "hosts_time", *TABLE[4:], "", ""]
    path = write(tmp_path / "a.csv", {"name": "Flat", "hosts_time": "Secret"}, header=header)
    lines: list[str] = []
    assert load(database, path, "2024-02-01", say=lines.append) == 1
    assert column(database, "name") == ["Flat"]
    assert column(database, "host_name") == ["1"]
    assert lines == [
        "What the table has no column for is left out: hosts_time, a column without a name."
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_detailed_file_is_read_by_its_own_columns(
    database: str, tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    plain = write_detailed(tmp_path / "plain.csv", {"name": "A, b", "host_name": "Nan"}, {})
    # Also without .gz in its name.
    path = tmp_path / "listings.csv"
    path.write_bytes(pack(plain.read_bytes().replace(b"A, b", b'"A, b"')))
    assert load(database, path, "2024-02-01") == 2
    assert column(database, "neighbourhood") == ["North", "North"]
    assert column(database, "neighbourhood_group") == ["Upper", "Upper"]
    assert column(database, "price") == [1100.0, 1100.0]
    assert column(database, "name") == ["A, b", "Flat"]
    assert column(database, "host_name") == ["Nan", "1"]
    assert column(database, "last_review") == [dt.date(2024, 1, 15)] * 2


@pytest.mark.parametrize("missing", ["neighbourhood_group_cleansed", "host_about"])
def test_a_detailed_file_may_lack_optional_columns(
    database: str, tmp_path: Path, missing: str
) -> None:
    assert load(database, write_detailed(tmp_path / "a.csv", {}, without=missing), "2024-02-01")


@pytest.mark.parametrize(
    "areas",
    [
        ['"Dupont Circle, Kalorama"', '"Capitol Hill, Lincoln Park"', '"Shaw, Logan Circle"'],
        ["Centre", '"Town, Country"', "North"],
        ["", "", ""],
    ],
    ids=["commas of their own", "an odd one", "none"],
)
def test_neighbourhoods_of_a_summary_file_with_a_spreadsheets_prices_are_read(
    database: str, tmp_path: Path, areas: list[str]
) -> None:
    records = [{"neighbourhood": area, "price": "$69.00"} for area in areas]
    assert load(database, write(tmp_path / "a.csv", *records), "2024-02-01") == len(areas)


@pytest.mark.parametrize("name", ["", '""', "Unnamed: 0"], ids=["pandas", "R", "read again"])
def test_a_first_column_that_numbers_the_rows_is_left_out(
    database: str, tmp_path: Path, name: str
) -> None:
    records = [{name: "0", "price": "7"}, {name: "1", "price": "8"}]
    path = write(tmp_path / "a.csv", *records, header=[name, *HEADER_2018])
    lines: list[str] = []
    assert load(database, path, "2024-02-01", say=lines.append) == 2
    assert column(database, "price") == [7.0, 8.0]
    assert "first column" in lines[0]


def test_a_row_without_neighbourhood_is_accepted(database: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"neighbourhood": ""}, {"neighbourhood": "North"})
    load(database, path, "2024-02-01")
    assert column(database, "neighbourhood") == [None, "North"]


def test_a_compressed_file_and_columns_in_another_order_are_accepted(
    database: str, tmp_path: Path
) -> None:
    plain = write(tmp_path / "a.csv", {"price": "7"}, header=HEADER_2018[::-1])
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert load(database, packed, "2025-12-01") == 1
    assert column(database, "price") == [7.0]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("0", 0.0), ("", None), ('""', None), ("69.5", 69.5), ("$69.00", 69.0),
        ('"$1,999.00"', 1999.0), ('"110,000"', 110_000.0), ('"$1,110,000.50"', 1_110_000.5),
    ],
)  # fmt: skip
def test_prices_of_all_forms(
    database: str, tmp_path: Path, price: str, expected: float | None
) -> None:
    load(database, write(tmp_path / "a.csv", {"price": price}), "2025-12-01")
    assert column(database, "price") == [expected]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", None), ('""', ""), ("NULL", "NULL"), ("nan", "nan"), ("NA", "NA"), ("  x  ", "  x  "),
        ('"a\nb"', "a\nb"), ('"a\r\nb"', "a\r\nb"), ("=1+1", "=1+1"), ("\\N", "\\N"),
        ("\\.", "\\."), ('"say ""hi"", you"', 'say "hi", you'), ("#NAME?", "#NAME?"),
    ],
)  # fmt: skip
def test_names_are_kept_unchanged(
    database: str, tmp_path: Path, name: str, expected: str | None
) -> None:
    load(database, write(tmp_path / "a.csv", {"name": name}), "2025-12-01")
    assert column(database, "name") == [expected]


def test_dates_that_could_be_either_are_told_apart_by_the_day_of_the_download(
    database: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", {"last_review": "2/11/2025"}, {"last_review": "5/5/2024"})
    load(database, path, "2025-03-01")
    assert column(database, "last_review") == [dt.date(2025, 2, 11), dt.date(2024, 5, 5)]


def test_after_a_file_of_an_earlier_day_partitions_begin_with_it_unless_a_setting_says_when(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    env = f"PLATFORM_POSTGRES_DSN='{database}'\nPLATFORM_FIRST_PARTITION=2026-11-15\n"
    (tmp_path / "env").write_text(env)
    command = ["load-listings", str(write(tmp_path / "a.csv", {})), "2024-12-07"]
    refused = CliRunner().invoke(app, command)
    assert "PLATFORM_FIRST_PARTITION moves it" in refused.stderr
    home = home_from()
    keep_first_partition(home, "2026-11-15")
    loaded = CliRunner().invoke(app, command)
    assert loaded.exit_code == 0, loaded.output
    assert "`make up` lets them begin on 2024-12-07" in " ".join(loaded.output.split())
    assert kept_first_partition(home) == "2024-12-07"
