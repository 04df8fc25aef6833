"""Child processes: how the server starts and ends them, and how a child ends with the server.

Each is in a process group of its own. It reads what strangers made, and gets no secrets.
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO

# How a message to or from a serving child begins: the lengths of its head and its body.
FRAME = struct.Struct("<II")
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0
# Of the server's variables a child gets these and no others. The last one is a mark by which
# `make down` finds what belongs to its stack.
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PLATFORM_STACK_ID",
)  # fmt: skip
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Threads that spin while they wait slow a busy machine down several times over.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Two heaps do; one for each thread costs memory that is never used.
    "MALLOC_ARENA_MAX": "2",
}


def spawn(
    module: str,
    arguments: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts `python -m module` with one computing thread.

    More gain little at these sizes, and wait for each other on a busy machine. With one, a model
    has the same bytes on every machine.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=inherited | _ENVIRONMENT,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout is not None else None,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a child and everything in its group. Who reads its output reads it to its end."""
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Asks a child and everything in its group to end."""
    _signal(process, signal.SIGTERM)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # The group may be gone between the look and the signal.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def tie_to_parent(parent: int, memory_mb: int | None = None) -> None:
    """Called first by a child: ends it when its parent ends, and limits its memory.

    On Linux the kernel ends it. A thread also watches the parent: on other systems it is the only
    way, and on Linux the kernel reacts to the end of the thread that started the child.

    Args:
        parent: Process id of the server that started this process.
        memory_mb: Limit for this process's own data in MiB; code and shared pages do not count.
            None where the server watches instead: a refused allocation inside a numeric library
            may hang it for good.
    """
    if sys.platform == "linux":
        # The C library's documented prctl(2); Python has no function of its own for it.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if memory_mb is not None:
        limit = memory_mb * 1024 * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if hard == resource.RLIM_INFINITY or hard > limit:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # A core dump would hold training data.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
