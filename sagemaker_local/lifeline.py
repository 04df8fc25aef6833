"""Ties a child process to the server: it dies with its parent and stays within its memory.

Used at the start of every child. The parent's side is in children.py.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 1.0


def hold(parent: int, memory_mb: int | None = None) -> None:
    """Ends this process when its parent ends, and refuses it memory beyond a limit.

    On Linux the kernel ends it; elsewhere a thread sees that the parent has changed. A thread runs
    on Linux too, since the kernel's way is lost when the parent's starting thread ends first.

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
