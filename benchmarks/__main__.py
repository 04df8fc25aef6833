"""`python -m benchmarks [NAME …]`: runs the benchmarks named, or all that take no minutes."""

import argparse
import importlib
import json
import pkgutil
import sys
from contextlib import ExitStack

import benchmarks
from benchmarks import services
from benchmarks.harness import Benchmark, BenchmarkError, measure


def known() -> dict[str, Benchmark]:
    """All benchmarks by name."""
    modules = [
        importlib.import_module(f"benchmarks.{module.name}")
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if not module.name.startswith("__") and not module.ispkg
    ]
    found = [module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK")]
    return {benchmark.name: benchmark for benchmark in found}


def main() -> int:
    available = known()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(available))
    usual = [name for name, benchmark in available.items() if benchmark.by_default]
    names = parser.parse_args().names or usual
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
                told = measure(benchmark, (environment or {}) if benchmark.services else {})
                print(json.dumps(told), flush=True)
            except BenchmarkError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
