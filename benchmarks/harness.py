"""Measures the two sides of a benchmark, each in a child process of its own.

A side is a function of a benchmark's module; `python -m benchmarks.MODULE FUNCTION` runs it alone.
It prints one JSON object as its last line (`Stopwatch.report`): `seconds`, the time of the work
without imports and input; `result`, a digest or a number of what came out; and more figures, such
as `cpu_s`. Its peak of memory is that of its process. Where the work is done by a server or by
several processes the side reports `peak_mb` itself.

Only the standard library is imported here and at the top of a benchmark's module. On Linux a
child's peak begins at its parent's size, and some sides run in environments of their own.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "benchmarks"
_KILOBYTES = 1 if sys.platform == "linux" else 1 / 1024
_NO_SERVICES: Mapping[str, str] = {}
# Numeric libraries read these variables when they are loaded.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
Scalar = str | float


class BenchmarkError(Exception):
    """A side failed, or the sides did not do the same work."""


@dataclass(frozen=True)
class Side:
    """One side of a benchmark.

    Attributes:
        command: Returns the command. A function, since it may have to install an environment first.
        environment: Variables that are set for the command.
    """

    command: Callable[[], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """A comparison of two sides.

    Attributes:
        name: As given on the command line.
        reference_name: What the reference is, for people.
        ours: The platform's side.
        reference: The side it is compared with.
        rounds: How often each side runs. The best time and the highest peak are printed.
        tolerance: How much the results, then numbers, may differ, as a fraction of the reference's.
            0: they must be equal. None: they are not compared.
        services: Whether S3, Postgres and SageMaker must run. Both sides find them in their
            environment, under the names of the env file.
        by_default: Whether it runs when no name is given; False for those that take minutes.
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
class Measurement:
    """The figures of one run of a side."""

    seconds: float
    peak_mb: float
    result: Scalar
    more: Mapping[str, Scalar]


def side(module: str, function: str, *arguments: str, **environment: str) -> Side:
    """A side that runs in our own environment."""
    command = [sys.executable, "-m", f"benchmarks.{module}", function, *arguments]
    return Side(lambda: command, environment)


def side_with(requirements: Sequence[str], module: str, function: str, *arguments: str) -> Side:
    """A side that runs in an environment of its own, which is made once and kept."""
    return Side(
        lambda: [python_with(requirements), "-m", f"benchmarks.{module}", function, *arguments]
    )


def run_side(*sides: Callable[..., None]) -> None:
    """Runs the one of these functions that the command line names, with the arguments after it."""
    function, *arguments = sys.argv[1:]
    {side.__name__: side for side in sides}[function](*arguments)


def measure(benchmark: Benchmark, services: Mapping[str, str] = _NO_SERVICES) -> dict[str, Scalar]:
    """Runs both sides in turn, as often as the benchmark says, and compares their best.

    Args:
        benchmark: The benchmark to run.
        services: Environment variables of the services that the benchmark asks for.

    Returns:
        The JSON line. A side's further figures are in it as `ours_…` and `reference_…`.

    Raises:
        BenchmarkError: A side failed, or the results differ.
    """
    ours: list[Measurement] = []
    reference: list[Measurement] = []
    for _ in range(benchmark.rounds):
        ours.append(run(benchmark.ours, services))
        reference.append(run(benchmark.reference, services))
    _compare(benchmark, [m.result for m in ours], [m.result for m in reference])
    best_ours, best_reference = (min(side, key=lambda m: m.seconds) for side in (ours, reference))
    return {
        "name": benchmark.name,
        "ours_s": round(best_ours.seconds, 4),
        "reference_s": round(best_reference.seconds, 4),
        "ratio": round(best_reference.seconds / best_ours.seconds, 2),
        "ours_peak_mb": round(max(m.peak_mb for m in ours), 1),
        "reference_peak_mb": round(max(m.peak_mb for m in reference), 1),
        "reference": benchmark.reference_name,
        **{f"ours_{key}": value for key, value in best_ours.more.items()},
        **{f"reference_{key}": value for key, value in best_reference.more.items()},
    }


def run(side: Side, services: Mapping[str, str] = _NO_SERVICES) -> Measurement:
    """One run of a side in a fresh process.

    Raises:
        BenchmarkError: It failed or printed nothing.
    """
    command = list(side.command())
    # A file, since a pipe would have to be read by a second thread while wait4 waits.
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
    figures = json.loads(lines[-1])
    seconds, result = figures.pop("seconds"), figures.pop("result")
    peak_mb = figures.pop("peak_mb", usage.ru_maxrss * _KILOBYTES / 1024)
    return Measurement(seconds, peak_mb, result, figures)


def _environment(services: Mapping[str, str], side: Side) -> dict[str, str]:
    """A side's environment. With services, without the user's own variables for such services."""
    foreign = ("AWS_", "PLATFORM_") if services else ()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), **services, **side.environment}


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


def python_with(requirements: Sequence[str]) -> str:
    """The Python of an environment with these packages, which is made if it is missing.

    Raises:
        BenchmarkError: The packages cannot be installed.
    """
    folder = CACHE / hashlib.sha256(repr(requirements).encode()).hexdigest()[:12]
    python = folder / "bin" / "python"
    # Written last: an environment without it was not installed to the end.
    complete = folder / "complete"
    if not complete.exists():
        print(f"Installing {', '.join(requirements)} into {folder} …", file=sys.stderr, flush=True)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        if subprocess.run(install, check=False, stdout=sys.stderr).returncode:
            raise BenchmarkError(
                f"{', '.join(requirements)} cannot be installed: is the package index reachable?"
            )
        complete.touch()
    return str(python)


class Stopwatch:
    """Times the work of a side: `with Stopwatch() as watch: …`, then `watch.report(result)`.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: User and system time of this process and of its children that have ended.
    """

    def __enter__(self) -> Self:
        self._cpu_start = _cpu_seconds()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_seconds = _cpu_seconds() - self._cpu_start

    def report(self, result: Scalar, **more: Scalar) -> None:
        """Prints times, result and further figures for the harness.

        `peak_mb` among the further figures replaces the peak of the side's own process.
        """
        times = {"seconds": self.seconds, "cpu_s": round(self.cpu_seconds, 4)}
        print(json.dumps({**times, "result": result, **more}))


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
