"""The 365th day of 2,000 listings through the number cruncher, against the 2nd."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="crunch_day",
    reference_name=(
        "the same for day 2, where day 1 is all of the past: a run of the child process, best of 5;"
        " in_process_s without its start and Dagster's"
    ),
    ours=script("crunch_day.py", "365"),
    reference=script("crunch_day.py", "2"),
    rounds=2,
    tolerance=None,
    services=True,
)
