"""Reading Inside Airbnb's summary files, published ones and those a spreadsheet has been at.

Lives here: text to typed columns, and every reason to refuse. Does not: the database.

An empty field is NULL and a quoted empty one (`""`) is '' in columns of text, as in the published
files, which have both, and as Postgres reads CSV. Copies from a spreadsheet have lost the quotes:
there an empty name is NULL. Values are not trimmed, and no word (NA, nan, NULL) means null.
"""

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.csv as pacsv

from embedded.listings import SCHEMA, ListingsError

T = TypeVar("T")

# Not in every year's files: from about 2021, and from late 2025.
OPTIONAL = frozenset({"number_of_reviews_ltm", "license", "host_profile_id"})
_DATE_COLUMN = "download_date"
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?([eE]-[0-9]{1,3})?")
_PRICE = re.compile(r"\$?([0-9]{1,20}|[0-9]{1,3}(,[0-9]{3}){1,6})(\.[0-9]+)?")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
# A scrape takes days or weeks, and the file bears the date of its first.
_SCRAPE = dt.timedelta(days=45)


class ListingsFileError(ListingsError):
    """The file is no summary file, or one that cannot be taken without harm."""


def read(path: Path, day: dt.date) -> pa.Table:
    """A file's rows with the columns and types of the table.

    Args:
        path: The file, UTF-8, with or without `.gz`.
        day: The day it was downloaded; becomes `download_date`.

    Raises:
        ListingsFileError: See there; the message names file, row (the header is row 1, a row with
            line breaks inside quotes counts as one), and column.
    """
    texts = _texts(path)
    _check_columns(path, texts.column_names)
    if not texts.num_rows:
        raise ListingsFileError(f"{path} has a header and no rows: there is nothing to load.")
    columns = {name: texts[name].combine_chunks() for name in texts.column_names}
    arrays = [_typed(path, field, columns, texts.num_rows, day) for field in SCHEMA]
    _check_ids(path, arrays[0].to_pylist())
    return pa.table(arrays, schema=SCHEMA)


def _texts(path: Path) -> pa.Table:
    """Every field as it stands in the file."""
    parse = pacsv.ParseOptions(newlines_in_values=True)
    try:
        with pacsv.open_csv(path, parse_options=parse) as stream:
            header = stream.schema.names
        convert = pacsv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        return pacsv.read_csv(path, parse_options=parse, convert_options=convert)
    except FileNotFoundError as error:
        raise ListingsFileError(f"{path} is not there: give the path of a CSV file.") from error
    except OSError as error:
        raise ListingsFileError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise ListingsFileError(f"{path} is not text in UTF-8: give a CSV file.") from error
    except pa.ArrowInvalid as error:
        raise ListingsFileError(f"{path} is not the CSV that it should be: {error}.") from error


def _check_columns(path: Path, found: list[str]) -> None:
    known = {field.name for field in SCHEMA} - {_DATE_COLUMN}
    twice = sorted({name for name in found if found.count(name) > 1})
    missing = sorted(known - OPTIONAL - set(found))
    unknown = [name for name in found if name not in known]
    if twice:
        raise ListingsFileError(f"{path} has the column {_listed(twice)} more than once.")
    if missing:
        raise ListingsFileError(
            f"{path} lacks {_listed(missing)}: give a summary file of Inside Airbnb "
            "(visualisations/listings.csv), comma-separated, with its header."
        )
    if unknown:
        raise ListingsFileError(
            f"{path} has the unknown column {_listed(unknown)}: give the summary file "
            "(visualisations/listings.csv), or take the column out."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _typed(
    path: Path, field: pa.Field, columns: dict[str, pa.Array], rows: int, day: dt.date
) -> pa.Array:
    if field.name == _DATE_COLUMN:
        return pa.repeat(pa.scalar(day), rows)
    if field.name not in columns:
        return pa.nulls(rows, field.type)
    column = _Column(path, field.name, columns[field.name].to_pylist())
    if pa.types.is_string(field.type):
        return pa.array(column.values(_text, "text without zero bytes"), field.type)
    # A quoted empty field is no number either.
    column = _Column(path, field.name, [text or None for text in column.texts])
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
            except ValueError as error:
                raise ListingsFileError(
                    f"{self.path}, row {row}, column {self.name}: {str(text)[:60]!r} is not {what}."
                ) from error
        return values


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("Postgres knows no text with a zero byte")
    return text


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
            f"({column.texts[by_day]}) has the day first, row {by_month + 2} "
            f"({column.texts[by_month]}) the month. Take the file as published."
        )
    if by_day is not None or by_month is not None:
        return by_day is not None
    unclear = [part for part in parts if part and part.first != part.second]
    possible = [order for order in (True, False) if _in_time(unclear, day, day_first=order)]
    if unclear and len(possible) != 1:
        example = column.texts[parts.index(unclear[0])]
        raise ListingsFileError(
            f"{column.path}, column {column.name}: nothing tells whether the day or the month "
            f"comes first in dates such as {example}. "
            "Take the file as published, or write the dates as YYYY-MM-DD."
        )
    return bool(unclear) and possible[0]


def _in_time(parts: list[_Parts], day: dt.date, *, day_first: bool) -> bool:
    try:
        return all(part.date(day_first=day_first) <= day + _SCRAPE for part in parts)
    except ValueError:
        return False


def _check_ids(path: Path, ids: list[int | None]) -> None:
    seen: dict[int, int] = {}
    for row, listing in enumerate(ids, start=2):
        if listing is None:
            raise ListingsFileError(f"{path}, row {row}, column id: it is empty.")
        first = seen.setdefault(listing, row)
        if first != row:
            raise ListingsFileError(
                f"{path}, column id: rows {first} and {row} are both listing {listing}. "
                "A file has each listing once; take one of them out."
            )
