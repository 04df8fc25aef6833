"""A run that is cancelled while Python destroys something ends all the same."""

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT, clean_environ

PROGRAM = """
import gc, io, os, signal, time, weakref
import dagster as dg
from platform_assets.definitions import defs

def interrupt(*_):
    print("sent", flush=True)
    os.kill(os.getpid(), signal.{sent})
    for _ in range(1000):  # Python calls the handler in here, at the latest
        pass

class Watched:
    pass

class Destroyed:
    __del__ = interrupt

class File(io.RawIOBase):
    closed = property(interrupt)

class Failing:
    def __del__(self):
        raise ValueError("of no use")

def in_a_cycle(garbage):
    garbage.itself = garbage
    return garbage

defs()
with dg.raise_execution_interrupts():
    try:
        {destroy}
        gc.collect()
        time.sleep({seconds})
        print("not interrupted")
    except dg.DagsterExecutionInterruptedError:
        print("interrupted")
"""
TIME_LIMIT = 120
WAYS = {
    "a callback in a collection": (
        "watched = in_a_cycle(Watched()); kept = weakref.ref(watched, interrupt); del watched"
    ),
    "a callback": "watched = Watched(); kept = weakref.ref(watched, interrupt); del watched",
    "a destructor in a collection": "in_a_cycle(Destroyed())",
    "a destructor": "Destroyed()",
    # Python tells nobody of what `closed` raises.
    "a file in a collection": "in_a_cycle(File())",
}


def destroy(what: str, *, seconds: int, sent: str = "SIGINT") -> subprocess.CompletedProcess[str]:
    """A process of the platform that destroys something and goes on for so long."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(destroy=what, seconds=seconds, sent=sent)],
        cwd=CHECKOUT,
        env=clean_environ(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


@pytest.mark.parametrize(
    ("way", "sent"), [*((way, "SIGINT") for way in WAYS), ("a file in a collection", "SIGTERM")]
)
def test_an_interruption_that_python_would_lose_is_sent_again(way: str, sent: str) -> None:
    done = destroy(WAYS[way], seconds=2 * TIME_LIMIT, sent=sent)

    assert done.stdout == "sent\ninterrupted\n", done.stderr
    assert done.stderr.count("it is sent again") == 1, done.stderr
    assert "DagsterExecutionInterruptedError" not in done.stderr


def test_nothing_is_sent_when_nothing_was() -> None:
    done = destroy("pass", seconds=1)

    assert done.stdout == "not interrupted\n"
    assert "sent again" not in done.stderr


def test_what_else_python_loses_is_told_as_ever() -> None:
    done = destroy("Failing()", seconds=0)

    assert done.stdout == "not interrupted\n"
    assert "ValueError: of no use" in done.stderr
