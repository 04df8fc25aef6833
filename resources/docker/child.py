"""Wrapper around a module in a child process: applies settings from standard input, enforces the
deadline, and ends with the parent.

Started by `process.py` as `python -P child.py SECONDS MODULE [ARGUMENT …]`; imports nothing but the
standard library. The first line of standard input is a JSON object of environment variables: set
from here, they are in no process list and on no disk. More lines may come, with variables that
change. The end of standard input means that the parent is gone, however it went, and ends this
process group too.
"""

import faulthandler
import json
import os
import runpy
import signal
import sys
import threading
from typing import BinaryIO


def _end_with_parent(lifeline: BinaryIO) -> None:
    # Buffered lines: several may be in the pipe at once, the first ones before this began.
    for line in lifeline:
        try:
            os.environ.update(json.loads(line))
        except (TypeError, ValueError) as error:
            # The module still has the variables before; the lifeline holds. Nothing of the line is
            # shown: it holds secrets.
            sys.stderr.write(f"A line of settings was not understood: {type(error).__name__}\n")
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Runs the module named on the command line as `__main__`."""
    seconds, module, *arguments = sys.argv[1:]
    lifeline = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    line = lifeline.readline()
    if not line.endswith(b"\n"):
        sys.exit("The parent process ended before it had sent the settings.")
    os.environ.update(json.loads(line))
    # A clock that needs no interpreter lock: it also ends a module that is stuck in native code.
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    sys.argv = [module, *arguments]
    sys.path.insert(0, "")  # as `python -m` has it
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
