"""Faults on demand: throttling, server errors and failed jobs, for tests and drills.

A plan is a comma-separated list of `name[@Operation][=number|*count]`: `throttle=0.3` hits three
requests in ten, `internal-error@DescribeTrainingJob*2` the first two of an operation, `job-failure`
every job. It comes from EMBEDDED_SAGEMAKER_FAULTS, or from a header for the one request.
"""

import random
import re
import threading
from dataclasses import dataclass

from sagemaker_local.aws_errors import AwsError

HEADER = "x-embedded-sagemaker-faults"
_REQUEST_FAULTS = {
    "throttle": ("ThrottlingException", "Rate exceeded", 400),
    "internal-error": ("InternalFailure", "We encountered an internal error. Try again.", 500),
    "unavailable": ("ServiceUnavailable", "The service is currently unavailable.", 503),
}
# Faults of what a request starts: they act later, when the job or the endpoint gets that far.
_LASTING_FAULTS = ("slow-start", "job-failure", "capacity-error", "endpoint-failure")
_RULE = re.compile(
    r"(?P<name>[a-z-]+)(@(?P<operation>\w+))?((=(?P<number>\d+(\.\d+)?))|(\*(?P<count>\d+)))?"
)


class FaultPlanError(ValueError):
    """A plan of faults cannot be read; the message shows the part and the names there are."""


@dataclass
class _Rule:
    name: str
    operation: str | None
    number: float | None
    remaining: int | None


class FaultPlan:
    """The faults that are due, decided one by one as they are asked for."""

    def __init__(self, text: str = "") -> None:
        """Reads a plan.

        Raises:
            FaultPlanError: A part of it is not a fault.
        """
        self._lock = threading.Lock()
        self._rules = [_rule(part.strip()) for part in text.split(",") if part.strip()]

    def refuse(self, operation: str) -> None:
        """Raises the fault that hits this request, if one does.

        Raises:
            AwsError: Throttling or a server's error.
        """
        for name, (code, message, status) in _REQUEST_FAULTS.items():
            if self._due(name, operation) is not None:
                raise AwsError(code, message, status)

    def lasting(self, operation: str) -> dict[str, float]:
        """The faults for what this request starts: name to number (seconds of `slow-start`)."""
        due = {name: self._due(name, operation) for name in _LASTING_FAULTS}
        return {name: number for name, number in due.items() if number is not None}

    def _due(self, name: str, operation: str) -> float | None:
        with self._lock:
            for rule in self._rules:
                if rule.name != name or rule.operation not in (None, operation):
                    continue
                if rule.remaining is not None:
                    if rule.remaining == 0:
                        continue
                    rule.remaining -= 1
                elif not _by_chance(rule):
                    continue
                return 1.0 if rule.number is None else rule.number
        return None


def _by_chance(rule: _Rule) -> bool:
    """Whether chance picks this rule; the number of `slow-start` is seconds, not a chance."""
    if rule.number is None or rule.name == "slow-start":
        return True
    return random.random() < rule.number  # noqa: S311 - not a secret


def _rule(text: str) -> _Rule:
    match = _RULE.fullmatch(text)
    if match is None or match["name"] not in (*_REQUEST_FAULTS, *_LASTING_FAULTS):
        names = ", ".join((*_REQUEST_FAULTS, *_LASTING_FAULTS))
        raise FaultPlanError(
            f"{text!r} is not a fault; write name[@Operation][=number|*count] with one of: {names}."
        )
    return _Rule(
        name=match["name"],
        operation=match["operation"],
        number=float(match["number"]) if match["number"] else None,
        remaining=int(match["count"]) if match["count"] else None,
    )
