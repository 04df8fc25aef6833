"""30 days of 100,000 listings in one run to a store that is as far away as Amazon's S3."""

from benchmarks.harness import Benchmark, script

# Seconds that each request takes longer. Amazon's S3 User Guide, "Best practices design patterns:
# optimizing Amazon S3 performance": "small object latencies … of roughly 100-200 milliseconds".
_DELAY = "0.1"

BENCHMARK = Benchmark(
    name="export_range_s3",
    reference_name="export_range, one date after the other; each request to S3 takes 100 ms more",
    ours=script("export_range.py", "2", _DELAY),
    reference=script("export_range.py", "1", _DELAY),
    rounds=2,
    services=True,
)
