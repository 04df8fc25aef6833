"""Shadow variants: they get copies of requests; their answers are captured at most.

A copy never holds an answer up, and never fails one.
"""

import asyncio
import logging
import random

from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.capture_writer import CaptureWriter
from sagemaker_local.fleet import ChildLostError, Fleet, Invocation

# A shadow that is slower than what answers would otherwise pile requests of 6 MiB up.
_MOST_WAITING = 8
_log = logging.getLogger(__name__)


class Shadows:
    """Sends copies of requests. Everything runs in the event loop."""

    def __init__(self, captures: CaptureWriter) -> None:
        self._captures = captures

    def copy(self, endpoint: str, fleet: Fleet, invocation: Invocation) -> None:
        """Sends a request to the shadows of a fleet too, by their shares; returns at once."""
        for variant, share in fleet.shadows.items():
            if fleet.least_busy(variant).requests >= _MOST_WAITING or random.random() >= share:  # noqa: S311 - traffic
                continue
            sending = self._send(endpoint, variant, fleet, invocation)
            task = asyncio.get_running_loop().create_task(sending)
            fleet.copies.add(task)
            task.add_done_callback(fleet.copies.discard)

    async def _send(
        self, endpoint: str, variant: str, fleet: Fleet, invocation: Invocation
    ) -> None:
        try:
            answer = await fleet.least_busy(variant).invoke(invocation)
        except (ChildLostError, JobFailure) as error:
            _log.warning("a copy for %s of endpoint %s: %s", variant, endpoint, error)
        else:
            self._captures.add(fleet.data_capture, endpoint, variant, invocation, answer)
