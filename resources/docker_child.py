"""What stands between a child process and its module: its settings, its clock, its parent.

Started by `docker_process.py` as `python -m resources.docker_child SECONDS MODULE [ARGUMENT …]`;
imports nothing but the standard library. The first line of standard input is a JSON object of
environment variables: set from here, they are in no process list and on no disk. More lines may
come, with credentials that botocore looks for again when those before expire. The end of standard
input means that the parent is gone, however it went, and ends this process group too.
"""

import faulthandler
import json
import os
import runpy
import signal
import sys
import threading


def _read_line(descriptor: int) -> bytes:
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        piece = os.read(descriptor, 65536)
        if not piece:
            sys.exit("The parent process ended before it had said what to run.")
        pieces.append(piece)
    return b"".join(pieces)


def _end_with_parent(lifeline: int) -> None:
    line = b""
    while piece := os.read(lifeline, 65536):
        *lines, line = (line + piece).split(b"\n")
        for each in lines:
            os.environ.update(json.loads(each))
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Runs the module named on the command line as `__main__`."""
    seconds, module, *arguments = sys.argv[1:]
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.update(json.loads(_read_line(lifeline)))
    # A clock that needs no interpreter lock: it also ends a module that is stuck in native code.
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
