"""Runs one image's command and guarantees that nothing it started outlives it.

It passes the command's exit code on. Whatever the command started ends with it, or with the server,
even what left its process group. Its standard input is the server: a
line of JSON says what to run, its end says that everything has to end. SIGTERM is for the command,
and gets there once, also if it comes before the command has begun.
"""

import contextlib
import ctypes
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading

import psutil

_PR_SET_CHILD_SUBREAPER = 36
# Where a shell says that a command was not there.
_NOT_FOUND = 127


def main() -> int:
    """Runs the command that standard input names; returns its exit code, 128 + n for a signal."""
    # A queue rather than a flag: it loses none, and its `put` may interrupt itself.
    stops: queue.SimpleQueue[int] = queue.SimpleQueue()
    signal.signal(signal.SIGTERM, lambda number, _: stops.put(number))
    order = json.loads(sys.stdin.readline())
    if sys.platform == "linux":
        # Orphans become children of this process rather than of init: none can hide. The C
        # library's documented prctl(2); Python has no function of its own for it.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A core dump would hold training data.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        command = subprocess.Popen(
            order["command"],
            env=order["environment"],
            cwd=order["folder"],
            stdin=subprocess.DEVNULL,
            # Not in this process's group: it would get a signal twice, or none as it begins.
            process_group=0,
        )
    except OSError as error:
        print(f"The image's command cannot be started: {order['command'][0]}: {error.strerror}")
        return _NOT_FOUND
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    threading.Thread(target=_pass_on, args=(stops, command.pid), daemon=True).start()
    code = _wait_for(command.pid)
    _end_descendants()
    return code if code >= 0 else 128 - code


def _end_with_the_server() -> None:
    sys.stdin.read()
    _kill_descendants()


def _pass_on(signals: "queue.SimpleQueue[int]", group: int) -> None:
    while True:
        number = signals.get()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)


def _wait_for(wanted: int) -> int:
    """Waits for the command, and buries orphans on the way."""
    while True:
        pid, status = os.wait()
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def _end_descendants() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            # Again after each: what was a grandchild is a child now.
            _kill_descendants()
            os.wait()


def _kill_descendants() -> None:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
