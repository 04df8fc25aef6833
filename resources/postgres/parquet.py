"""Rows of a query as a typed Parquet file into a binary stream, in bounded memory.

The types come from `casts.py`. A row of many megabytes takes some fifteen times its length in
memory meanwhile.

They leave Postgres as CSV, like those of the other formats: it writes text as fast as its binary
format, and pyarrow reads text in half the time that the ADBC driver takes for the latter.
"""
# pyarrow ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import io
from codecs import BOM_UTF8
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case

from formats.columns import Column
from resources.postgres.errors import UnwritableValueError
from resources.postgres.export import BUFFER_BYTES, interruptible

# Of CSV; what becomes a row group: about 20,000 listings. Twice of it would be 5 % smaller files
# for 30 MB more memory.
_BLOCK_BYTES = 4 * 1024 * 1024
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


def write_parquet(
    connection: Connection,
    copy: str,
    columns: Sequence[Column],
    sink: io.RawIOBase,
    *,
    table: str,
) -> int:
    """Runs a COPY … TO STDOUT into a Parquet file (zstd) in `sink` and returns the number of rows.

    Args:
        connection: in the transaction to read in; unusable after an exception.
        columns: names and Arrow types that the file is to have.
        sink: raw binary stream; it is written by another thread, and not closed.
        table: what is exported, as errors name it.

    Raises:
        UnwritableValueError: pyarrow reads no such value of a column: infinite dates, NaN among
            decimals, years before 1 and after 9999.
    """
    schema = pa.schema([pa.field(column.name, _arrow_type(column.type)) for column in columns])

    def run() -> int:
        with _encoder(schema, sink) as rows:
            with connection.cursor() as cursor:
                cursor.copy_expert(copy, rows)
            return rows.finish()

    try:
        return interruptible(run, connection.cancel)
    except pa.ArrowInvalid as error:
        raise UnwritableValueError(
            f"Cannot write table {table} as Parquet: {error}. Leave the column out, or choose csv."
        ) from None


class _Rows:
    """What psycopg2 writes rows to, one at a time as libpq has them (`PQgetCopyData`)."""

    def __init__(self, writer: pyarrow.parquet.ParquetWriter, thread: ThreadPoolExecutor) -> None:
        self._writer = writer
        self._thread = thread
        self._block = _empty_block()
        self._encoding: Future[int] | None = None
        self._count = 0

    def write(self, row: bytes) -> None:
        """Take one more; a block of them is encoded while the next one comes."""
        self._block += row
        if len(self._block) >= _BLOCK_BYTES:
            self._encode_block()

    def finish(self) -> int:
        """The number of rows, when all of them are written."""
        self._encode_block()
        self._wait()
        return self._count

    def _encode_block(self) -> None:
        self._wait()
        block, self._block = self._block, _empty_block()
        if len(block) > len(BOM_UTF8):
            self._encoding = self._thread.submit(self._encode, block)

    def _wait(self) -> None:
        if self._encoding is not None:
            self._count += self._encoding.result()
            self._encoding = None

    def _encode(self, block: bytearray) -> int:
        names = self._writer.schema.names
        try:
            table = self._read(block, names)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(self._culprit(block, names) or str(error)) from None
        self._writer.write_table(table)
        return table.num_rows

    def _read(self, block: bytearray, names: Sequence[str], only: str | None = None) -> pa.Table:
        # In one piece and in this thread: the other cores have other rows, and Postgres.
        read = pyarrow.csv.ReadOptions(column_names=names, block_size=len(block), use_threads=False)
        convert = pyarrow.csv.ConvertOptions(
            column_types=self._writer.schema,
            include_columns=None if only is None else [only],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )
        return pyarrow.csv.read_csv(pa.BufferReader(block), read, _PARSE, convert)

    def _culprit(self, block: bytearray, names: Sequence[str]) -> str | None:
        """Which column could not be read, and why: pyarrow names it by its number only."""
        for name in names:
            try:
                self._read(block, names, only=name)
            except pa.ArrowInvalid as error:
                kind = self._writer.schema.field(name).type
                return f"column {name} as {kind}: {str(error).rpartition(': ')[2]}"
        return None


def _empty_block() -> bytearray:
    """pyarrow takes a byte order mark off what it reads, which else would be the first value's."""
    return bytearray(BOM_UTF8)


@contextmanager
def _encoder(schema: pa.Schema, sink: io.RawIOBase) -> Generator[_Rows]:
    buffered = io.BufferedWriter(sink, BUFFER_BYTES)
    # Dictionaries of numbers cost time and make the file larger.
    repeating = [f.name for f in schema if f.type in (pa.string(), pa.date32())]
    with (
        pyarrow.parquet.ParquetWriter(
            buffered,  # pyright: ignore[reportArgumentType]
            schema,
            compression="zstd",
            use_dictionary=repeating,  # pyright: ignore[reportArgumentType]
        ) as writer,
        ThreadPoolExecutor(1, thread_name_prefix="parquet") as thread,
    ):
        yield _Rows(writer, thread)
    buffered.detach()


def _arrow_type(name: str) -> pa.DataType:
    if name.startswith("decimal128("):
        precision, scale = name[len("decimal128(") : -1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if name == "timestamp[us, tz=UTC]":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(name)
