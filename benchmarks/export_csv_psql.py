"""A day of 1,000,000 listings to S3 as CSV, against psql into a file and an upload of that file."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="export_csv_psql",
    reference_name="psql \\copy into a local file, boto3 upload_file; 1,000,000 rows x 17 columns",
    ours=script("export_ours.py", "csv", "1000000"),
    reference=script("export_psql.py", "1000000"),
    services=True,
)
