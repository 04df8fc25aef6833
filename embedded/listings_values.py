"""From the texts of a column to its typed values, or a sentence about the first wrong one.

A message names row and column and what kind of text is in the field, but never shows the text: it
may be private. Which columns a file has is for `listings_file`.

An empty field is NULL and a quoted empty one (`""`) is '' in columns of text, as in the published
files, which have both, and as Postgres reads CSV. Copies from a spreadsheet have lost the quotes:
there an empty name is NULL. Values are not trimmed, and no word (NA, nan, NULL) means null.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import pyarrow as pa

from embedded.listings_csv import AS_PUBLISHED, ListingsFileError

T = TypeVar("T")

IDS = ("id", "host_id", "host_profile_id")
DATE_COLUMN = "download_date"
INTEGER = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?([eE]-[0-9]{1,3})?")
_PRICE = re.compile(r"\$?([0-9]{1,20}|[0-9]{1,3}(,[0-9]{3}){1,6})(\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"-?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SLASHED = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
# A scrape takes days or weeks, and the file bears the date of its first.
_SCRAPE = dt.timedelta(days=45)


@dataclass(frozen=True, slots=True)
class Column:
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


class _SlashedDate(NamedTuple):
    """A date with slashes, of which it is not known yet whether day or month comes first."""

    first: int
    second: int
    year: int

    def date(self, *, day_first: bool) -> dt.date:
        day, month = (self.first, self.second) if day_first else (self.second, self.first)
        return dt.date(self.year, month, day)


def typed_column(
    field: pa.Field, columns: Mapping[str, Column], rows: int, day: dt.date
) -> pa.Array:
    """A column of the table: its name and type are those of `field`.

    Args:
        columns: Those that the file has; others become null.
        day: The value of `download_date`.

    Raises:
        ListingsFileError: A text is no value of that type.
    """
    if field.name == DATE_COLUMN:
        return pa.repeat(pa.scalar(day), rows)
    if field.name not in columns:
        return pa.nulls(rows, field.type)
    column = columns[field.name]
    if pa.types.is_string(field.type):
        if field.name in IDS:
            return pa.array(column.values(_text_of_id, "an id, written out in full"), field.type)
        return pa.array(column.values(_text, "text without zero bytes"), field.type)
    # A quoted empty field is no number either.
    column = Column(column.path, column.name, [text or None for text in column.texts])
    if pa.types.is_date(field.type):
        return pa.array(_dates(column, day), field.type)
    if pa.types.is_integer(field.type):
        what = f"a whole number of {field.type.bit_width} bits, written out in full"
        return pa.array(column.values(_integer(field.type.bit_width), what), field.type)
    if field.name == "price":
        return pa.array(column.values(_price, "a price such as 69 or $1,999.00"), field.type)
    return pa.array(column.values(_decimal, "a number such as 4.9"), field.type)


def _kind(text: str) -> str:
    """What stands in a field, without showing it."""
    kinds = {
        "a number in scientific notation, whose last digits are lost,": _SCIENTIFIC,
        "a number below zero": re.compile(r"-[0-9.,]+"),
        "a whole number": INTEGER,
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
        value = int(_matching(INTEGER, text))
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


def _dates(column: Column, day: dt.date) -> list[dt.date | None]:
    """ISO dates, and those of a spreadsheet in the order that the whole column shows."""
    slashed = [_SLASHED.fullmatch(text) if text else None for text in column.texts]
    parts = [_SlashedDate(*map(int, match.groups())) if match else None for match in slashed]
    day_first = _day_comes_first(column, parts, day)

    def parse(text: str) -> dt.date:
        if match := _SLASHED.fullmatch(text):
            return _SlashedDate(*map(int, match.groups())).date(day_first=day_first)
        return dt.date.fromisoformat(_matching(_ISO, text))

    return column.values(parse, "a date such as 2024-12-07, 12/7/2024 or 07/12/2024")


def _day_comes_first(column: Column, parts: list[_SlashedDate | None], day: dt.date) -> bool:
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


def _in_time(parts: list[_SlashedDate], day: dt.date, *, day_first: bool) -> bool:
    try:
        return all(part.date(day_first=day_first) <= day + _SCRAPE for part in parts)
    except ValueError:
        return False
