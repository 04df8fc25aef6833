"""A run that is cancelled while Python collects garbage ends all the same."""

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT, clean_environ

PROGRAM = """
import gc, os, signal, time, weakref
import dagster as dg
from platform_assets.definitions import defs

defs()

class Garbage:
    def __init__(self):
        self.itself = self

def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # Python handles signals in here, at the latest
        pass

{lose}
with dg.raise_execution_interrupts():
    try:
        gc.collect()
        print("lost", flush=True)
        time.sleep({seconds})
    except dg.DagsterExecutionInterruptedError:
        print("interrupted")
"""
IN_A_CALLBACK = "garbage = Garbage(); kept = weakref.ref(garbage, interrupt); del garbage"
IN_A_DESTRUCTOR = "Garbage.__del__ = interrupt; Garbage()"
A_FAILURE = "def fail(*_): raise ValueError('of no use')\nGarbage.__del__ = fail; Garbage()"


def collect_garbage(lose: str, *, seconds: int) -> subprocess.CompletedProcess[str]:
    """A process of the platform that loses something, and goes on for so long."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(lose=lose, seconds=seconds)],
        cwd=CHECKOUT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("lose", [IN_A_CALLBACK, IN_A_DESTRUCTOR])
def test_an_interruption_that_python_loses_comes_once_more(lose: str) -> None:
    done = collect_garbage(lose, seconds=60)

    assert done.stdout == "lost\ninterrupted\n", done.stderr
    assert "ignored" not in done.stderr


def test_what_else_python_loses_is_told_as_ever() -> None:
    done = collect_garbage(A_FAILURE, seconds=0)

    assert done.stdout == "lost\n", done.stderr
    assert "ValueError: of no use" in done.stderr
