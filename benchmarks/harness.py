"""Measuring two sides of a comparison, each in a fresh child process.

A side is a command that prints one JSON object as its last line: `seconds`, the time of the work
itself without imports and input, and `result`, a digest of what came out, which must be the same
on both sides. Its peak is that of the whole process. Nothing large is imported here: on Linux a
child's peak begins at its parent's size.
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
        same_result: Whether the results of both sides must be equal.
    """

    name: str
    reference_name: str
    ours: Side
    reference: Side
    rounds: int = 3
    same_result: bool = True


@dataclass(frozen=True)
class Measured:
    """What one run of a side took."""

    seconds: float
    peak_mb: float
    result: str


def script(name: str, *arguments: str) -> Side:
    """A side that runs with our own Python."""
    command = [sys.executable, str(SIDES / name), *arguments]
    return Side(lambda: command, {"PYTHONPATH": str(ROOT)})


def script_in(environment: str, requirements: Sequence[str], name: str, *arguments: str) -> Side:
    """A side that runs in an environment of its own, which is made once and kept."""
    return Side(
        lambda: [str(_python_with(environment, requirements)), str(SIDES / name), *arguments]
    )


def measure(benchmark: Benchmark) -> dict[str, str | float]:
    """Runs both sides in turn and compares their best.

    Raises:
        BenchmarkError: A side failed, or the results differ.
    """
    ours: list[Measured] = []
    reference: list[Measured] = []
    for _ in range(benchmark.rounds):
        ours.append(run(benchmark.ours))
        reference.append(run(benchmark.reference))
    results = {measured.result for measured in [*ours, *reference]}
    if benchmark.same_result and len(results) > 1:
        raise BenchmarkError(f"the sides did not do the same work: {sorted(results)}")
    ours_s = min(measured.seconds for measured in ours)
    reference_s = min(measured.seconds for measured in reference)
    return {
        "name": benchmark.name,
        "ours_s": round(ours_s, 4),
        "reference_s": round(reference_s, 4),
        "ratio": round(reference_s / ours_s, 2),
        "ours_peak_mb": round(max(measured.peak_mb for measured in ours), 1),
        "reference_peak_mb": round(max(measured.peak_mb for measured in reference), 1),
        "reference": benchmark.reference_name,
    }


def run(side: Side) -> Measured:
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
        child = subprocess.Popen(
            command, stdout=file, cwd=ROOT, env={**os.environ, **side.environment}
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        file.seek(0)
        lines = file.read().decode().strip().splitlines()
    if child.returncode or not lines:
        raise BenchmarkError(f"{' '.join(command)} ended with {child.returncode}")
    said = json.loads(lines[-1])
    return Measured(said["seconds"], usage.ru_maxrss * _KILOBYTES / 1024, said["result"])


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
