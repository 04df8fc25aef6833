"""Measuring two sides of a comparison, each in a fresh child process.

A side is a command that prints one JSON object as its last line: `seconds`, the time of the work
itself without imports and input; `result`, a digest or a number that tells what came out; and
anything else that is worth printing, such as `cpu_s` (`sides/stopwatch.py` says all of these). Its
peak is that of its largest process; where the work is in a server or in several processes at once
the side says `peak_mb` itself. Nothing large is imported here: on Linux a child's peak begins at
its parent's size.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
SIDES = ROOT / "benchmarks" / "sides"
_KILOBYTES = 1 if sys.platform == "linux" else 1 / 1024
_NOTHING: Mapping[str, str] = {}
# For numeric libraries; variables that they read when they are loaded.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
Scalar = str | float


class BenchmarkError(Exception):
    """A side failed, or the sides did not do the same work."""


@dataclass(frozen=True)
class Side:
    """One side: its command, made when it is needed, and what is set in its environment."""

    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """A comparison.

    Attributes:
        name: As given on the command line.
        reference_name: What the reference is, for people.
        rounds: How often each side runs; the best time and the highest peak count.
        tolerance: By what fraction of the reference's the results, which are numbers then, may
            differ; 0 means that they must be equal, None that they are not compared.
        services: Whether S3, Postgres and SageMaker must run; both sides find them in their
            environment, by the names of the env file.
        by_default: Whether it runs where no name is given; False for what takes minutes.
    """

    name: str
    reference_name: str
    ours: Side
    reference: Side
    rounds: int = 3
    tolerance: float | None = 0.0
    services: bool = False
    by_default: bool = True


@dataclass(frozen=True)
class Measured:
    """What one run of a side took, and what else it said."""

    seconds: float
    peak_mb: float
    result: Scalar
    more: Mapping[str, Scalar]


def script(name: str, *arguments: str, **environment: str) -> Side:
    """A side that runs with our own Python."""
    command = [sys.executable, str(SIDES / name), *arguments]
    return Side(lambda: command, {"PYTHONPATH": str(ROOT), **environment})


def script_in(environment: str, requirements: Sequence[str], name: str, *arguments: str) -> Side:
    """A side that runs in an environment of its own, which is made once and kept."""
    return Side(
        lambda: [str(_python_with(environment, requirements)), str(SIDES / name), *arguments]
    )


def measure(benchmark: Benchmark, services: Mapping[str, str] = _NOTHING) -> dict[str, Scalar]:
    """Runs both sides in turn and compares their best.

    Args:
        benchmark: What to run.
        services: Environment of the services that the benchmark asks for.

    Returns:
        What is printed; what else a side said stands there as `ours_…` and `reference_…`.

    Raises:
        BenchmarkError: A side failed, or the results differ.
    """
    ours: list[Measured] = []
    reference: list[Measured] = []
    for _ in range(benchmark.rounds):
        ours.append(run(benchmark.ours, services))
        reference.append(run(benchmark.reference, services))
    _compare(benchmark, [each.result for each in ours], [each.result for each in reference])
    best, other = (min(side, key=lambda each: each.seconds) for side in (ours, reference))
    return {
        "name": benchmark.name,
        "ours_s": round(best.seconds, 4),
        "reference_s": round(other.seconds, 4),
        "ratio": round(other.seconds / best.seconds, 2),
        "ours_peak_mb": round(max(each.peak_mb for each in ours), 1),
        "reference_peak_mb": round(max(each.peak_mb for each in reference), 1),
        "reference": benchmark.reference_name,
        **{f"ours_{key}": value for key, value in best.more.items()},
        **{f"reference_{key}": value for key, value in other.more.items()},
    }


def run(side: Side, services: Mapping[str, str] = _NOTHING) -> Measured:
    """One run of a side in a fresh process.

    Raises:
        BenchmarkError: It did not end well, or did not say what it took.
    """
    command = list(side.command())
    # A pipe would have to be drained before wait4; a file needs no second thread.
    output = CACHE / f"output-{os.getpid()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with output.open("w+b") as file:
        output.unlink()
        child = subprocess.Popen(command, stdout=file, cwd=ROOT, env=_environment(services, side))
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        lines = file.read().decode().strip().splitlines()
    if child.returncode or not lines:
        raise BenchmarkError(f"{' '.join(command)} ended with {child.returncode}")
    said = json.loads(lines[-1])
    seconds, result = said.pop("seconds"), said.pop("result")
    peak_mb = said.pop("peak_mb", usage.ru_maxrss * _KILOBYTES / 1024)
    return Measured(seconds, peak_mb, result, said)


def _environment(services: Mapping[str, str], side: Side) -> dict[str, str]:
    """What a side finds; where services are given, nothing of the user's that leads elsewhere."""
    foreign = ("AWS_", "PLATFORM_") if services else ()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **services, **side.environment}


def _compare(benchmark: Benchmark, ours: Sequence[Scalar], reference: Sequence[Scalar]) -> None:
    if benchmark.tolerance is None:
        return
    expected = reference[0]

    def same(result: Scalar) -> bool:
        if not benchmark.tolerance:
            return result == expected
        allowed = benchmark.tolerance * abs(float(expected))
        return abs(float(result) - float(expected)) <= allowed

    if not all(same(result) for result in (*ours, *reference)):
        raise BenchmarkError(
            f"the sides did not do the same work: ours made {list(ours)}, "
            f"the reference {list(reference)}"
        )


def _python_with(name: str, requirements: Sequence[str]) -> Path:
    """The Python of an environment that has these packages; made where it is missing."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    wanted = "\n".join(requirements)
    # Written last: an environment without it was left half made.
    done = folder / "requirements"
    if not done.is_file() or done.read_text() != wanted:
        print(f"Installing {', '.join(requirements)} into {folder} …", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        if subprocess.run(install, check=False, stdout=sys.stderr).returncode:
            raise BenchmarkError(
                f"{', '.join(requirements)} cannot be installed: is the package index reachable?"
            )
        done.write_text(wanted)
    return python
