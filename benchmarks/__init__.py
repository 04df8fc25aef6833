"""How fast the platform is, and how much memory it takes, compared with the usual alternatives.

One module a benchmark (or a family of them, as `export_csv` and `export_csv_psql`), with both its
sides. `make bench` runs all, `make bench NAME=…` one. Each prints one line of JSON: times in
seconds, peaks of memory in MB, `ratio` (how many times faster we are than the reference) and what
the reference is. A benchmark fails if its two sides did not do the same work. No figure is
promised here and none is a test.

`harness` runs the sides, `services` starts S3, Postgres and SageMaker for those that need them,
`digits` and `listings` make their input.
"""
