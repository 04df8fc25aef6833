"""Real files through everything: table, snapshot, number cruncher; every value of every row.

That a file's values reach the table is shown in `tests/embedded/test_load_listings.py`. No column
is left out here, host names neither.
"""

import gzip
import io
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from embedded.load_listings import load
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.reports import Materialization
from platform_assets.tables.exporter import Exporter
from resources.docker import DockerResource
from resources.postgres import PostgresResource
from resources.s3 import Manifest, ObjectStore
from tests.containers import number_cruncher_image, run_in_dagster
from tests.platform_assets.airbnb_rig import CHANGES_SQL, SUMMARY_SQL

FILES = {
    "2018-10-05": ("amsterdam_2018-10-05_listings.csv", 19_930),
    "2024-12-07": ("amsterdam_2024-12-07_listings.csv", 10_032),
    "2025-01-04": ("albany_2025-01-04_listings.csv", 429),
}
TYPES = {
    "int64": pa.int64(), "double": pa.float64(), "string": pa.string(), "date32": pa.date32(),
}  # fmt: skip
Row = tuple[Any, ...]


@pytest.fixture
def table(database: str, shared_data: Path) -> str:
    """The DSN of a database whose table has the three files."""
    for day, (name, rows) in FILES.items():
        assert load(database, shared_data / "airbnb" / name, day) == rows
    return database


def ask(dsn: str, query: str, day: str) -> list[Row]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(query, {"day": day})
        return cursor.fetchall()


def manifest_of(store: ObjectStore, day: str) -> Manifest:
    return snapshot_folder(store, day).require("airbnb/snapshot").manifest


def schema_of(manifest: Manifest) -> pa.Schema:
    return pa.schema([(column.name, TYPES[column.type]) for column in manifest.columns])


def rows_of_object(store: ObjectStore, day: str) -> pa.Table:
    """All rows of a snapshot, read by another program than wrote it."""
    manifest = manifest_of(store, day)
    (file,) = manifest.files
    data = store.get_bytes(snapshot_folder(store, day).key(file.name), max_bytes=2**26)
    if file.name.endswith(".parquet"):
        return pq.read_table(io.BytesIO(data))
    return pa_csv.read_csv(
        io.BytesIO(gzip.decompress(data) if file.name.endswith(".gz") else data),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=schema_of(manifest),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def as_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as psycopg2 gave them; none of their types is guessed or widened."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.table(arrays, schema=schema)


def changes_in(store: ObjectStore, day: str) -> list[Row]:
    data = store.get_bytes(
        f"airbnb/price_changes/date={day}/price_changes.parquet", max_bytes=2**26
    )
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    return [
        tuple(value.isoformat() if hasattr(value, "isoformat") else value for value in row.values())
        for row in rows
    ]


def summary_in(store: ObjectStore, day: str) -> list[Row]:
    names = (
        "neighbourhood", "room_type", "listings", "priced", "mean",
        "lower_quartile", "median", "upper_quartile",
    )  # fmt: skip
    key = f"airbnb/neighbourhood_summary/date={day}/neighbourhood_summary.json"
    groups = json.loads(store.get_bytes(key, max_bytes=2**24))
    return [tuple(group[name] for name in names) for group in groups]


def approximately(rows: list[Row]) -> list[Row]:
    return [
        tuple(pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for v in row)
        for row in sorted(rows)
    ]


@pytest.mark.parametrize(
    ("mode", "formats"),
    [
        pytest.param("docker", ("csv", "csv.gz", "parquet"), marks=pytest.mark.docker),
        # To the byte the same as in a container, in every format: tests/numbercruncher/test_modes.
        ("process", ("parquet",)),
    ],
    ids=["docker", "process"],
)
def test_real_files_go_in_and_out_unharmed(
    environment: Mapping[str, str], table: str, bucket: str, mode: Any, formats: Any
) -> None:
    if mode == "docker":
        number_cruncher_image()
    store = ObjectStore(bucket=bucket)
    cruncher = DockerResource(mode=mode, network="host")
    by_day = "select * from listings where download_date = %(day)s order by id"
    in_table = {day: ask(table, by_day, day) for day in FILES}
    changes = {day: sorted(ask(table, CHANGES_SQL, day)) for day in FILES}
    summaries = {day: approximately(ask(table, SUMMARY_SQL, day)) for day in FILES}
    assert len(changes["2025-01-04"]) > 1000
    for form in formats:
        listings = ListingsTable(format=form, leave_out=[])
        exporter = Exporter(PostgresResource(dsn=table), listings, store)
        taken = exporter.export(list(FILES))
        assert all(isinstance(outcome, Materialization) for outcome in taken.values())
        for day, rows in in_table.items():
            assert rows_of_object(store, day).equals(
                as_table(rows, schema_of(manifest_of(store, day)))
            )
        # Another version for each format, so that nothing is taken from the format before.
        extras = {"bucket": bucket, "dates": list(FILES), "code_version": form}
        run = run_in_dagster(cruncher, "numbercruncher", extras=extras)
        assert [item["status"] for item in run.messages if "status" in item] == ["made"] * len(
            FILES
        )
        for day in FILES:
            assert changes_in(store, day) == changes[day]
            assert summary_in(store, day) == summaries[day]
