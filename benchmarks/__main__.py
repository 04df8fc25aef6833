"""`python -m benchmarks [NAME …]`: runs the named benchmarks, or all that do not take minutes."""

import argparse
import json
import sys
from contextlib import ExitStack

from benchmarks import (
    api,
    cancel_training,
    crunch,
    export,
    invoke,
    kmeans_train,
    recordio_encode,
    services,
    sizing,
)
from benchmarks.harness import Benchmark, BenchmarkError, measure

_MODULES = (api, cancel_training, crunch, export, invoke, kmeans_train, recordio_encode, sizing)


def known() -> dict[str, Benchmark]:
    """All benchmarks by name."""
    return {benchmark.name: benchmark for module in _MODULES for benchmark in module.BENCHMARKS}


def main() -> int:
    """Runs benchmarks and returns the exit status: 1 if one of them failed, 2 for a wrong name."""
    available = known()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(available))
    by_default = [name for name, benchmark in available.items() if benchmark.by_default]
    names = parser.parse_args().names or by_default
    if unknown := [name for name in names if name not in available]:
        print(
            f"There is no benchmark {', '.join(unknown)}; there are {', '.join(available)}.",
            file=sys.stderr,
        )
        return 2
    failed = False
    with ExitStack() as stack:
        environment: dict[str, str] | None = None
        for name in names:
            benchmark = available[name]
            try:
                if benchmark.services and environment is None:
                    environment = stack.enter_context(services.running())
                line = measure(benchmark, (environment or {}) if benchmark.services else {})
                print(json.dumps(line), flush=True)
            except BenchmarkError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
