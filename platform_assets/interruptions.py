"""Interruptions of a run that Python would lose.

Dagster ends a run by a signal, whose handler raises in the main thread. Python calls handlers
before the next Python code that the main thread comes to. Where that is a destructor or the
callback of a weak reference, as it often is after a long collection of garbage, what they raise is
printed at best, and forgotten: the run would go on, and what it has started outside would too,
though somebody cancelled it.
"""

import _thread
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import dagster as dg

_INTERRUPTIONS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Not at once: the next destructor would lose it again.
_AGAIN_AFTER_SECONDS = 0.05


@functools.cache
def keep_interruptions() -> None:
    """From now on, send an interruption again when this process would lose it."""
    gc.callbacks.append(_Collections().begin_or_end)
    sys.unraisablehook = _resending(sys.unraisablehook)


class _Collections:
    """Has interruptions wait for the end of a collection in the main thread.

    Python tells nobody of what the `closed` of a file-like object raises when it is destroyed
    (`iobase_finalize` in CPython); urllib3's responses have such a property.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._waiting: set[int] = set()

    def begin_or_end(self, phase: str, info: dict[str, int]) -> None:
        """What Python calls before and after each collection."""
        if not info["generation"]:
            return  # takes microseconds, as this would
        if threading.get_ident() != threading.main_thread().ident:
            return  # handlers are not called there
        if phase == "start":
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._wait)
        else:
            while self._handlers:
                signal.signal(*self._handlers.popitem())
            while self._waiting:
                _send_again(self._waiting.pop())

    def _wait(self, number: int, _frame: FrameType | None) -> None:
        self._waiting.add(number)


def _resending(
    hook: "Callable[[sys.UnraisableHookArgs], object]",
) -> "Callable[[sys.UnraisableHookArgs], object]":
    """What Python calls for an exception that nobody gets: for all but interruptions, `hook`."""

    def resend(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, _INTERRUPTIONS):
            _send_again(signal.SIGINT)
        else:
            hook(lost)

    return resend


def _send_again(number: int) -> None:
    # Not by `threading`: what we are in the middle of may hold its locks.
    _thread.start_new_thread(_send, (number,))


def _send(number: int) -> None:
    time.sleep(_AGAIN_AFTER_SECONDS)
    os.write(2, b"An interruption came while Python destroyed something: it is sent again.\n")
    os.kill(os.getpid(), number)
