"""What Spark's tasks do: read a snapshot, fold the prices of some listings, make a day's tables.

Each is a function from Arrow batches to Arrow batches. What a task makes it writes under keys that
nobody reads; which of it is published is decided in `engine.py`. Nothing here knows of Spark.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from formats.manifest import decode
from numbercruncher.errors import SnapshotChangedError, StoreUnavailableError
from numbercruncher.outputs import (
    JSON_TYPE,
    NEIGHBOURHOOD_SUMMARY,
    PARQUET_TYPE,
    PRICE_CHANGES,
    Output,
    make_neighbourhood_summary,
    make_price_tables,
)
from numbercruncher.price_changes import empty_state, fold
from numbercruncher.price_history import load_state
from numbercruncher.reports import failed
from numbercruncher.snapshot_index import SnapshotIndex
from numbercruncher.snapshot_rows import Snapshot
from numbercruncher.spark.rows import (
    READ,
    TABLES,
    VALUES,
    by_step,
    ids_of,
    make_batches,
    state_batches,
    state_of,
)
from numbercruncher.store import Store


@dataclass(frozen=True)
class Places:
    """Where tasks read and write, and how they get there.

    Attributes:
        bucket, kms_key_id, listings_prefix, prices_prefix, code_version: as in the request.
        scratch: folder of what is not published yet.
        variables: the environment of AWS clients, which may hold credentials. They travel in the
            tasks' code: on no command line, in no configuration and in no log.
    """

    bucket: str
    kms_key_id: str
    listings_prefix: str
    prices_prefix: str
    code_version: str
    scratch: str
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def open(self) -> Store:
        """The store; one in a process, until the variables change."""
        return _open(self.bucket, self.kms_key_id, tuple(sorted(self.variables.items())))

    def key(self, output: str, day: str, name: str) -> str:
        """Where a file waits to be published."""
        return f"{self.scratch}/{output}/date={day}/{name}"


@dataclass(frozen=True)
class Step:
    """One date on the way of prices.

    Attributes:
        date: the day.
        manifest: of its snapshot; of the stored state where `is_state`; None where there is none.
        is_state: whether prices begin with the state that is stored for the day.
        with_prices: whether they are wanted.
        with_summary: whether the day's summary is.
    """

    date: str
    manifest: bytes | None
    is_state: bool = False
    with_prices: bool = True
    with_summary: bool = False


@lru_cache(maxsize=1)
def _open(bucket: str, kms_key_id: str, variables: tuple[tuple[str, str], ...]) -> Store:
    os.environ.update(variables)
    return Store(bucket, kms_key_id)


def read_steps(places: Places, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Reads steps.

    Args:
        places: where tasks read and write.
        batches: their numbers, as `step`, and what `Step` has.

    Yields:
        Of each step one fact, JSON, and the prices that are in it. Of one that could not be read
        the fact says why.
    """
    store = places.open()
    for batch in batches:
        for row in batch.to_pylist():
            number, step = row.pop("step"), Step(**row)
            try:
                prices, fact = (_read_state if step.is_state else _read_day)(store, places, step)
            except MemoryError:
                raise
            except Exception as error:
                prices, fact = None, {"date": step.date, "error": _describe(error)}
            if prices is not None and step.with_prices:
                yield from _priced(number, prices)
            yield _fact(number, fact)


def _read_day(store: Store, places: Places, step: Step) -> tuple[pd.DataFrame, dict[str, Any]]:
    snapshot = SnapshotIndex(store, places.listings_prefix).read(step.date, step.manifest)
    prices = fold(_empty(snapshot), date.fromisoformat(step.date), snapshot.rows)
    source = {name: value for name, value in vars(snapshot).items() if name != "rows"}
    fact = {
        "date": step.date,
        "source": source,
        "numbers": snapshot.rows["id"].dtype == "int64",
        "priced": len(prices),
    }
    if step.with_summary:
        try:
            output = make_neighbourhood_summary(snapshot, places.code_version)
        except MemoryError:
            raise
        except Exception as error:
            fact["summary_error"] = failed(error)
        else:
            _put(store, places, NEIGHBOURHOOD_SUMMARY, output)
            fact["summary"] = output.manifest.encode().decode()
    return prices, fact


def _read_state(store: Store, places: Places, step: Step) -> tuple[pd.DataFrame, dict[str, Any]]:
    state = load_state(store, places.prices_prefix, decode(step.manifest or b""))
    if state is None:
        raise SnapshotChangedError(
            f"The stored state of {step.date} was replaced while it was being read; run this again."
        )
    return state, {"date": step.date, "priced": len(state)}


def _empty(snapshot: Snapshot) -> pd.DataFrame:
    """The state before a first snapshot; `fold` takes the kind of ids from the snapshot."""
    return empty_state() if snapshot.rows["id"].dtype == "int64" else empty_texts()


def empty_texts() -> pd.DataFrame:
    """As `empty_state`, for ids that are texts."""
    return empty_state().set_index(pd.Index([], name="id", dtype="object"))


def _describe(error: Exception) -> dict[str, str]:
    return {"kind": type(error).__name__, "message": str(error)}


def _priced(number: int, prices: pd.DataFrame) -> Iterator[pa.RecordBatch]:
    ids = prices.index.to_numpy()
    column = "id_number" if ids.dtype == "int64" else "id_text"
    columns = {name: pa.array(prices[name].to_numpy(), type_) for name, type_ in VALUES}
    columns[column] = pa.array(ids, READ.field(column).type)
    columns["step"] = pa.array(np.full(len(prices), number), pa.int32())
    yield from make_batches(READ, columns, len(prices))


def _fact(number: int, fact: Mapping[str, Any]) -> pa.RecordBatch:
    columns = {"step": [number], "fact": [json.dumps(fact)], "failed": ["error" in fact]}
    return next(make_batches(READ, columns, 1))


def _put(store: Store, places: Places, output_name: str, output: Output) -> None:
    for name, data in output.files.items():
        key = places.key(output_name, output.manifest.partition, name)
        store.put(key, data, JSON_TYPE if name.endswith(".json") else PARQUET_TYPE)


def fold_listings(
    steps: Mapping[int, tuple[str, bool]], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Folds the prices of some listings, from date to date.

    Args:
        steps: number → date, and whether the state as of it is wanted; in ascending order.
        batches: rows of `READ` with one column `id`, in the order of steps.

    Yields:
        The wanted states: step, id, and first and last day and price.

    Raises:
        StoreUnavailableError: a snapshot that could be read was read once more, in place of rows
            that a lost worker had, and cannot be read now.
    """
    state: pd.DataFrame | None = None
    arriving = by_step(batches)
    step, rows = next(arriving, (None, None))
    for number, (day, wanted) in steps.items():
        if step == number and rows is not None:
            state = _fold_step(state, day, rows)
            step, rows = next(arriving, (None, None))
        if wanted and state is not None:
            yield from state_batches(number, state)


def _fold_step(state: pd.DataFrame | None, day: str, rows: pa.Table) -> pd.DataFrame:
    if pc.any(rows["failed"]).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        raise StoreUnavailableError(
            f"The snapshot of {day} was lost with a worker and could not be read again; run this"
            " again."
        )
    if state is None:
        # The stored state, or a snapshot, which is the state after itself.
        return state_of(rows).sort_index()
    prices = pd.DataFrame({"id": ids_of(rows), "price": rows["last_price"].to_numpy()})
    return fold(state, date.fromisoformat(day), prices)


def make_days(
    places: Places, dates: Mapping[int, str], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Makes the tables of price changes of one date after the other.

    Args:
        places: where they are written.
        dates: number of step → date.
        batches: rows of `state_schema` in the order of step and id.

    Yields:
        Of each step its manifest, which lacks the sources.
    """
    store = places.open()
    for number, rows in by_step(batches):
        output = make_price_tables(dates[number], state_of(rows), places.code_version)
        _put(store, places, PRICE_CHANGES, output)
        columns = {"step": [number], "manifest": [output.manifest.encode().decode()]}
        yield next(make_batches(TABLES, columns, 1))
