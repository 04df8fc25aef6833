"""365 dates of 2,000 listings through the number cruncher in one run, against a run for each."""

from benchmarks.harness import Benchmark, script

BENCHMARK = Benchmark(
    name="backfill_365",
    reference_name="a run (child process) for each date: ten of them, times 36.5",
    ours=script("backfill_ours.py"),
    reference=script("backfill_each.py"),
    rounds=2,
    services=True,
)
