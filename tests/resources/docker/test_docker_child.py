"""What the child process does with the lines of its standard input, whenever they arrive."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.docker.process import CHILD
from tests.conftest import CHECKOUT

WAIT = """
import os, sys, time
while not {condition}:
    time.sleep(0.01)
print(os.environ["NUMBER"], flush=True)
"""


@pytest.fixture
def lifeline() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; the first is the child's."""
    child, parent = os.pipe()
    yield child, parent
    os.close(child)


def lines(*variables: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in variables)


def start(folder: Path, descriptor: int, condition: str) -> subprocess.Popen[bytes]:
    """A child whose module waits for a condition, and says which number it has then."""
    (folder / "waiting.py").write_text(WAIT.format(condition=condition))
    return subprocess.Popen(
        [*CHILD, "60", "waiting"],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{folder}:{CHECKOUT}"},
        start_new_session=True,
    )


def test_lines_that_came_before_it_began_to_read_are_taken_in_turn(
    tmp_path: Path, lifeline: tuple[int, int]
) -> None:
    descriptor, parent = lifeline
    os.write(parent, lines({"NUMBER": "1"}, {"NUMBER": "2"}, {"NUMBER": "3"}))
    child = start(tmp_path, descriptor, 'os.environ["NUMBER"] == "3"')
    out, err = child.communicate(timeout=60)
    os.close(parent)
    assert (out, err, child.returncode) == (b"3\n", b"", 0)


@pytest.mark.parametrize("line", [b"{pl4nted\n", b"[1]\n", b'{"NUMBER": 5}\n', b"\xff\n"])
def test_a_line_that_makes_no_sense_is_left_out_and_the_lifeline_holds(
    tmp_path: Path, lifeline: tuple[int, int], line: bytes
) -> None:
    descriptor, parent = lifeline
    os.write(parent, lines({"NUMBER": "1"}) + line + lines({"NUMBER": "2"}))
    child = start(tmp_path, descriptor, 'os.environ["NUMBER"] == "2"')
    out, err = child.communicate(timeout=60)
    os.close(parent)
    assert (out, child.returncode) == (b"2\n", 0)
    assert b"not understood" in err
    assert b"pl4nted" not in err


def test_after_a_line_that_makes_no_sense_it_still_ends_with_its_parent(
    tmp_path: Path, lifeline: tuple[int, int]
) -> None:
    descriptor, parent = lifeline
    os.write(parent, lines({"NUMBER": "1"}) + b"{half")
    child = start(tmp_path, descriptor, "False")
    os.close(parent)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL


def test_without_a_whole_first_line_nothing_is_run(
    tmp_path: Path, lifeline: tuple[int, int]
) -> None:
    descriptor, parent = lifeline
    os.write(parent, lines({"NUMBER": "1"})[:-3])
    child = start(tmp_path, descriptor, "True")
    os.close(parent)
    out, err = child.communicate(timeout=60)
    assert (out, child.returncode) == (b"", 1)
    assert b"before it had sent the settings" in err
