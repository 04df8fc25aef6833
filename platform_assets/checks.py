"""Judging dates: a check's verdict on each, and how Dagster gets it.

What is judged, and by what measure, stands with the assets.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import dagster as dg

from platform_assets.errors import PlatformError, describe_error
from platform_assets.retries import attempt, retry_dates

_MOST_DESCRIPTIONS = 5


@dataclass(frozen=True)
class Verdict:
    """What a check says of one date; a warning stops nothing."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["warn", "error"] = "error"

    @property
    def stops(self) -> bool:
        """Whether a blocking check keeps what is downstream from being made."""
        return not self.passed and self.severity == "error"


class DateRefusedError(PlatformError):
    """Checks refuse a date.

    Attributes:
        verdicts: Of the checks that were evaluated until then, by their names.
    """

    def __init__(self, message: str, verdicts: Mapping[str, Verdict] | None = None) -> None:
        super().__init__(message)
        self.verdicts = verdicts or {}


def check_each(
    context: dg.AssetCheckExecutionContext, judge: Callable[[str], Verdict]
) -> dg.AssetCheckResult:
    """Judge every date of the run. Each date gets an evaluation of its own.

    Args:
        context: Of a check with a partitions definition.
        judge: Gives the verdict on one date; what it raises counts as a failed check that says so.
    """
    (spec,) = context.check_specs
    verdicts = judge_each(context.partition_keys, judge)
    return report_verdicts(context.op_execution_context, spec.key, verdicts)


def judge_each(
    dates: Sequence[str], judge: Callable[[str], Verdict], *, at_once: int = 1
) -> dict[str, Verdict]:
    """The verdict on each date; a date that could not be checked has not passed.

    Args:
        dates: What to check.
        judge: Called from that many threads.
        at_once: How many dates are checked at a time: a store that is far away keeps each waiting.
    """

    def attempt_all(some: Sequence[str]) -> dict[str, Verdict | Exception]:
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="check")
        try:
            return dict(zip(some, pool.map(partial(attempt, judge), some), strict=True))
        finally:  # a run that is interrupted does not wait for those that are being checked
            pool.shutdown(wait=False, cancel_futures=True)

    results = retry_dates(dates, attempt_all)
    return {
        date: Verdict(False, f"could not be checked: {describe_error(result)}")
        if isinstance(result, Exception)
        else result
        for date, result in results.items()
    }


def report_verdicts(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    check: dg.AssetCheckKey,
    verdicts: Mapping[str, Verdict],
) -> dg.AssetCheckResult:
    """Tell Dagster the verdict on each date of the run.

    Returns:
        The result that decides over what is downstream: of the one date, or of all together. In a
        run of a range, be it of a single date, Dagster gives it no partition: the evaluations of
        the dates are logged beside it.
    """
    if context.has_partition_key:
        (verdict,) = verdicts.values()
        return dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=verdict.passed,
            description=verdict.description,
            metadata=verdict.metadata,
            severity=_severity(verdict),
        )
    for date, verdict in verdicts.items():
        log_evaluation(context, check, date, verdict)
    bad = {date: verdict for date, verdict in verdicts.items() if not verdict.passed}
    descriptions = [f"{date}: {verdict.description}" for date, verdict in bad.items()]
    stops = any(verdict.stops for verdict in bad.values())
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not bad,
        description=" ".join(descriptions[:_MOST_DESCRIPTIONS])
        or f"All {len(verdicts)} dates passed.",
        metadata={"dates": len(verdicts), "failed_dates": len(bad)},
        severity=dg.AssetCheckSeverity.ERROR if stops or not bad else dg.AssetCheckSeverity.WARN,
    )


def log_evaluation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    check: dg.AssetCheckKey,
    date: str,
    verdict: Verdict,
) -> None:
    """Log the verdict on a date, which need not be one of the run."""
    context.log_event(
        # Dagster's annotation lacks this event, which its own runs take.
        dg.AssetCheckEvaluation(  # pyright: ignore[reportArgumentType]
            asset_key=check.asset_key,
            check_name=check.name,
            passed=verdict.passed,
            description=verdict.description,
            metadata=verdict.metadata,
            severity=_severity(verdict),
            partition=date,
        )
    )


def _severity(verdict: Verdict) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity(verdict.severity.upper())
