"""Shadow variants: they get copies of requests, and nobody gets their answers.

A copy never holds an answer up, and never fails one.
"""

import asyncio
import logging
import random

from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.fleet import Answer, ChildLostError, Fleet, Invocation

# A shadow that is slower than what answers would otherwise pile requests of 6 MiB up.
_MOST_WAITING = 8
_log = logging.getLogger(__name__)


class Shadows:
    """The copies of requests that are under way. Everything runs in the event loop."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[Answer]] = set()

    def copy(self, endpoint: str, fleet: Fleet, invocation: Invocation) -> None:
        """Sends a request to the shadows of a fleet too, by their shares; returns at once."""
        for variant, share in fleet.shadows.items():
            child = fleet.child(variant)
            if child.requests >= _MOST_WAITING or random.random() >= share:  # noqa: S311 - traffic
                continue
            name = f"a copy for {variant} of {endpoint}"
            task = asyncio.get_running_loop().create_task(child.invoke(invocation), name=name)
            self._under_way.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._under_way.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, ChildLostError | JobFailure):
            _log.warning("%s: %s", task.get_name(), error)
        elif error is not None:
            _log.error("%s", task.get_name(), exc_info=error)
