"""The benchmarks' harness: what it measures, and that it compares only equal results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import harness
from benchmarks.harness import Benchmark, BenchmarkError, Side

CHECKOUT = Path(harness.__file__).parent.parent


def side(program: str) -> Side:
    return Side(lambda: [sys.executable, "-c", program])


def reports(seconds: float, result: str | float = "same", before: str = "", **more: float) -> Side:
    line = json.dumps({"seconds": seconds, "result": result, **more})
    return side(f"{before}\nprint('chatter')\nprint({line!r})")


MEASURING = """
import json, sys
from benchmarks.harness import Benchmark, Side, measure
small, large = (Side(lambda program=program: [sys.executable, "-c", program]) for program in %r)
print(json.dumps(measure(Benchmark("b", "something", small, large, rounds=1))))
"""


def test_a_benchmark_reports_both_times_their_ratio_and_peak_memory() -> None:
    # In a process of its own: a child's peak memory begins at its parent's, here the test run's.
    small, large = reports(0.5), reports(2.0, before="block = bytearray(b'x' * 200_000_000)")
    programs = [side.command()[2] for side in (small, large)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURING % (programs,)],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    line = json.loads(done.stdout)
    assert (line["name"], line["reference"]) == ("b", "something")
    assert (line["ours_s"], line["reference_s"], line["ratio"]) == (0.5, 2.0, 4.0)
    assert line["reference_peak_mb"] > 190
    assert line["ours_peak_mb"] < line["reference_peak_mb"] - 150


def test_sides_with_different_results_are_not_compared() -> None:
    with pytest.raises(BenchmarkError, match="same work"):
        harness.measure(Benchmark("b", "r", reports(1, "a"), reports(1, "b"), rounds=1))


def test_numbers_may_differ_by_the_tolerance_and_no_more() -> None:
    def within(tolerance: float) -> Benchmark:
        return Benchmark(
            "b", "r", reports(1, 101.0), reports(1, 100.0), rounds=1, tolerance=tolerance
        )

    assert harness.measure(within(0.02))["ratio"] == 1.0
    with pytest.raises(BenchmarkError, match="same work"):
        harness.measure(within(0.005))


def test_other_numbers_of_a_side_are_printed_and_a_peak_that_it_reports_counts() -> None:
    ours = reports(2.0, cpu_s=0.5, peak_mb=7.0)
    line = harness.measure(Benchmark("b", "r", ours, reports(1.0, p50_ms=3), rounds=1))
    assert (line["ours_cpu_s"], line["ours_peak_mb"], line["reference_p50_ms"]) == (0.5, 7.0, 3)


def test_both_sides_get_the_services_environment_and_not_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of the user")
    program = """import json, os
assert "AWS_PROFILE" not in os.environ
print(json.dumps({"seconds": 1, "result": os.environ["AWS_ENDPOINT_URL_S3"]}))"""
    benchmark = Benchmark("b", "r", side(program), side(program), rounds=1, services=True)
    environment = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    assert harness.run(benchmark.ours, environment).result == environment["AWS_ENDPOINT_URL_S3"]
    assert harness.measure(benchmark, environment)["name"] == "b"


def test_the_stopwatch_counts_the_work_of_children_as_cpu_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    with harness.Stopwatch() as watch:
        subprocess.run([sys.executable, "-c", busy], check=True)
    watch.report("done", rows=5)
    line = json.loads(capsys.readouterr().out)
    assert (line["result"], line["rows"]) == ("done", 5)
    assert line["cpu_s"] >= 0.3
    assert line["seconds"] == watch.seconds >= 0.3


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "pass"], ids=["fails", "is silent"])
def test_a_side_that_reports_nothing_is_an_error(program: str) -> None:
    with pytest.raises(BenchmarkError, match="ended with"):
        harness.run(side(program))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonsense"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "recordio_encode" in done.stderr
    assert not done.stdout


def test_a_benchmark_of_minutes_runs_only_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = Benchmark("usual", "r", reports(1), reports(1), rounds=1)
    long = Benchmark("long", "r", reports(1), reports(1), rounds=1, by_default=False)
    monkeypatch.setattr(command_line, "known", lambda: {"usual": usual, "long": long})
    for arguments, expected in (([], ["usual"]), (["long"], ["long"])):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        assert command_line.main() == 0
        lines = capsys.readouterr().out.splitlines()
        assert [json.loads(line)["name"] for line in lines] == expected
