"""Real Inside Airbnb files into the table, value by value, and the ones that must be refused."""

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

from embedded.listings import DatabaseError, ListingsError
from embedded.load_listings import load

FILES = [
    ("amsterdam_2018-10-05_listings.csv", "2018-10-05", 19_930),
    ("amsterdam_2024-12-07_listings.csv", "2024-12-07", 10_032),
    ("albany_2025-01-04_listings.csv", "2025-01-04", 429),
]
TABLE = (
    "id", "name", "host_id", "host_profile_id", "host_name", "neighbourhood_group",
    "neighbourhood", "latitude", "longitude", "room_type", "price", "minimum_nights",
    "number_of_reviews", "last_review", "reviews_per_month", "calculated_host_listings_count",
    "availability_365", "number_of_reviews_ltm", "license",
)  # fmt: skip
TEXT = {
    "name", "host_profile_id", "host_name", "neighbourhood_group", "neighbourhood", "room_type",
    "license",
}  # fmt: skip
FLOATS = {"latitude", "longitude", "price", "reviews_per_month"}
LATER = ("host_profile_id", "number_of_reviews_ltm", "license")
HEADER_2018 = [name for name in TABLE if name not in LATER]


def reference_records(text: str) -> list[list[tuple[str, bool]]]:
    """RFC 4180 letter by letter: the fields of each record, and whether each was quoted."""
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
def test_every_value_of_a_real_file_arrives_unharmed(
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
    load(database, path, dt.date(2025, 1, 5))
    first = stored(database, "2025-01-04")
    load(database, path, "2025-01-04")
    assert stored(database, "2025-01-04") == first
    assert stored(database, "2025-01-05") == first


def spreadsheet(path: Path, date_form: Callable[[dt.date], str]) -> bytes:
    """What a spreadsheet makes of a file: CRLF records, LF in quotes, its own dates, a BOM."""
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
def test_a_copy_that_a_spreadsheet_mangled_has_the_same_values(
    shared_data: Path, database: str, tmp_path: Path, name: str, date_form: Any
) -> None:
    original = shared_data / "airbnb" / f"{name}_listings.csv"
    copy = tmp_path / "copy.csv"
    copy.write_bytes(spreadsheet(original, date_form))
    load(database, copy, name[-10:])
    assert stored(database, name[-10:]) == reference_rows(original.read_bytes().decode())


def write(path: Path, *records: dict[str, str], header: list[str] = HEADER_2018) -> Path:
    """A file with these values; what is not said is plain. Values stand as they are, unquoted."""
    plain = dict.fromkeys(TABLE, "1") | {"name": "Flat", "last_review": "", "price": "10"}
    lines = [",".join(header)]
    for number, record in enumerate(records, start=1):
        values = plain | {"id": str(number)} | record
        lines.append(",".join(values.get(name, "") for name in header))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def column(dsn: str, name: str) -> list[object]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM listings ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def test_a_file_of_late_2025_brings_the_hosts_profile(database: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        {"host_profile_id": "1460000000000000001", "license": "x", "number_of_reviews_ltm": "5"},
        header=list(TABLE),
    )
    assert load(database, path, "2025-12-01") == 1
    assert column(database, "host_profile_id") == ["1460000000000000001"]
    assert column(database, "number_of_reviews_ltm") == [5]


def test_a_compressed_file_and_columns_in_another_order_are_taken(
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
def test_names_are_taken_as_they_stand(
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


REFUSED = {
    "both orders": (
        [{"last_review": "13/1/2024"}, {"last_review": "1/13/2024"}],
        "contradicts itself: row 2 (13/1/2024) has the day first, row 3 (1/13/2024) the month",
    ),
    "either order": ([{"last_review": "1/2/2024"}], "nothing tells whether the day or the month"),
    "no date": ([{}, {"last_review": "last week"}], "row 3, column last_review: 'last week'"),
    "no day": ([{"last_review": "2024-02-30"}], "row 2, column last_review: '2024-02-30'"),
    "a year of two digits": ([{"last_review": "1/13/24"}], "row 2, column last_review"),
    "a rounded id": ([{}, {"id": "6.13E+17"}], "row 3, column id: '6.13E+17'"),
    "no id": ([{"id": ""}], "row 2, column id: it is empty"),
    "an id of 65 bits": ([{"id": "9223372036854775808"}], "row 2, column id"),
    "a number of 33 bits": ([{"minimum_nights": "2147483648"}], "row 2, column minimum_nights"),
    "half a night": ([{"minimum_nights": "1.5"}], "row 2, column minimum_nights: '1.5'"),
    "an id twice": ([{}, {}, {"id": "1"}], "rows 2 and 4 are both listing 1"),
    "another currency": ([{"price": "EUR 5"}], "row 2, column price: 'EUR 5'"),
    "a negative price": ([{"price": "-5"}], "row 2, column price: '-5'"),
    "a comma for a point": ([{"price": '"1,5"'}], "row 2, column price: '1,5'"),
    "a place that is none": ([{"latitude": "nan"}], "row 2, column latitude: 'nan'"),
    "a zero byte": ([{"name": "a\0b"}], "row 2, column name"),
    "no rows": ([], "has a header and no rows"),
}


@pytest.mark.parametrize(("records", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_file_is_named_with_row_and_column_and_changes_nothing(
    database: str, tmp_path: Path, records: list[dict[str, str]], message: str
) -> None:
    load(database, write(tmp_path / "good.csv", {"name": "before"}), "2025-12-01")
    bad = write(tmp_path / "bad.csv", *records)
    with pytest.raises(ListingsError) as caught:
        load(database, bad, "2025-12-01")
    assert message in str(caught.value)
    assert str(bad) in str(caught.value)
    assert column(database, "name") == ["before"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not the CSV that it should be"),
        (b"%PDF-1.4 \xff\xfe\n", "is not text in UTF-8"),
        (",".join(HEADER_2018[1:]).encode() + b"\n", "lacks id"),
        (",".join([*HEADER_2018, "amenities"]).encode() + b"\n", "unknown column amenities"),
        (",".join([*HEADER_2018, "price"]).encode() + b"\n", "column price more than once"),
        (";".join(HEADER_2018).encode() + b"\n", "comma-separated"),
        (",".join(HEADER_2018).encode() + b"\n1,2\n", "Expected 16 columns, got 2"),
        (",".join(HEADER_2018).encode() + b"\n1,\xff" + b",1" * 14 + b"\n", "UTF8"),
    ],
    ids=[
        "empty", "no CSV", "a column missing", "a column too many", "a column twice", "semicolons",
        "a short row", "Latin-1",
    ],
)  # fmt: skip
def test_what_is_no_summary_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ListingsError) as caught:
        load("postgresql://never-asked", path, "2025-12-01")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListingsError, match=r"gone\.csv is not there"):
        load("postgresql://never-asked", tmp_path / "gone.csv", "2025-12-01")


@pytest.mark.parametrize("date", ["2025-02-30", "yesterday", "01/02/2025", ""])
def test_a_date_that_is_none_is_refused(tmp_path: Path, date: str) -> None:
    with pytest.raises(ListingsError, match="YYYY-MM-DD"):
        load("postgresql://never-asked", write(tmp_path / "a.csv", {}), date)


def test_a_database_that_is_down_is_said_so_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="does not answer") as caught:
        load("postgresql://me:secret@127.0.0.1:1/db", write(tmp_path / "a.csv", {}), "2025-12-01")
    assert "secret" not in str(caught.value)


def test_a_table_of_another_make_is_said_so_and_left_alone(database: str, tmp_path: Path) -> None:
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as c:
        c.execute("CREATE TABLE listings (id bigint, download_date date)")
        c.execute("INSERT INTO listings VALUES (5, '2025-12-01')")
    with pytest.raises(DatabaseError, match="does not take the listings"):
        load(database, write(tmp_path / "a.csv", {}), "2025-12-01")
    assert column(database, "id") == [5]
