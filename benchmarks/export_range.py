"""30 days of 100,000 listings to S3 in one run, against one day after the other."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_range",
    reference_name="the same export, one date after the other; 30 dates x 100,000 rows, parquet",
    ours=script("export_range.py", "2", "0"),
    reference=script("export_range.py", "1", "0"),
    rounds=5,  # a shared machine's speed moves each of them
    services=True,
)
