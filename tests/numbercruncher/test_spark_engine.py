"""What the driver decides and what tasks do, without a cluster: shuffles are done by pyarrow.

That Spark does them alike is in `test_spark.py`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from numbercruncher.crunch import crunch
from numbercruncher.errors import StoreUnavailableError
from numbercruncher.request import parse_request
from numbercruncher.spark.engine import SparkEngine
from numbercruncher.spark.rows import READ, state_schema
from numbercruncher.spark.tasks import Places, Step, fold_listings, make_days, read_steps
from numbercruncher.store import Entry, Store
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import (
    SCHEMA,
    Objects,
    days,
    market,
    outputs,
    put_snapshot,
    remove,
    row,
)
from tests.numbercruncher.test_bad_snapshots import poison_bytes, poison_missing_file

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# pyarrow makes its functions when it is imported.
compute: Any = pc
SCRATCH = "airbnb/spark/run/1"
TEXT_IDS = {
    "columns": [
        {"name": f.name, "type": "string" if f.name == "id" else str(f.type)} for f in SCHEMA
    ]
}


class InProcess:
    """As `cluster.Reading`, with three shares of the listings."""

    def __init__(self, places: Places, steps: list[Step]) -> None:
        self._places = places
        self.steps = steps
        given = [{"step": number, **asdict(step)} for number, step in enumerate(steps)]
        batches = [pa.RecordBatch.from_pylist([row]) for row in given]
        rows = pa.Table.from_batches(read_steps(places, batches), READ)
        is_fact = rows["fact"].is_valid()
        self._rows = rows
        facts = rows.filter(is_fact).sort_by("step")["fact"].to_pylist()
        self.facts: list[Mapping[str, Any]] = [json.loads(fact) for fact in facts]

    def make_days(
        self, steps: Mapping[int, tuple[str, bool]], *, numbers: bool, listings: int
    ) -> dict[int, str]:
        rows = self._rows
        used = compute.is_in(rows["step"], pa.array(list(steps), pa.int32()))
        may_be = compute.or_(rows["fact"].is_null(), pc.fill_null(rows["failed"], False))
        used = compute.and_(used, may_be)
        rows = rows.filter(used).drop_columns(["fact"])
        rows = rows.rename_columns({"id_number" if numbers else "id_text": "id"})
        shares = [hash(id_) % 3 for id_ in rows["id"].to_pylist()]
        states = [
            batch
            for share in range(3)
            for batch in fold_listings(
                steps,
                rows.filter(pa.array([s == share for s in shares], pa.bool_()))
                .sort_by("step")
                .to_batches(max_chunksize=7),
            )
        ]
        state = pa.Table.from_batches(states, state_schema(numbers=numbers))
        state = state.sort_by([("step", "ascending"), ("id", "ascending")])
        wanted = {number: day for number, (day, is_wanted) in steps.items() if is_wanted}
        kept = state.filter(compute.is_in(state["step"], pa.array(list(wanted), pa.int32())))
        assert kept.num_rows == state.num_rows, "states that nobody wants are not computed"
        tables = pa.Table.from_batches(
            make_days(self._places, wanted, state.to_batches(max_chunksize=11))
        )
        return dict(zip(tables["step"].to_pylist(), tables["manifest"].to_pylist(), strict=True))

    def forget(self) -> None:
        pass


@pytest.fixture
def run_by_tasks(environment: Mapping[str, str], bucket: str, objects: Objects) -> Iterator[Crunch]:
    """Crunches dates of the bucket by Spark's engine; returns the messages by date."""
    readings: list[InProcess] = []
    warnings: list[str] = []

    def read(places: Places, steps: list[Step]) -> InProcess:
        readings.append(InProcess(places, steps))
        return readings[-1]

    reader: Any = read
    engine = partial(SparkEngine, scratch=SCRATCH, read=reader)

    def crunch_dates(*dates: str, **extras: Any) -> dict[str, dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        request = {"bucket": bucket, "dates": dates, "code_version": "1", **extras}
        crunch(Store(bucket), parse_request(request), messages.append, warnings.append, engine)
        return {message["date"]: message for message in messages}

    crunch_dates.readings = readings  # pyright: ignore[reportFunctionMemberAccess]
    yield crunch_dates
    for key in objects(f"{SCRATCH}/"):
        assert key.startswith((f"{SCRATCH}/price_changes/", f"{SCRATCH}/neighbourhood_summary/"))


def both(
    run: Crunch, run_by_tasks: Crunch, objects: Objects, clear: Callable[[], None], *dates: str
) -> dict[str, dict[str, Any]]:
    """Crunches by both engines, and compares all that can be seen; returns the messages."""
    expected = run(*dates)
    published = outputs(objects)
    clear()
    assert run_by_tasks(*dates) == expected
    created = outputs(objects)
    assert created.keys() == published.keys()
    assert [key for key in created if created[key] != published[key]] == []
    return expected


@pytest.fixture
def clear(client: "S3Client", bucket: str, objects: Objects) -> Callable[[], None]:
    """Removes the outputs."""
    return lambda: remove(client, bucket, outputs(objects))


def test_dates_with_bad_empty_and_missing_snapshots_give_the_same(
    run: Crunch,
    run_by_tasks: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
    clear: Callable[[], None],
) -> None:
    dates = days("2026-01-01", 12)
    market_ = market(dates, 60)
    market_[dates[0]] = []  # no listing has a price yet
    market_[dates[1]] = [row(5, None), row(6, None)]
    market_[dates[6]] = []
    for day, rows in market_.items():
        put_snapshot(client, bucket, day, rows)
    poison_bytes(client, bucket, dates[3])
    poison_missing_file(client, bucket, dates[11])
    remove(client, bucket, objects(f"airbnb/listings/date={dates[8]}/"))
    put_snapshot(client, bucket, dates[5], [row(1, 5)], manifest=TEXT_IDS)  # ids of another kind
    messages = both(run, run_by_tasks, objects, clear, *dates[1:])
    failed = [day for day, message in messages.items() if message["status"] == "failed"]
    assert failed == [dates[3], dates[5], dates[8], dates[11]]


def test_ids_that_are_texts_give_the_same(
    run: Crunch,
    run_by_tasks: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
    clear: Callable[[], None],
) -> None:
    dates = days("2026-01-01", 4)
    ids = ["é", "z", "Z", "10", "9", "\U0001f600", "\uffee"]  # in the order of UTF-8, not of UTF-16
    for number, day in enumerate(dates):
        rows = [{**row(0, 10 * n + number * (n % 3)), "id": id_} for n, id_ in enumerate(ids)]
        if number == 0:
            rows = [{**item, "price": None} for item in rows]
        put_snapshot(client, bucket, day, rows, manifest=TEXT_IDS)
    both(run, run_by_tasks, objects, clear, *dates)


def test_it_goes_on_from_a_stored_state_and_makes_only_what_is_missing(
    run: Crunch,
    run_by_tasks: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
) -> None:
    dates = days("2026-01-01", 8)
    for day, rows in market(dates, 40).items():
        put_snapshot(client, bucket, day, rows)
    run(*dates)
    right = outputs(objects)
    gone = {key: b"" for key in right if any(f"={day}/" in key for day in (dates[4], dates[6]))}
    remove(client, bucket, gone)
    damaged = f"airbnb/price_changes/date={dates[3]}/state.parquet"
    client.put_object(Bucket=bucket, Key=damaged, Body=b"x" * len(right[damaged]))
    messages = run_by_tasks(*dates[4:])
    statuses = [message["status"] for message in messages.values()]
    assert statuses == ["made", "unchanged", "made", "unchanged"]
    assert {**outputs(objects), damaged: right[damaged]} == right
    (reading,) = run_by_tasks.readings  # pyright: ignore[reportFunctionMemberAccess]
    assert [step.date for step in reading.steps] == dates[2:7]  # the damaged state is passed over
    assert [step.is_state for step in reading.steps] == [True, False, False, False, False]
    run_by_tasks(*dates[4:])
    assert len(run_by_tasks.readings) == 1, "Spark is not started for nothing"  # pyright: ignore[reportFunctionMemberAccess]


def test_where_the_past_cannot_be_listed_summaries_are_made_and_price_changes_fail(
    run_by_tasks: Crunch, client: "S3Client", bucket: str, fail_store: Callable[[str, str], None]
) -> None:
    for day, rows in market(days("2026-01-01", 2), 40).items():
        put_snapshot(client, bucket, day, rows)
    fail_store("entries", "airbnb/listings")
    message = run_by_tasks(*days("2026-01-01", 2))["2026-01-02"]
    assert message["outputs"]["neighbourhood_summary"]["status"] == "made"
    assert message["outputs"]["price_changes"]["error"] == "The store is away."
    assert message["transient"]


# Looked for by the driver, and then read by a task; and what is folded since.
@pytest.mark.parametrize(
    ("method", "ending"),
    [("open", "/state.parquet"), ("get", "/state.parquet"), ("get", "01-02/manifest.json")],
)
def test_where_the_past_cannot_be_read_for_the_moment_price_changes_may_be_tried_again(
    run: Crunch,
    run_by_tasks: Crunch,
    client: "S3Client",
    bucket: str,
    fail_store: Callable[[str, str], None],
    method: str,
    ending: str,
) -> None:
    dates = days("2026-01-01", 3)
    for day, rows in market(dates, 40).items():
        put_snapshot(client, bucket, day, rows)
    run(dates[0])
    fail_store(method, ending)
    message = run_by_tasks(dates[2])[dates[2]]
    assert message["outputs"]["neighbourhood_summary"]["status"] == "made"
    assert message["outputs"]["price_changes"]["error"] == "The store is away."
    assert message["transient"]


def test_a_snapshot_that_comes_while_others_are_listed_counts_as_changed(
    run_by_tasks: Crunch, client: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = days("2026-01-01", 2)
    for day in (first, second):
        put_snapshot(client, bucket, day, [row(1, 5)])
    entries = Store.entries

    def without_the_second(self: Store, folder: str, *, after: str = "") -> Iterator[Entry]:
        return (entry for entry in entries(self, folder, after=after) if second not in entry.key)

    monkeypatch.setattr(Store, "entries", without_the_second)
    messages = run_by_tasks(first, second)
    assert messages[first]["status"] == "made"
    assert "was replaced while it was being read" in messages[second]["error"]
    assert messages[second]["transient"]


def test_a_snapshot_that_is_read_again_for_a_lost_worker_and_is_bad_then_ends_the_job() -> None:
    failed = {"step": [1], "id": [None], "failed": [True]}
    values = {name: [None] for name in ("first_day", "first_price", "last_day", "last_price")}
    batch = pa.record_batch(failed | values)
    with pytest.raises(StoreUnavailableError, match="2026-01-01 was lost with a worker"):
        list(fold_listings({1: ("2026-01-01", True)}, [batch]))
