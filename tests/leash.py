"""Ends a test run's services when the test run is gone without having done so, even by kill -9.

Run as `python -m tests.leash <pid> <start time> <home>`: waits for that process to end, then stops
the stack of that home and removes the home.
"""

import os
import shutil
import sys
import time
from pathlib import Path

import psutil


def main() -> None:
    """Waits for the process to end, then cleans up."""
    pid, started, root = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    # Ctrl-C in a terminal reaches every process of the group; this one has to outlive it.
    os.setsid()
    while _lives(pid, started):
        time.sleep(0.5)
    if root.exists():
        # Each home has such a process, and hardly one needs what takes so long to import.
        from embedded import stack
        from embedded.home import Home

        stack.down(Home(root))
        shutil.rmtree(root, ignore_errors=True)


def _lives(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
