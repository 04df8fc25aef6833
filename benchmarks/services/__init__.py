"""S3, Postgres and SageMaker for the benchmarks that need them, started once a run.

They are held by a process of their own (`__main__.py`), which ends them when its standard input
closes: also when the benchmarks were killed. Nothing of the stack is imported here, since a side's
peak begins at its parent's size.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import ROOT, BenchmarkError


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """The services' environment, by the names of the env file, with their PLATFORM_HOME.

    Raises:
        BenchmarkError: They did not come up.
    """
    print("Starting S3, Postgres and SageMaker …", file=sys.stderr, flush=True)
    holder = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.services"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C is for the benchmarks; the holder ends with its input.
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        line = holder.stdout.readline()
        if not line:
            raise BenchmarkError("the services did not come up")
        yield json.loads(line)
    finally:
        holder.stdin.close()
        holder.wait()
