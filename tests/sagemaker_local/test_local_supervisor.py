"""The process around an image's command: a stop reaches the command, whenever it comes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sagemaker_local.rig import CHECKOUT, PATIENCE_SECONDS, wait_until_ended

# Its child gets the signal, too, which ends it; the shell itself goes on to its end.
COUNTING = "trap 'echo asked' TERM; sleep 600 & echo ready; wait; wait; echo over; exit 7"


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[str]]:
    """One that has no order yet, in a group of its own, as the server starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sagemaker_local.supervisor"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def order(supervisor: subprocess.Popen[str], *command: str) -> None:
    assert supervisor.stdin is not None
    given = {"command": command, "environment": dict(os.environ), "folder": "/"}
    supervisor.stdin.write(json.dumps(given) + "\n")
    supervisor.stdin.flush()


def until_it_takes_signals(supervisor: subprocess.Popen[str]) -> None:
    status = Path(f"/proc/{supervisor.pid}/status")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        (caught,) = [line for line in status.read_text().splitlines() if line[:6] == "SigCgt"]
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_stop_that_comes_before_the_command_has_begun_ends_it(
    supervisor: subprocess.Popen[str],
) -> None:
    until_it_takes_signals(supervisor)
    os.killpg(supervisor.pid, signal.SIGTERM)
    order(supervisor, "sleep", "600")
    assert supervisor.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_a_stop_reaches_the_command_once_and_what_it_has_started(
    supervisor: subprocess.Popen[str],
) -> None:
    order(supervisor, "sh", "-c", COUNTING)
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "ready\n"
    family = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(family) == 2
    os.killpg(supervisor.pid, signal.SIGTERM)
    assert supervisor.stdout.read() == "asked\nover\n"
    assert supervisor.wait(PATIENCE_SECONDS) == 7
    assert wait_until_ended(family)
