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


def test_a_benchmark_tells_times_their_ratio_and_the_peaks() -> None:
    large = says(2.0, before="block = bytearray(b'x' * 200_000_000)")
    told = harness.measure(Benchmark("b", "something", says(0.5), large, rounds=1))
    assert (told["name"], told["reference"]) == ("b", "something")
    assert (told["ours_s"], told["reference_s"], told["ratio"]) == (0.5, 2.0, 4.0)
    assert float(told["reference_peak_mb"]) > 190
    assert float(told["ours_peak_mb"]) < float(told["reference_peak_mb"]) - 150


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
