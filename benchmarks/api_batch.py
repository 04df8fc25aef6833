"""1,000 pictures over HTTP: one batch, against as many requests to the app of the book."""

from benchmarks.api_single import book, ours
from benchmarks.harness import Benchmark

BENCHMARK = Benchmark(
    name="api_batch",
    reference_name=(
        "1,000 requests by 16 clients to the Chalice app of chapter 7 of Data Pipelines with "
        "Apache Airflow, which takes one picture at a time"
    ),
    ours=ours("batch"),
    reference=book("batch"),
    rounds=1,
    tolerance=None,
    services=True,
)
