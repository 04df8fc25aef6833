"""Listings of a size by pandas in one process and by Spark: the figures of docs/sizing.md.

Needs Java 17 and pyspark, as `.ci/run` installs it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.harness import Benchmark, Stopwatch, run_side, side

if TYPE_CHECKING:
    from resources.s3 import ObjectStore

_DATES = 60
_FIRST = date(2025, 1, 1)
_OUTPUTS = ("price_changes", "neighbourhood_summary")


def _engines(rows: int) -> Benchmark:
    arguments = (str(_DATES), str(rows))
    return Benchmark(
        name=f"sizing_{rows}",
        reference_name=f"pandas in a child process, {_DATES} dates of {rows} listings",
        ours=side("sizing", "by_spark", *arguments),
        reference=side("sizing", "by_pandas", *arguments),
        rounds=1,
        services=True,
        by_default=False,
    )


_RUNS = Benchmark(
    name="sizing_runs",
    reference_name="one run of 12 dates of 10,000 listings",
    ours=side("sizing", "by_runs", "1"),
    reference=side("sizing", "by_runs", "12"),
    rounds=1,
    tolerance=None,
    services=True,
    by_default=False,
)

BENCHMARKS = (*(_engines(rows) for rows in (10_000, 100_000, 1_000_000)), _RUNS)


def by_pandas(dates: str, rows: str) -> None:
    """All dates by the child process."""
    from resources.docker import DockerResource

    days = _seed(int(dates), int(rows))
    docker = DockerResource(mode="process", memory_mb=16_384)

    def run(context: Any) -> Any:
        return docker.run(context, "numbercruncher", extras=_extras(days))

    with Stopwatch() as watch, _Usage() as usage:
        _in_dagster(run)
    watch.report(_digest(days), **usage.figures())


def by_spark(dates: str, rows: str) -> None:
    """All dates by a master and two workers of one core; its start counts, the cluster's not."""
    from resources.spark import SparkResource
    from tests.spark_cluster import SPARK, spark_cluster

    days = _seed(int(dates), int(rows))
    with tempfile.TemporaryDirectory() as folder, spark_cluster(Path(folder)) as cluster:
        os.environ.update(cluster.environment)
        sys.path.append(str(SPARK))
        spark = SparkResource(master=cluster.master, settings={"spark.executor.memory": "1g"})

        def run(context: Any) -> Any:
            return spark.run(
                context,
                "numbercruncher.spark",
                packages=("numbercruncher", "formats"),
                store=_store(),
                scratch="airbnb/spark",
                extras=_extras(days),
            )

        with Stopwatch() as watch, _Usage() as usage:
            _in_dagster(run)
    watch.report(_digest(days), **usage.figures())


def by_runs(dates: str) -> None:
    """12 dates as runs of so many dates each, one after the other, each a process of its own."""
    days, step = _seed(12, 10_000), int(dates)
    settings = {
        "PLATFORM_AIRBNB_BUCKET": os.environ["PLATFORM_BUCKET"],
        "PLATFORM_CRUNCHER": "process",
    }
    command = [sys.executable, "-m", "dagster", "asset", "materialize"]
    command += ["-m", "platform_assets.definitions", "--select"]
    command += [",".join(f"key:airbnb/{output}" for output in _OUTPUTS), "--partition-range"]
    with tempfile.TemporaryDirectory() as home, Stopwatch() as watch, _Usage() as usage:
        environment = {**os.environ, **settings, "DAGSTER_HOME": home}
        for first in range(0, len(days), step):
            days_of_run = f"{days[first]}...{days[first + step - 1]}"
            subprocess.run([*command, days_of_run], env=environment, check=True)
    watch.report(len(days), **usage.figures())


class _Usage:
    """What the processes below this one use: the most of memory, by their parts, and processor."""

    def __enter__(self) -> Self:
        self._peaks: Counter[str] = Counter()
        self._before = self._look()
        self._used = dict(self._before)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def figures(self) -> dict[str, float]:
        """`peak_mb` of all together and of each part, and `processor_s`."""
        seconds = sum(used - self._before.get(pid, 0) for pid, used in self._used.items())
        return {**self._peaks, "processor_s": round(seconds, 1)}

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._used |= self._look()

    def _look(self) -> dict[int, float]:
        import psutil

        used: dict[int, float] = {}
        memory: Counter[str] = Counter()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
                memory[_part(process.cmdline())] += process.memory_info().rss // 2**20
        memory["peak_mb"] = memory.total()
        for part, size in memory.items():
            self._peaks[part] = max(self._peaks[part], size)
        return used


def _part(command: list[str]) -> str:
    line = " ".join(command)
    if "CoarseGrainedExecutorBackend" in line:
        return "executors_java_mb"
    if "pyspark.daemon" in line:
        return "executors_python_mb"
    return (
        "daemons_mb"
        if "spark.deploy.worker" in line or "spark.deploy.master" in line
        else "driver_mb"
    )


def _in_dagster(run: Any) -> Any:
    import dagster as dg

    metadata: list[Any] = []

    # Without annotations: Dagster resolves them, and these are strings.
    @dg.op
    def cruncher(context):
        done = run(context)
        if any(message.get("status") == "failed" for message in done.messages):
            raise RuntimeError(str(done.messages))
        metadata.append(done.metadata)

    @dg.job(config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}})
    def crunching():
        cruncher()

    crunching.execute_in_process()
    return metadata[0]


def _store() -> ObjectStore:
    from resources.s3 import ObjectStore

    return ObjectStore(bucket=os.environ["PLATFORM_BUCKET"])


def _extras(days: list[str]) -> dict[str, Any]:
    return {"bucket": os.environ["PLATFORM_BUCKET"], "dates": days, "code_version": "1"}


def _seed(dates: int, rows: int) -> list[str]:
    """Snapshots of a market of that size, and no outputs; returns the dates."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    store, random = _store(), np.random.default_rng(7)
    store.delete_prefix("airbnb/")
    homes = int(rows * 1.1)
    ids = 10**15 + np.cumsum(random.integers(1, 1000, homes))
    places, kinds = random.integers(0, 60, homes), random.integers(0, 4, homes)
    prices = random.integers(20, 900, homes).astype("float64")
    days = [(_FIRST + timedelta(n)).isoformat() for n in range(dates)]
    for day in days:
        there = np.sort(random.choice(homes, rows, replace=False))
        prices += random.choice([0, 0, 0, 5, -5], homes)
        table = pa.table(
            {
                "id": ids[there],
                "neighbourhood": [f"Neighbourhood {n}" for n in places[there]],
                "room_type": [f"Type {n}" for n in kinds[there]],
                "price": pa.array(prices[there], mask=random.random(rows) < 0.2),
            }
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue()
        digest = hashlib.sha256(data).hexdigest()
        columns = [{"name": f.name, "type": str(f.type)} for f in table.schema]
        manifest = {
            "version": 1,
            "partition": day,
            "rows": rows,
            "columns": columns,
            "files": [{"name": "listings.parquet", "bytes": len(data), "sha256": digest}],
            "code_version": "1",
        }
        folder = f"airbnb/listings/date={day}"
        store.put_bytes(f"{folder}/listings.parquet", data)
        store.put_bytes(f"{folder}/manifest.json", json.dumps(manifest).encode())
    return days


def _digest(days: list[str]) -> str:
    """One digest of the manifests of all outputs."""
    from resources.s3 import Folder

    digest, store = hashlib.sha256(), _store()
    for output in _OUTPUTS:
        for day in days:
            published = Folder(store, f"airbnb/{output}/date={day}").published()
            digest.update(str(published and published.manifest).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    run_side(by_pandas, by_runs, by_spark)
