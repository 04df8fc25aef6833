"""Memory of an export of 10,000,000 listings, against that of 1,000,000. Minutes: only by name."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_parquet_10m",
    reference_name="the same export of 1,000,000 rows: compare the peaks",
    ours=script("export_ours.py", "parquet", "10000000"),
    reference=script("export_ours.py", "parquet", "1000000"),
    rounds=1,
    tolerance=None,
    services=True,
    by_default=False,
)
