"""From a file's bytes to the texts of its fields, or a sentence about why it is no such CSV.

It deals with compression, encoding, separator, quotes and the number of fields. It does not know
Inside Airbnb's columns. No message has a field's content: it may be private.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from embedded.listings import ListingsError

AS_PUBLISHED = "Take the file as published, without opening it in a spreadsheet."
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# Two names that both kinds of files have, whatever their year.
_TELLTALE = {"id", "room_type"}


class ListingsFileError(ListingsError):
    """The file is none of Inside Airbnb's, or one that cannot be taken without harm."""


def content(path: Path) -> bytes:
    """A file's bytes, unpacked if they are gzip, whatever the name says; they are UTF-8.

    Raises:
        ListingsFileError: It cannot be read, is cut off, or no text in UTF-8.
    """
    try:
        raw = path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except FileNotFoundError as error:
        raise ListingsFileError(f"{path} is not there: give the path of a CSV file.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ListingsFileError(f"{path} is damaged or cut off: download it again.") from error
    except OSError as error:
        raise ListingsFileError(f"{path} cannot be read: {error.strerror}.") from error
    _require_text(path, raw)
    return raw


def header(path: Path, raw: bytes) -> list[str]:
    """The names in the first row.

    Raises:
        ListingsFileError: The separator is not the comma.
    """
    names = _first_row(raw, ",")
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        # Not taken: the program that wrote it has its own dates and numbers, too. In many countries
        # it writes 1.999 for two thousand, which nothing tells from two.
        if not _TELLTALE & set(names) and set(_first_row(raw, separator)) >= _TELLTALE:
            raise ListingsFileError(
                f"{path} is separated by {word}, as a spreadsheet saves it, which may have changed "
                f"dates, decimals and long ids as well; commas are needed. {AS_PUBLISHED}"
            )
    return names


def texts(path: Path, raw: bytes, columns: Sequence[str]) -> pa.Table:
    """The fields of these columns as they stand; null is an empty one without quotes.

    Raises:
        ListingsFileError: A row has too few or too many fields, or a quote is not closed.
    """
    if raw.count(b'"') % 2:
        # It would take all that follows into one field.
        raise ListingsFileError(
            f"{path} has a quote that is opened and not closed. Is it cut off? Download it again."
        )
    uneven: list[pacsv.InvalidRow] = []

    def note(row: pacsv.InvalidRow) -> str:
        uneven.append(row)
        return "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(raw),
            # Only one thread knows the number of a row.
            read_options=pacsv.ReadOptions(use_threads=False),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pacsv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        # Arrow's own words quote the row.
        raise ListingsFileError(f"{path} cannot be read as CSV. {AS_PUBLISHED}") from None
    if uneven:
        row = uneven[0]
        raise ListingsFileError(
            f"{path}, row {row.number}: it has {row.actual_columns} fields and the header has "
            f"{row.expected_columns}. Is the file cut off, or was it edited? Download it again."
        )
    return table


def _first_row(raw: bytes, separator: str) -> list[str]:
    # Of a file whose first quote is not closed, the beginning will do.
    start = io.StringIO(raw[:100_000].decode("utf-8-sig", errors="replace"), newline="")
    return next(csv.reader(start, delimiter=separator), [])


def _require_text(path: Path, raw: bytes) -> None:
    if not raw.strip():
        raise ListingsFileError(f"{path} is empty: download it again.")
    if raw.startswith(b"PK\x03\x04"):
        raise ListingsFileError(f"{path} is a workbook or a ZIP archive, no CSV. {AS_PUBLISHED}")
    if raw.lstrip().startswith(b"<"):
        raise ListingsFileError(
            f"{path} is HTML or XML, such as the answer of a server that does not have the file: "
            "download it again."
        )
    # Every other byte of a header in UTF-16 is zero.
    if raw.startswith(_UTF16) or raw[:40].count(0) > 15:
        raise ListingsFileError(
            f"{path} is text in UTF-16 and UTF-8 is needed: save it as UTF-8, or take the file as "
            "published."
        )
    for number, line in enumerate(io.BytesIO(raw), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            raise ListingsFileError(
                f"{path} is not text in UTF-8: line {number} is in another encoding, such as the "
                "cp1252 of a spreadsheet. Which letters were meant cannot be known from here: save "
                "it as UTF-8 where it came from, or take the file as published."
            ) from None
