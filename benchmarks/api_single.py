"""One picture a request over HTTP, by 16 clients and by one, against the app of the book."""

import sys

from benchmarks.harness import Benchmark, Side, script, script_in

_BOOK = script_in(
    "sagemaker2-chalice", ["sagemaker<3", "chalice>=1.31,<2", "pillow"], "api_book.py"
)


def ours(what: str) -> Side:
    """The platform's local server under the load of api_load.py."""
    return script("api_load.py", what, sys.executable, "-m", "api")


def book(what: str) -> Side:
    """The book's app under the same load."""
    load = script("api_load.py", what)
    return Side(lambda: [*load.command(), *_BOOK.command()], load.environment)


BENCHMARK = Benchmark(
    name="api_single",
    reference_name=(
        "the Chalice app of chapter 7 of Data Pipelines with Apache Airflow: PIL, sagemaker<3's "
        "serializer, a new client for each request; 160 JPEGs by 16 clients"
    ),
    ours=ours("single"),
    reference=book("single"),
    rounds=2,
    tolerance=None,
    services=True,
)
