"""The tables that go from task to task: their columns, and a step's rows out of many batches.

A step is one date on the way of prices. What is done with its rows is in `tasks.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

BATCH_ROWS = 65_536
VALUES = [("first_day", pa.int32()), ("first_price", pa.float64())]
VALUES += [("last_day", pa.int32()), ("last_price", pa.float64())]

# Prices of one step (a snapshot, or the stored state before all of them), or one fact about it.
READ = pa.schema(
    [
        ("step", pa.int32()),
        ("id_number", pa.int64()),
        ("id_text", pa.string()),
        *VALUES,
        ("fact", pa.string()),
        ("failed", pa.bool_()),
    ]
)
STEP_TYPES = (
    "step int, date string, manifest binary, is_state boolean, with_prices boolean,"
    " with_summary boolean"
)
VALUE_TYPES = "first_day int, first_price double, last_day int, last_price double"
READ_TYPES = f"step int, id_number long, id_text string, {VALUE_TYPES}, fact string, failed boolean"
TABLES = pa.schema([("step", pa.int32()), ("manifest", pa.string())])
TABLES_TYPES = "step int, manifest string"


def make_batches(
    schema: pa.Schema, columns: Mapping[str, Any], rows: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a schema, those that are missing null."""
    arrays = [columns.get(f.name, pa.nulls(rows, f.type)) for f in schema]
    table = pa.table(dict(zip(schema.names, arrays, strict=True)), schema=schema)
    yield from table.to_batches(max_chunksize=BATCH_ROWS)


def state_of(rows: pa.Table) -> pd.DataFrame:
    """A state as `price_changes` has it; its ids are in the order of the rows."""
    return pd.DataFrame({name: rows[name].to_numpy() for name, _ in VALUES}, index=ids_of(rows))


def ids_of(rows: pa.Table) -> pd.Index:
    """The column `id`: numbers, or texts."""
    numbers = rows.schema.field("id").type == pa.int64()
    return pd.Index(rows["id"].to_numpy(), name="id", dtype="int64" if numbers else "object")


def by_step(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of one step after the other, each in one table."""
    number: int | None = None
    pieces: list[pa.RecordBatch] = []
    for batch in batches:
        steps = batch.column("step").to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(steps)) + 1), len(steps)]
        for start, end in pairwise(starts):
            if start == end:
                continue
            if number is not None and steps[start] != number:
                yield number, pa.Table.from_batches(pieces)
                pieces = []
            number = int(steps[start])
            pieces.append(batch.slice(start, end - start))
    if number is not None:
        yield number, pa.Table.from_batches(pieces)


def state_batches(number: int, state: pd.DataFrame) -> Iterator[pa.RecordBatch]:
    """A state as of a step, in the columns of `state_schema`."""
    ids = state.index.to_numpy()
    schema = state_schema(numbers=ids.dtype == "int64")
    columns = {name: state[name].to_numpy() for name, _ in VALUES}
    columns |= {"id": ids, "step": np.full(len(state), number, dtype=np.int32)}
    yield from make_batches(schema, columns, len(state))


def state_schema(*, numbers: bool) -> pa.Schema:
    """Columns of the states of many listings, as of many dates."""
    return pa.schema(
        [("step", pa.int32()), ("id", pa.int64() if numbers else pa.string()), *VALUES]
    )
