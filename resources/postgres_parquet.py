"""Rows of a query as a typed Parquet file into a binary stream, in bounded memory.

The rows come as Arrow record batches by ADBC, over a connection of its own that reads the same
snapshot as the session it belongs to.
"""
# pyarrow and the ADBC driver ship no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

# Not their dbapi modules: those import pandas, which takes 50 MB and half a second.
import adbc_driver_postgresql
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import AdbcConnection, AdbcStatement
from adbc_driver_postgresql import StatementOptions

from resources.columns import Column
from resources.postgres_errors import BrokenStreamError
from resources.postgres_export import BUFFER_BYTES, interruptible

# Also the size of a row group: about 20,000 listings. Twice of it would be 2 % smaller files for
# 20 MB more memory.
_BATCH_BYTES = str(4 * 1024 * 1024)


def write_parquet(
    dsn: str,
    snapshot: str,
    select: str,
    columns: Sequence[Column],
    sink: io.RawIOBase,
    *,
    started: Callable[[Callable[[], None] | None], None],
) -> int:
    """Runs a SELECT into a Parquet file (zstd) in `sink` and returns the number of rows.

    Args:
        dsn: of the database, with the settings of the connection.
        snapshot: the exported snapshot (`pg_export_snapshot()`) to read from.
        select: the statement.
        columns: names and Arrow types that the file is to have.
        sink: raw binary stream; it is written by another thread, and not closed.
        started: told what cancels the export while it runs, and None when it has ended.
    """
    schema = pa.schema([pa.field(column.name, _arrow_type(column.type)) for column in columns])
    with (
        adbc_driver_postgresql.connect(dsn) as database,
        AdbcConnection(database) as connection,
        AdbcStatement(connection) as statement,
    ):

        def run() -> int:
            connection.set_autocommit(False)
            statement.set_sql_query(f"set transaction snapshot '{snapshot}'")
            statement.execute_update()
            statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: _BATCH_BYTES})
            statement.set_sql_query(select)
            stream, _ = statement.execute_query()
            with pa.RecordBatchReader.from_stream(stream) as batches:
                return _write_batches(batches, schema, sink)

        started(statement.cancel)
        try:
            return interruptible(run, statement.cancel)
        finally:
            started(None)


def _write_batches(batches: pa.RecordBatchReader, schema: pa.Schema, sink: io.RawIOBase) -> int:
    buffered = io.BufferedWriter(sink, BUFFER_BYTES)
    rows = 0
    # Dictionaries of numbers cost time and make the file larger.
    repeating = [f.name for f in schema if f.type in (pa.string(), pa.date32())]
    with (
        pq.ParquetWriter(buffered, schema, compression="zstd", use_dictionary=repeating) as writer,  # pyright: ignore[reportArgumentType]
        # A batch is encoded while the next one is read.
        ThreadPoolExecutor(1, thread_name_prefix="parquet") as encoder,
    ):
        encoding: Future[None] | None = None
        for batch in _read(batches):
            if encoding is not None:
                encoding.result()
            encoding = encoder.submit(writer.write_batch, batch.cast(schema))
            rows += batch.num_rows
        if encoding is not None:
            encoding.result()
    buffered.detach()
    return rows


def _read(batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches; what the driver raises meanwhile, as pyarrow hands it on, is the database's."""
    while True:
        try:
            batch = batches.read_next_batch()
        except StopIteration:
            return
        except (OSError, pa.ArrowException) as error:
            raise BrokenStreamError(str(error)) from error
        yield batch


def _arrow_type(name: str) -> pa.DataType:
    if name.startswith("decimal128("):
        precision, scale = name[len("decimal128(") : -1].split(",")
        return pa.decimal128(int(precision), int(scale))
    if name == "timestamp[us, tz=UTC]":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(name)
