"""30 days of 100,000 listings to S3 in one run, against one day after the other."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_range",
    reference_name="the same export, one date after the other; 30 dates x 100,000 rows, parquet",
    ours=script("export_range.py", "2"),
    reference=script("export_range.py", "1"),
    services=True,
)
