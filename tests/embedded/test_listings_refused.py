"""Files of listings that must be refused, with messages that show no content of the file."""

import datetime as dt
import gzip
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from embedded.errors import ConfigurationError
from embedded.listings import DatabaseError, ListingsError
from embedded.load_listings import load
from tests.embedded.listings_rig import HEADER_2018, TABLE, TEXT, column, write

TOWN = {"neighbourhood": '"Town, Country"', "price": '"$1,100.00"'}


@pytest.mark.parametrize(
    "records",
    [
        [TOWN],
        [TOWN, {"neighbourhood": "", "price": "$9.00"}, TOWN | {"price": ""}],
        [TOWN, TOWN | {"neighbourhood": '"Other Town, Region, Country"'}],
        [{"neighbourhood": "Neighborhood highlights"}],
    ],
    ids=["one town", "some without", "towns of one country", "newer words"],
)
def test_a_detailed_file_cut_down_to_a_summary_files_columns_is_refused(
    tmp_path: Path, records: list[dict[str, str]]
) -> None:
    with pytest.raises(ListingsError, match="neighbourhood_cleansed, which is gone") as caught:
        load("postgresql://never-asked", write(tmp_path / "a.csv", *records), "2024-02-01")
    assert "Town" not in str(caught.value)


EXACT = (
    685148830257321258,
    973895808066047621,
    1052345678901234567,
    1188888888888888889,
    1210987654321098765,
    1333333333333333333,
)


def to_15_digits(number: int) -> int:
    """An id as a spreadsheet keeps it: digits after the 15th become zeros."""
    kept = 10 ** (len(str(number)) - 15)
    return number // kept * kept


def ids_in(name: str, ids: list[int]) -> list[dict[str, str]]:
    """Rows with these ids in a column, and one row with a short id."""
    return [{name: str(number)} for number in [13913, *ids]]


@pytest.mark.parametrize("damage", [to_15_digits, lambda n: int(float(n))], ids=["15", "double"])
@pytest.mark.parametrize("name", ["id", "host_id", "host_profile_id"])
def test_ids_that_lost_digits_are_refused_unless_they_are_allowed(
    database: str, tmp_path: Path, name: str, damage: Callable[[int], int]
) -> None:
    records = ids_in(name, [damage(number) for number in EXACT])
    path = write(tmp_path / "a.csv", *records, header=list(TABLE))
    with pytest.raises(ListingsError, match=f"column {name}: 6 of 6 ids .* are rounded") as caught:
        load(database, path, "2026-10-01")
    assert "ALLOW_ROUNDED_IDS=1" in str(caught.value)
    assert load(database, path, "2026-10-01", allow_rounded_ids=True) == 7


def test_ids_of_18_digits_are_accepted(database: str, tmp_path: Path) -> None:
    load(database, write(tmp_path / "a.csv", *ids_in("id", [*EXACT])), "2026-10-01")
    assert column(database, "id") == [13913, *EXACT]


@pytest.mark.parametrize("text", ["6.85E+17", '"6,85E+17"', "6e17"])
@pytest.mark.parametrize("name", ["id", "host_id", "host_profile_id"])
def test_ids_in_scientific_notation_are_refused_and_named(
    tmp_path: Path, name: str, text: str
) -> None:
    path = write(tmp_path / "a.csv", {}, {name: text}, header=list(TABLE))
    expected = f"row 3, column {name}: a number in scientific notation, whose last digits are lost"
    with pytest.raises(ListingsError, match=expected):
        load("postgresql://never-asked", path, "2026-10-01", allow_rounded_ids=True)


def today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


@pytest.mark.parametrize(
    ("days_from_today", "date", "first"),
    [(2, None, "2015-01-01"), (None, "2014-12-31", "2015-01-01"), (-9, None, str(today()))],
    ids=["in the future", "before the first files", "before a first day of one's own"],
)
def test_a_day_that_cannot_be_materialised_is_refused_with_those_that_can(
    tmp_path: Path, days_from_today: int | None, date: str | None, first: str
) -> None:
    day = date or str(today() + dt.timedelta(days_from_today or 0))
    with pytest.raises(ListingsError, match=f"{day} .* from {first} to {today()}"):
        load("postgresql://never-asked", write(tmp_path / "a.csv", {}), day, first=first)


def test_the_first_day_is_accepted_and_today_is_reported_as_unfinished(
    database: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", {})
    lines: list[str] = []
    assert load(database, path, "2015-01-01", say=lines.append) == 1
    assert lines == []
    day = today()
    assert load(database, path, str(day), say=lines.append) == 1
    assert f"{day} is not over yet" in lines[0]
    assert f"from {day + dt.timedelta(1)} on" in lines[0]


REFUSED = {
    "both orders": (
        [{"last_review": "13/1/2024"}, {"last_review": "1/13/2024"}],
        "contradicts itself: row 2 has the day first, row 3 the month",
    ),
    "either order": ([{"last_review": "1/2/2024"}], "nothing tells whether the day or the month"),
    "no date": ([{}, {"last_review": "last week"}], "row 3, column last_review: text of 9 char"),
    "no day": ([{"last_review": "2024-02-30"}], "row 2, column last_review: a date stands where"),
    "a year of two digits": ([{"last_review": "1/13/24"}], "row 2, column last_review"),
    "no id": ([{"id": ""}], "row 2, column id: it is empty"),
    "an id of 65 bits": (
        [{"id": "9223372036854775808"}],
        "row 2, column id: a whole number stands where a whole number of 64",
    ),
    "a number of 33 bits": ([{"minimum_nights": "2147483648"}], "row 2, column minimum_nights"),
    "half a night": (
        [{"minimum_nights": "1.5"}],
        "row 2, column minimum_nights: a number with dec",
    ),
    "an id twice": ([{}, {}, {"id": "1"}], "rows 2 and 4 have the same one"),
    "another currency": ([{"price": "EUR 5"}], "row 2, column price: text of 5 characters"),
    "a negative price": ([{"price": "-5"}], "row 2, column price: a number below zero"),
    "a comma for a point": ([{"price": '"1,5"'}], "row 2, column price: a number with decimals"),
    "a place that is none": ([{"latitude": "nan"}], "row 2, column latitude: text of 3 characters"),
    "a zero byte": ([{"name": "a\0b"}], "row 2, column name: text with a zero byte"),
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
        (b" \n", "is empty: download it again"),
        (b"PK\x03\x04\xff", "is a workbook or a ZIP archive"),
        (b"\n<?xml version='1.0'?><Error/>", "is HTML or XML"),
        (b"%PDF-1.4 \xff\xfe\n", "is not text in UTF-8"),
        (",".join(HEADER_2018[1:]).encode() + b"\n", "lacks id"),
        (",".join([*HEADER_2018, "amenities"]).encode() + b"\n", "has amenities, which no"),
        (",".join([*HEADER_2018, "price"]).encode() + b"\n", "column price more than once"),
        (";".join(HEADER_2018).encode() + b"\n", "is separated by semicolons"),
        (b"\xef\xbb\xbf" + "\t".join(HEADER_2018).encode() + b"\n", "is separated by tabs"),
        (",".join(HEADER_2018).encode("utf-16"), "is text in UTF-16"),
        (",".join(HEADER_2018).encode("utf-16-be"), "is text in UTF-16"),
        (b"1" + b",Secret" * 15 + b"\n", "does not begin with the names"),
        (",".join(HEADER_2018).encode() + b"\n1,Secret\n", "row 2: it has 2 fields and the"),
        (",".join(HEADER_2018).encode() + b'\n1,"Secret' + b",1" * 14 + b"\n", "not closed"),
        (",".join(HEADER_2018).encode() + b"\n1,\xff" + b",1" * 14 + b"\n", "line 2 is in another"),
        (gzip.compress(",".join(HEADER_2018).encode())[:-9], "is damaged or cut off"),
        (",".join(["", *HEADER_2018]).encode() + b"\nSecret" + b",1" * 16, "not number the rows"),
    ],
    ids=[
        "empty", "a workbook", "an error of a server", "no CSV", "a column missing",
        "a column too many", "a column twice", "semicolons", "tabs", "UTF-16", "UTF-16 unmarked",
        "no header", "a short row", "a quote not closed", "Latin-1", "half a download",
        "an index of words",
    ],
)  # fmt: skip
def test_other_files_are_refused_with_a_sentence_of_their_own(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ListingsError) as caught:
        load("postgresql://never-asked", path, "2025-12-01")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("name", HEADER_2018)
def test_no_message_shows_the_content_of_a_field(tmp_path: Path, name: str) -> None:
    """Each refusal is tried with the same text in all fields of a row."""
    secrets = dict.fromkeys(HEADER_2018, "Secret") | {"id": "2", "host_id": "3", "price": "4"}
    bad = {name: "Sec\0ret Secret"} if name in TEXT else {name: "Secret"}
    with pytest.raises(ListingsError) as caught:
        load(
            "postgresql://127.0.0.1:1/never", write(tmp_path / "a.csv", secrets | bad), "2024-02-01"
        )
    assert "Secret" not in str(caught.value)


def test_the_databases_message_about_a_row_is_not_shown(database: str, tmp_path: Path) -> None:
    load(database, write(tmp_path / "a.csv", {}), "2024-02-01")
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as c:
        c.execute("ALTER TABLE listings ALTER host_name TYPE integer USING 1")
    path = write(tmp_path / "a.csv", {"host_name": "Secret"})
    with pytest.raises(DatabaseError, match="SQLSTATE 22P02, at host_name") as caught:
        load(database, path, "2024-02-01")
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn", ["postgresql+psycopg2://me:secret@h/db", "postgresql://me:%zzsecret@h/db"]
)
def test_a_dsn_that_cannot_be_read_is_not_shown(tmp_path: Path, dsn: str) -> None:
    with pytest.raises(DatabaseError, match="PLATFORM_POSTGRES_DSN") as caught:
        load(dsn, write(tmp_path / "a.csv", {}), "2024-02-01")
    assert "secret" not in str(caught.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListingsError, match=r"gone\.csv is not there"):
        load("postgresql://never-asked", tmp_path / "gone.csv", "2025-12-01")


@pytest.mark.parametrize("date", ["2025-02-30", "2025-2-3", "20250203", "01/02/2025", ""])
def test_a_date_of_another_form_is_refused(tmp_path: Path, date: str) -> None:
    with pytest.raises(ConfigurationError, match=f"DATE='{date}' is no day.*YYYY-MM-DD"):
        load("postgresql://never-asked", write(tmp_path / "a.csv", {}), date)


def test_a_database_that_is_down_is_reported_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="does not answer") as caught:
        load("postgresql://me:secret@127.0.0.1:1/db", write(tmp_path / "a.csv", {}), "2025-12-01")
    assert "secret" not in str(caught.value)


def test_a_table_with_other_columns_is_reported_and_not_changed(
    database: str, tmp_path: Path
) -> None:
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as c:
        c.execute("CREATE TABLE listings (id bigint, download_date date)")
        c.execute("INSERT INTO listings VALUES (5, '2025-12-01')")
    with pytest.raises(DatabaseError, match="does not take the listings"):
        load(database, write(tmp_path / "a.csv", {}), "2025-12-01")
    assert column(database, "id") == [5]
