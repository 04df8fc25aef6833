"""Rows of a query as CSV or gzipped CSV into a binary stream, in bounded memory.

Knows nothing of where the stream leads. Rows go from the database straight into it: where either
end fails, the exception comes out here, and whoever owns the stream must discard it. There is no
pipe whose reader could take a broken query for the end of the data. Parquet is made by
`parquet.py`.
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from isal import igzip
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class named in lower case

from formats.columns import Column

ExportFormat = Literal["csv", "csv.gz", "parquet"]

BUFFER_BYTES = 1024 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class Exported:
    """What left the database: the number of rows, and the columns with their Arrow types."""

    rows: int
    columns: tuple[Column, ...]


def write_csv(connection: Connection, copy: str, sink: io.RawIOBase, *, compressed: bool) -> int:
    """Runs a COPY … TO STDOUT into `sink` and returns the number of rows.

    Args:
        connection: in the transaction to read in; unusable after an exception.
        sink: raw binary stream; it is written by another thread, and not closed.
        compressed: gzip it, level 1, with a header that holds no time and no name.
    """
    buffered = io.BufferedWriter(sink, BUFFER_BYTES)

    def run() -> int:
        with connection.cursor() as cursor:
            if compressed:
                with igzip.IGzipFile(
                    filename="", mode="wb", compresslevel=1, fileobj=buffered, mtime=0
                ) as gzip:
                    # Compressing row by row would cost more than compressing.
                    rows = io.BufferedWriter(gzip, BUFFER_BYTES)
                    cursor.copy_expert(copy, rows)
                    rows.flush()
            else:
                cursor.copy_expert(copy, buffered)
            buffered.detach()
            return cursor.rowcount

    return interruptible(run, connection.cancel)


def interruptible(work: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Runs `work` in another thread, so that an interruption of this one ends it at once.

    A driver that waits for the database does not let Python handle signals: a run that is
    terminated during a long sort would go on until its first row.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="export") as thread:
        future = thread.submit(work)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                cancel()
            raise
