"""Reading Inside Airbnb's files of listings, published ones and those a spreadsheet has been at.

Lives here: texts to typed columns, and every reason to refuse what they hold. Does not: bytes to
texts (`listings_csv`), and the database. A message names row and column, and what kind of thing
stands there, but never shows it: it may be private.

An empty field is NULL and a quoted empty one (`""`) is '' in columns of text, as in the published
files, which have both, and as Postgres reads CSV. Copies from a spreadsheet have lost the quotes:
there an empty name is NULL. Values are not trimmed, and no word (NA, nan, NULL) means null.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from embedded import listings_csv
from embedded.listings import SCHEMA
from embedded.listings_csv import AS_PUBLISHED, ListingsFileError
from embedded.listings_detailed import DETAILED_ONLY
from formats.long_ids import count_long_ids

T = TypeVar("T")

# Not in every year's files: before 2016, from about 2021, and from late 2025.
OPTIONAL = frozenset({"neighbourhood_group", "number_of_reviews_ltm", "license", "host_profile_id"})
# The detailed file has these columns of the summary file under another name. Its own
# `neighbourhood` is a free text of the host's: "Town, Country", "Neighborhood highlights".
_DETAILED = {
    "neighbourhood": "neighbourhood_cleansed",
    "neighbourhood_group": "neighbourhood_group_cleansed",
}
_HIGHLIGHTS = "Neighborhood highlights"
_IDS = ("id", "host_id", "host_profile_id")
# Of a column's long ids, where these are also more than chance would have.
_ROUNDED_SHARE = 0.1
_DATE_COLUMN = "download_date"
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?([eE]-[0-9]{1,3})?")
_PRICE = re.compile(r"\$?([0-9]{1,20}|[0-9]{1,3}(,[0-9]{3}){1,6})(\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"-?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
# A scrape takes days or weeks, and the file bears the date of its first.
_SCRAPE = dt.timedelta(days=45)


def read(
    path: Path, day: dt.date, say: Callable[[str], None], *, allow_rounded_ids: bool = False
) -> pa.Table:
    """A file's rows with the columns and types of the table.

    Args:
        path: The summary or the detailed file, UTF-8, gzip or not.
        day: The day it was downloaded; becomes `download_date`.
        say: Gets a line about what of the file is left out.
        allow_rounded_ids: Whether ids that look rounded are taken all the same.

    Raises:
        ListingsFileError: See there; the message names file, row (the header is row 1, a row with
            line breaks inside quotes counts as one), and column.
    """
    raw = listings_csv.content(path)
    header = listings_csv.header(path, raw)
    source = _columns(path, header, say)
    index = header[0] if _is_index(header[0]) else None
    texts = listings_csv.texts(path, raw, [*source.values(), *([] if index is None else [index])])
    if not texts.num_rows:
        raise ListingsFileError(f"{path} has a header and no rows: there is nothing to load.")
    if index is not None:
        _require_row_numbers(path, texts[index].to_pylist())
        say("The first column, which has no name and numbers the rows, is left out.")
    columns = {
        name: _Column(path, column, texts[column].to_pylist()) for name, column in source.items()
    }
    _require_real_neighbourhoods(path, source, columns)
    rows = pa.table(
        [_typed(field, columns, texts.num_rows, day) for field in SCHEMA], schema=SCHEMA
    )
    if not allow_rounded_ids:
        for name in _IDS:
            _require_exact_ids(path, name, rows[name].to_pylist())
    _require_each_once(path, rows["id"].to_pylist())
    return rows


def _columns(path: Path, header: list[str], say: Callable[[str], None]) -> dict[str, str]:
    """The file's column for each of the table's that it has."""
    detailed = _DETAILED["neighbourhood"] in header
    names: list[str] = [field.name for field in SCHEMA if field.name != _DATE_COLUMN]
    source = {name: _DETAILED.get(name, name) if detailed else name for name in names}
    needed = [column for name, column in source.items() if name not in OPTIONAL]
    missing = [column for column in needed if column not in header]
    # In this order: of a file without a header, the "names" are the first listing.
    if missing == needed:
        raise ListingsFileError(
            f"{path} does not begin with the names of Inside Airbnb's columns: give a summary file "
            "(visualisations/listings.csv) or a detailed file (data/listings.csv.gz), as published."
        )
    if missing:
        raise ListingsFileError(
            f"{path} lacks {_listed(missing)}: give a summary file of Inside Airbnb "
            "(visualisations/listings.csv) or a detailed one (data/listings.csv.gz), as published."
        )
    present = {name: column for name, column in source.items() if column in header}
    twice = [
        column
        for column in dict.fromkeys([*present.values(), header[0]])
        if header.count(column) > 1
    ]
    if twice:
        raise ListingsFileError(
            f"{path} has the column {_listed(twice)} more than once. {AS_PUBLISHED}"
        )
    if not detailed:
        _leave_out_unknown(path, header[_is_index(header[0]) :], names, say)
    return present


def _leave_out_unknown(
    path: Path, header: list[str], names: list[str], say: Callable[[str], None]
) -> None:
    """Say which columns of a summary file are left out; refuse those of a detailed one."""
    unknown = list(dict.fromkeys(name for name in header if name not in names))
    foreign = [name for name in unknown if name in DETAILED_ONLY]
    if foreign:
        # Without them it would pass for a summary file, with a host's words as neighbourhoods.
        raise ListingsFileError(
            f"{path} has {_listed(foreign)}, which no summary file has, and lacks "
            f"{_DETAILED['neighbourhood']}, which every detailed file has. To take columns out or "
            "to rename them does not help, since the two files mean different things by "
            "`neighbourhood`: give one of them, as published."
        )
    if unknown:
        say(f"What the table has no column for is left out: {_listed(unknown)}.")


def _listed(names: Sequence[str]) -> str:
    shown = [name or "a column without a name" for name in names[:5]]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_index(name: str) -> bool:
    """Whether it is what pandas and R write before the columns, or pandas read back."""
    return name in {"", "Unnamed: 0"}


def _require_row_numbers(path: Path, texts: Iterable[str | None]) -> None:
    if not all(text and _INTEGER.fullmatch(text) for text in texts):
        raise ListingsFileError(
            f"{path} has a first column without a name that does not number the rows. "
            f"{AS_PUBLISHED}"
        )


def _require_real_neighbourhoods(
    path: Path, source: dict[str, str], columns: dict[str, "_Column"]
) -> None:
    """Refuse a detailed file that was cut down to the columns of a summary file.

    Only the detailed file writes prices with a `$`, but spreadsheets do it, too. What tells is that
    half of the neighbourhoods end in the same country, or are the detailed file's own phrase.
    Neighbourhoods of summary files may have commas (Washington: "Dupont Circle, Connecticut
    Avenue/K Street"), but not one ending.
    """
    if source["neighbourhood"] != "neighbourhood":
        return
    areas = [area for area in columns["neighbourhood"].texts if area]
    endings = Counter(area.rpartition(", ")[2] for area in areas if ", " in area)
    dollars = any(price and price.startswith("$") for price in columns["price"].texts)
    same = max(endings.values(), default=0) if dollars else 0
    if areas and 2 * (areas.count(_HIGHLIGHTS) + same) >= len(areas):
        raise ListingsFileError(
            f"{path} has the columns of a summary file and the contents of a detailed one: its "
            "neighbourhoods are what hosts wrote (town, country). The right ones were in "
            "neighbourhood_cleansed, which is gone. Give the summary file "
            "(visualisations/listings.csv) or the whole detailed file (data/listings.csv.gz), as "
            "published."
        )


def _typed(field: pa.Field, columns: dict[str, "_Column"], rows: int, day: dt.date) -> pa.Array:
    if field.name == _DATE_COLUMN:
        return pa.repeat(pa.scalar(day), rows)
    if field.name not in columns:
        return pa.nulls(rows, field.type)
    column = columns[field.name]
    if pa.types.is_string(field.type):
        if field.name in _IDS:
            return pa.array(column.values(_text_of_id, "an id, written out in full"), field.type)
        return pa.array(column.values(_text, "text without zero bytes"), field.type)
    # A quoted empty field is no number either.
    column = _Column(column.path, column.name, [text or None for text in column.texts])
    if pa.types.is_date(field.type):
        return pa.array(_dates(column, day), field.type)
    if pa.types.is_integer(field.type):
        what = f"a whole number of {field.type.bit_width} bits, written out in full"
        return pa.array(column.values(_integer(field.type.bit_width), what), field.type)
    if field.name == "price":
        return pa.array(column.values(_price, "a price such as 69 or $1,999.00"), field.type)
    return pa.array(column.values(_decimal, "a number such as 4.9"), field.type)


@dataclass(frozen=True, slots=True)
class _Column:
    """The texts of one column; None where a field is empty."""

    path: Path
    name: str
    texts: list[str | None]

    def values(self, parse: Callable[[str], T], what: str) -> list[T | None]:
        """The texts as values; the first one that `parse` refuses is named."""
        values: list[T | None] = []
        for row, text in enumerate(self.texts, start=2):
            try:
                values.append(None if text is None else parse(text))
            except ValueError:
                raise ListingsFileError(
                    f"{self.path}, row {row}, column {self.name}: {_kind(text or '')} stands where "
                    f"{what} is needed. {AS_PUBLISHED}"
                ) from None
        return values


def _kind(text: str) -> str:
    """What stands in a field, without showing it."""
    kinds = {
        "a number in scientific notation, whose last digits are lost,": _SCIENTIFIC,
        "a number below zero": re.compile(r"-[0-9.,]+"),
        "a whole number": _INTEGER,
        "a number with decimals": re.compile(r"[0-9]+[.,][0-9]+"),
        "a date": re.compile(r"[0-9]{1,4}([-/.])[0-9]{1,2}\1[0-9]{1,4}"),
        "text with a zero byte": re.compile(r"[^\0]*\0.*", re.DOTALL),
    }
    matching = (kind for kind, pattern in kinds.items() if pattern.fullmatch(text))
    return next(matching, f"text of {len(text)} characters")


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("Postgres knows no text with a zero byte")
    return text


def _text_of_id(text: str) -> str:
    if _SCIENTIFIC.fullmatch(text):
        raise ValueError("rounded")
    return _text(text)


def _integer(bits: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # Not int() alone: it takes 1_000 and spaces, too.
        value = int(_matching(_INTEGER, text))
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError("out of range")
        return value

    return parse


def _decimal(text: str) -> float:
    return float(_matching(_DECIMAL, text))


def _price(text: str) -> float:
    return float(_matching(_PRICE, text).replace("$", "").replace(",", ""))


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError("another form")
    return text


def _dates(column: _Column, day: dt.date) -> list[dt.date | None]:
    """ISO dates, and those of a spreadsheet in the order that the whole column shows."""
    slashed = [_SLASHED.fullmatch(text) if text else None for text in column.texts]
    parts = [_Parts(*map(int, match.groups())) if match else None for match in slashed]
    day_first = _day_comes_first(column, parts, day)

    def parse(text: str) -> dt.date:
        if match := _SLASHED.fullmatch(text):
            return _Parts(*map(int, match.groups())).date(day_first=day_first)
        return dt.date.fromisoformat(_matching(_ISO, text))

    return column.values(parse, "a date such as 2024-12-07, 12/7/2024 or 07/12/2024")


class _Parts(NamedTuple):
    """A date with slashes."""

    first: int
    second: int
    year: int

    def date(self, *, day_first: bool) -> dt.date:
        day, month = (self.first, self.second) if day_first else (self.second, self.first)
        return dt.date(self.year, month, day)


def _day_comes_first(column: _Column, parts: list[_Parts | None], day: dt.date) -> bool:
    """Whether 1/2/2024 is the first of February.

    A number above 12 tells. Where none does, a review from long after the download tells that it
    is read the wrong way; where that doesn't either and the orders differ, nobody can know.
    """
    by_day = next((at for at, part in enumerate(parts) if part and part.first > 12), None)
    by_month = next((at for at, part in enumerate(parts) if part and part.second > 12), None)
    if by_day is not None and by_month is not None:
        raise ListingsFileError(
            f"{column.path}, column {column.name}, contradicts itself: row {by_day + 2} "
            f"has the day first, row {by_month + 2} the month. {AS_PUBLISHED}"
        )
    if by_day is not None or by_month is not None:
        return by_day is not None
    unclear = [part for part in parts if part and part.first != part.second]
    possible = [order for order in (True, False) if _in_time(unclear, day, day_first=order)]
    if unclear and len(possible) != 1:
        raise ListingsFileError(
            f"{column.path}, column {column.name}: nothing tells whether the day or the month "
            f"comes first in dates such as that of row {parts.index(unclear[0]) + 2}. "
            "Take the file as published, or write the dates as YYYY-MM-DD."
        )
    return bool(unclear) and possible[0]


def _in_time(parts: list[_Parts], day: dt.date, *, day_first: bool) -> bool:
    try:
        return all(part.date(day_first=day_first) <= day + _SCRAPE for part in parts)
    except ValueError:
        return False


def _require_exact_ids(path: Path, name: str, ids: Iterable[object]) -> None:
    """Refuse ids that lost digits: prices of one listing would no longer be one listing's."""
    long = count_long_ids(int(str(each)) for each in ids if _INTEGER.fullmatch(str(each)))
    if long.exceed(_ROUNDED_SHARE):
        raise ListingsFileError(
            f"{path}, column {name}: {long.rounded} of {long.ids} ids of more than 15 digits are "
            "rounded, as a spreadsheet (to 15 digits) or a float (to 53 bits) leaves them, so that "
            f"listings can no longer be told apart or followed over time. {AS_PUBLISHED} To load "
            "it all the same, add ALLOW_ROUNDED_IDS=1."
        )


def _require_each_once(path: Path, ids: list[int | None]) -> None:
    seen: dict[int, int] = {}
    for row, listing in enumerate(ids, start=2):
        if listing is None:
            raise ListingsFileError(f"{path}, row {row}, column id: it is empty. {AS_PUBLISHED}")
        first = seen.setdefault(listing, row)
        if first != row:
            raise ListingsFileError(
                f"{path}, column id: rows {first} and {row} have the same one. A file has each "
                "listing once: download it again, or take one of them out."
            )
