"""A day of 1,000,000 listings to S3 as CSV, against holding all of it in memory."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_csv",
    reference_name="fetchall, csv.writer into StringIO, put_object; 1,000,000 rows x 17 columns",
    ours=script("export_ours.py", "csv", "1000000"),
    reference=script("export_fetchall.py", "1000000"),
    services=True,
)
