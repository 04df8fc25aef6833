"""S3, Postgres and SageMaker for the benchmarks that need them, started once for all of them.

A process of their own (`python -m benchmarks.services`) starts them and stops them when its
standard input closes, which also happens when the benchmarks are killed.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import ROOT, BenchmarkError

_NOT_INHERITED = ("AWS_", "PLATFORM_", "DAGSTER_", "PG")


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """The services' environment, under the names of the env file, and their PLATFORM_HOME.

    Raises:
        BenchmarkError: They did not come up.
    """
    print("Starting S3, Postgres and SageMaker …", file=sys.stderr, flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.services"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C ends the benchmarks; this process ends when its input closes.
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise BenchmarkError("the services did not come up")
        yield json.loads(line)
    finally:
        process.stdin.close()
        process.wait()


def main() -> None:
    """Starts the services, prints their environment as one line of JSON, and waits."""
    # Imported here, since a side's peak of memory begins at the size of the process above.
    from embedded import ports, stack
    from embedded.home import Home
    from embedded.plan import make_plan
    from embedded.programs import services

    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
    base = os.environ.get("PLATFORM_PORT_BASE") or str(ports.free_base(range(11000, 22000, 20)))
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as root:
        plan = make_plan({**inherited, "PLATFORM_HOME": root, "PLATFORM_PORT_BASE": base})
        try:
            stack_running = stack.up(plan, services(plan))
            print(json.dumps({**stack_running.env, "PLATFORM_HOME": root}), flush=True)
            sys.stdin.read()
        finally:
            stack.down(Home(Path(root)))


if __name__ == "__main__":
    main()
