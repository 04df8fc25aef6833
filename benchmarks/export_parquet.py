"""A day of 1,000,000 listings to S3 as Parquet, against holding all of it in memory as CSV."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_parquet",
    reference_name="fetchall, csv.writer into StringIO, put_object; 1,000,000 rows x 17 columns",
    ours=script("export_ours.py", "parquet", "1000000"),
    reference=script("export_fetchall.py", "1000000"),
    services=True,
)
