"""The benchmarks' harness: what it measures, and that it does not compare apples with pears."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Benchmark, BenchmarkError, Side

CHECKOUT = Path(harness.__file__).parent.parent


def side(program: str) -> Side:
    return Side(lambda: [sys.executable, "-c", program])


def says(seconds: float, result: str = "same", before: str = "") -> Side:
    return side(f"{before}\nprint('chatter')\nprint({json.dumps(json.dumps({'seconds': seconds, 'result': result}))})")  # fmt: skip # noqa: E501


MEASURING = """
import json, sys
from benchmarks.harness import Benchmark, Side, measure
small, large = (Side(lambda program=program: [sys.executable, "-c", program]) for program in %r)
print(json.dumps(measure(Benchmark("b", "something", small, large, rounds=1))))
"""


def test_a_benchmark_tells_times_their_ratio_and_the_peaks() -> None:
    # In a process of its own: a child's peak begins at its parent's, and a test run is large.
    small, large = says(0.5), says(2.0, before="block = bytearray(b'x' * 200_000_000)")
    programs = [side.command()[2] for side in (small, large)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURING % (programs,)],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["name"], told["reference"]) == ("b", "something")
    assert (told["ours_s"], told["reference_s"], told["ratio"]) == (0.5, 2.0, 4.0)
    assert told["reference_peak_mb"] > 190
    assert told["ours_peak_mb"] < told["reference_peak_mb"] - 150


def test_sides_that_made_different_things_are_not_compared() -> None:
    with pytest.raises(BenchmarkError, match="same work"):
        harness.measure(Benchmark("b", "r", says(1, "a"), says(1, "b"), rounds=1))


@pytest.mark.parametrize("program", ["raise SystemExit(3)", "pass"], ids=["fails", "is silent"])
def test_a_side_that_tells_nothing_is_an_error(program: str) -> None:
    with pytest.raises(BenchmarkError, match="ended with"):
        harness.run(side(program))


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
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
