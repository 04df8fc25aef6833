"""A year of snapshots of 2,000 listings a day in S3, and the number cruncher over them."""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from listings_input import dsn
from listings_snapshot import ours

from embedded import seed_listings
from platform_assets.airbnb.published_snapshots import snapshot_folder
from resources.docker import DockerResource
from resources.s3 import Folder, ObjectStore

OUTPUTS = ("price_changes", "neighbourhood_summary")
YEAR = 365
BUCKET = os.environ["PLATFORM_BUCKET"]
_PLACES = 2050  # a few percent of them stand empty
_FIRST = date(2025, 1, 1)

store = ObjectStore(bucket=BUCKET)


def year() -> list[str]:
    """The dates, in order; snapshots that are missing are made from a table that is seeded."""
    dates = [(_FIRST + timedelta(n)).isoformat() for n in range(YEAR)]
    missing = [day for day in dates if snapshot_folder(store, day).published() is None]
    if missing:
        seed_listings.seed(dsn(), missing, places=_PLACES)
        ours(dsn(), "listings", "parquet", store)(missing, workers=2)
    return dates


def forget(dates: Sequence[str]) -> None:
    """Removes the results of dates."""
    for output in OUTPUTS:
        for day in dates:
            store.delete_prefix(f"airbnb/{output}/date={day}/")


def crunch_in_child(dates: Sequence[str], **more: str) -> None:
    """Runs the number cruncher over dates as the platform does, in a child process.

    `more` is told to it, too: the prefixes, where they are others.
    """
    docker = DockerResource(mode="process", endpoint_url_s3=os.environ["AWS_ENDPOINT_URL_S3"])
    extras = {"bucket": BUCKET, "dates": list(dates), "code_version": "1", **more}
    made: list[object] = []

    @dg.op
    def cruncher(context: dg.OpExecutionContext) -> None:
        run = docker.run(context, "numbercruncher", extras=extras)
        made.extend(message["date"] for message in run.messages if message["status"] == "made")

    @dg.job(config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}})
    def crunching() -> None:
        cruncher()

    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        crunching.execute_in_process()
    if made != list(dates):
        raise RuntimeError(f"{len(made)} of {len(dates)} dates were made.")


def digest(dates: Sequence[str]) -> str:
    """One digest of the results of dates."""
    found = hashlib.sha256()
    for output in OUTPUTS:
        for day in dates:
            published = Folder(store, f"airbnb/{output}/date={day}").published()
            found.update(str(published and published.manifest).encode())
    return found.hexdigest()
