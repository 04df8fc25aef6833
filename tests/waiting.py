"""Waits for what other processes do, where nothing tells of it."""

import time
from collections.abc import Callable
from typing import Any

# Long, since a busy machine may be slow.
PATIENCE_SECONDS = 900


def until(condition: Callable[[], Any], problem: str = "it has not come") -> Any:
    """Look twice a second, until a condition gives something that is true; returns that.

    Args:
        condition: Looks.
        problem: What is wrong if it gives nothing for long.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not (result := condition()):
        assert time.monotonic() < end, f"after {PATIENCE_SECONDS} s: {problem}"
        time.sleep(0.5)
    return result
