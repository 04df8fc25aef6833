"""Exports of listings from Postgres to S3, against the ways in which people do it otherwise."""

import csv
import io
import os
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from benchmarks.harness import Benchmark, Stopwatch, run_side, side

# Seconds that each request takes longer. Amazon's S3 User Guide, "Best practices design patterns:
# optimizing Amazon S3 performance": "small object latencies … of roughly 100-200 milliseconds".
_S3_DELAY = "0.1"
_DATES, _ROWS_PER_DATE = 30, 100_000

BENCHMARKS = (
    *(
        Benchmark(
            name=f"export_{form}",
            reference_name=(
                "fetchall, csv.writer into StringIO, put_object; 1,000,000 rows x 17 columns"
            ),
            ours=side("export", "ours", form, "1000000"),
            reference=side("export", "fetchall", "1000000"),
            services=True,
        )
        for form in ("csv", "parquet")
    ),
    *(
        Benchmark(
            name=f"export_{form}_10m",
            reference_name="the same export of 1,000,000 rows: compare the peaks",
            ours=side("export", "ours", form, "10000000"),
            reference=side("export", "ours", form, "1000000"),
            rounds=1,
            tolerance=None,
            services=True,
            by_default=False,
        )
        for form in ("csv", "parquet")
    ),
    Benchmark(
        name="export_csv_psql",
        reference_name=(
            "psql \\copy into a local file, boto3 upload_file; 1,000,000 rows x 17 columns"
        ),
        ours=side("export", "ours", "csv", "1000000"),
        reference=side("export", "psql", "1000000"),
        services=True,
    ),
    Benchmark(
        name="export_range",
        reference_name=(
            "the same export, one date after the other; 30 dates x 100,000 rows, parquet"
        ),
        ours=side("export", "date_range", "2", "0"),
        reference=side("export", "date_range", "1", "0"),
        rounds=5,  # the load of a shared machine changes from one round to the next
        services=True,
    ),
    Benchmark(
        name="export_range_s3",
        reference_name=(
            "export_range, one date after the other; each request to S3 takes 100 ms more"
        ),
        ours=side("export", "date_range", "2", _S3_DELAY),
        reference=side("export", "date_range", "1", _S3_DELAY),
        rounds=2,
        services=True,
    ),
)


def ours(form: str, rows: str) -> None:
    """A day's rows to S3, as the asset `airbnb/snapshot` does it; `form` is csv or parquet."""
    from benchmarks.listings import days, snapshot, table
    from resources.s3 import ObjectStore

    name = table(int(rows))
    store = ObjectStore(bucket=os.environ["PLATFORM_AIRBNB_BUCKET"])
    # A snapshot that is there already would not be exported again.
    store.delete_prefix("airbnb/listings/")
    with Stopwatch() as watch:
        exported = snapshot(name, form, store, days(1), workers=2)
    watch.report(exported)


def fetchall(rows: str) -> None:
    """A day's rows as the original did it: all in memory, as rows, as text and as bytes."""
    import boto3
    import psycopg2
    from psycopg2 import sql

    from benchmarks.listings import days, dsn, table

    name = table(int(rows))
    query = sql.SQL("select * from {} where download_date = %s order by id").format(
        sql.Identifier(name)
    )
    s3 = boto3.client("s3")
    with Stopwatch() as watch:
        with closing(psycopg2.connect(dsn())) as connection, connection.cursor() as cursor:
            cursor.execute(query, days(1))
            records = cursor.fetchall()
            header = [column[0] for column in cursor.description or ()]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(records)
        s3.put_object(
            Bucket=os.environ["PLATFORM_AIRBNB_BUCKET"],
            Key="reference/listings.csv",
            Body=io.BytesIO(text.getvalue().encode()),
        )
    watch.report(len(records))


def psql(rows: str) -> None:
    """A day's rows by psql into a local file, and that file to S3 by boto3's transfers."""
    import boto3

    from benchmarks.listings import days, dsn, table
    from embedded import postgres

    query = f"select * from {table(int(rows))} where download_date = '{days(1)[0]}' order by id"
    copy = f"\\copy ({query}) to listings.csv csv header"
    s3 = boto3.client("s3")
    with tempfile.TemporaryDirectory() as folder:
        program = str(postgres.program("psql"))
        command = [program, "--quiet", "--no-psqlrc", "--command", copy, dsn()]
        with Stopwatch() as watch:
            subprocess.run(command, cwd=folder, check=True)
            file = Path(folder, "listings.csv")
            s3.upload_file(str(file), os.environ["PLATFORM_AIRBNB_BUCKET"], "reference/psql.csv")
        # No value of these tables has a line break in it.
        with file.open("rb") as lines:
            exported = sum(block.count(b"\n") for block in iter(lambda: lines.read(2**20), b"")) - 1
    watch.report(exported)


def date_range(workers: str, delay: str) -> None:
    """Thirty dates of 100,000 rows, `workers` at a time; a request to S3 takes `delay` s more."""
    from benchmarks.listings import days, snapshot, table
    from resources.s3 import ObjectStore

    name = table(_ROWS_PER_DATE, _DATES)
    store = ObjectStore(bucket=os.environ["PLATFORM_AIRBNB_BUCKET"])
    # Snapshots that are there already would not be exported again.
    store.delete_prefix("airbnb/listings/")
    if seconds := float(delay):
        store.client.meta.events.register("before-send.s3", lambda **_: time.sleep(seconds))
    with Stopwatch() as watch:
        exported = snapshot(name, "parquet", store, days(_DATES), workers=int(workers))
    watch.report(exported)


if __name__ == "__main__":
    run_side(ours, fetchall, psql, date_range)
