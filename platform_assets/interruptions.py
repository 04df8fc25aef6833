"""Interruptions of a run that Python would lose.

Dagster ends a run by a signal, whose handler raises in the main thread. Python handles signals
before the next Python code that the main thread comes to. After a collection of garbage that is a
destructor or the callback of a weak reference, and what these raise is printed and forgotten
(https://docs.python.org/3/library/sys.html#sys.unraisablehook): the run would go on, and what it
has started outside would too, though somebody cancelled it.
"""

import _thread
import functools
import os
import signal
import sys
import time

import dagster as dg

_INTERRUPTIONS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
_AGAIN_AFTER_SECONDS = 0.05


@functools.cache
def keep_interruptions() -> None:
    """Have an interruption that this process loses from now on sent once more."""
    tell = sys.unraisablehook

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, _INTERRUPTIONS):
            # Not by `threading`: what we are in the middle of may hold its locks.
            _thread.start_new_thread(_interrupt, ())
        else:
            tell(lost)

    sys.unraisablehook = hook


def _interrupt() -> None:
    time.sleep(_AGAIN_AFTER_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)
