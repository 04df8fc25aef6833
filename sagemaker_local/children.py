"""Starts and ends child processes: each in a process group of its own, without credentials.

The child's side, which ties it to this process, is in lifeline.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

_GRACE_SECONDS = 2.0


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    threads: int,
    stdin: int | None = None,
    stdout: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `python -m module` with a limited number of computing threads."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=_environment(os.environ, threads),
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout is not None else None,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], *, kill: bool = False) -> int:
    """Ends a child and everything in its group, politely first, and returns its exit code."""
    if process.poll() is None and not kill:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
    code = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    return code


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends several children at once: all are asked first, then each is waited for."""
    for process in processes:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        end(process, kill=True)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group may be gone between the look and the signal.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _environment(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith("AWS_")}
    count = str(threads)
    return kept | {
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        # Threads that spin while they wait slow a busy machine down several times over.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Two heaps do; one for each thread costs memory that is never used.
        "MALLOC_ARENA_MAX": "2",
    }
