"""The number cruncher over a year of 2,000 listings a day: all in one run, and the last day."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Benchmark, Stopwatch, run_side, side

if TYPE_CHECKING:
    from resources.s3 import ObjectStore

BENCHMARKS = (
    Benchmark(
        name="backfill_365",
        reference_name="a run (child process) for each date: ten of them, times 36.5",
        ours=side("crunch", "backfill_in_one_run"),
        reference=side("crunch", "backfill_date_by_date"),
        rounds=2,
        services=True,
    ),
    Benchmark(
        name="crunch_day",
        reference_name=(
            "the same for day 2, where day 1 is all of the past: a run of the child process, best "
            "of 5; in_process_s without its start and Dagster's"
        ),
        ours=side("crunch", "crunch_day", "365"),
        reference=side("crunch", "crunch_day", "2"),
        rounds=2,
        tolerance=None,
        services=True,
    ),
)

_OUTPUTS = ("price_changes", "neighbourhood_summary")
_YEAR = 365
_FIRST = date(2025, 1, 1)
_PLACES = 2050  # a few percent of them are not on offer on a given day
_MEASURED_DATES = 10
_REPETITIONS = 5


def backfill_in_one_run() -> None:
    """365 dates in one run, and the last of them once more by itself, to compare with."""
    dates = _seed_year()
    _delete_outputs(dates)
    with Stopwatch() as watch:
        _crunch_in_child(dates)
    result = _digest(dates[-_MEASURED_DATES:])
    _delete_outputs(dates[-1:])
    with Stopwatch() as one_date:
        _crunch_in_child(dates[-1:])
    watch.report(
        result,
        one_date_s=round(one_date.seconds, 3),
        times_one_date=round(watch.seconds / one_date.seconds, 2),
    )


def backfill_date_by_date() -> None:
    """A run for each date: the last ten are run, and their time is extrapolated to all 365."""
    dates = _seed_year()
    _delete_outputs(dates)
    _crunch_in_child(dates[:-_MEASURED_DATES])
    with Stopwatch() as watch:
        for day in dates[-_MEASURED_DATES:]:
            _crunch_in_child([day])
    watch.seconds *= _YEAR / _MEASURED_DATES
    watch.cpu_seconds *= _YEAR / _MEASURED_DATES
    watch.report(_digest(dates[-_MEASURED_DATES:]))


def crunch_day(number: str) -> None:
    """Day `number` of the year, with the snapshots of all days before it; the best of five."""
    from platform_assets.airbnb.published_snapshots import snapshot_folder

    dates = _seed_year()[: int(number)]
    store = _store()
    # Under a prefix of their own, since the number cruncher also looks for later dates.
    base = f"first-{number}-days"
    prefixes = {
        "listings_prefix": f"{base}/listings",
        **{f"{output}_prefix": f"{base}/{output}" for output in _OUTPUTS},
    }
    for day in dates:
        for entry in store.list(snapshot_folder(store, day).key("")):
            name = entry.key.rpartition("/")[2]
            store.copy_from(store, entry.key, f"{base}/listings/date={day}/{name}")

    def best_of_last_day(crunch: Callable[[Sequence[str]], None]) -> Stopwatch:
        watches = []
        for _ in range(_REPETITIONS):
            for output in _OUTPUTS:
                store.delete_prefix(f"{base}/{output}/date={dates[-1]}/")
            with Stopwatch() as watch:
                crunch(dates[-1:])
            watches.append(watch)
        return min(watches, key=lambda watch: watch.seconds)

    _crunch_in_process(dates[:-1], prefixes)
    in_process = best_of_last_day(lambda days: _crunch_in_process(days, prefixes))
    child = best_of_last_day(lambda days: _crunch_in_child(days, **prefixes))
    child.report(int(number), in_process_s=round(in_process.seconds, 4))


def _store() -> ObjectStore:
    from resources.s3 import ObjectStore

    return ObjectStore(bucket=os.environ["PLATFORM_BUCKET"])


def _seed_year() -> list[str]:
    """The dates, in order; snapshots that are missing are exported from a seeded table."""
    from benchmarks.listings import dsn, snapshot
    from embedded import seed_listings
    from platform_assets.airbnb.published_snapshots import snapshot_folder

    store = _store()
    dates = [(_FIRST + timedelta(n)).isoformat() for n in range(_YEAR)]
    missing = [day for day in dates if snapshot_folder(store, day).published() is None]
    if missing:
        seed_listings.seed(dsn(), missing, places=_PLACES)
        snapshot("listings", "parquet", store, missing, workers=2)
    return dates


def _delete_outputs(dates: Sequence[str]) -> None:
    store = _store()
    for output in _OUTPUTS:
        for day in dates:
            store.delete_prefix(f"airbnb/{output}/date={day}/")


def _crunch_in_process(dates: Sequence[str], prefixes: dict[str, str]) -> None:
    """Runs the number cruncher over dates in this process."""
    from numbercruncher.crunch import crunch
    from numbercruncher.request import parse_request
    from numbercruncher.store import Store

    bucket = os.environ["PLATFORM_BUCKET"]
    extras = {"bucket": bucket, "dates": list(dates), "code_version": "1", **prefixes}
    messages = []
    crunch(Store(bucket), parse_request(extras), messages.append, print)
    if any(message["status"] == "failed" for message in messages):
        raise RuntimeError(str(messages))


def _crunch_in_child(dates: Sequence[str], **prefixes: str) -> None:
    """Runs the number cruncher over dates as the platform does, in a child process."""
    import dagster as dg

    from resources.docker import DockerResource

    docker = DockerResource(mode="process")
    extras = {
        "bucket": os.environ["PLATFORM_BUCKET"],
        "dates": list(dates),
        "code_version": "1",
        **prefixes,
    }
    crunched: list[object] = []

    # Without annotations: Dagster resolves them, and these are strings.
    @dg.op
    def cruncher(context):
        run = docker.run(context, "numbercruncher", extras=extras)
        crunched.extend(message["date"] for message in run.messages if message["status"] == "made")

    @dg.job(config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}})
    def crunching():
        cruncher()

    with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):
        crunching.execute_in_process()
    if crunched != list(dates):
        raise RuntimeError(f"{len(crunched)} of {len(dates)} dates were crunched.")


def _digest(dates: Sequence[str]) -> str:
    """One digest of the manifests of the outputs of dates."""
    from resources.s3 import Folder

    digest = hashlib.sha256()
    store = _store()
    for output in _OUTPUTS:
        for day in dates:
            published = Folder(store, f"airbnb/{output}/date={day}").published()
            digest.update(str(published and published.manifest).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    run_side(backfill_in_one_run, backfill_date_by_date, crunch_day)
