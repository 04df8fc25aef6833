"""Judging dates: a check's verdict on each, and how Dagster gets it.

What is judged, and by what measure, stands with the assets.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast

import dagster as dg

from platform_assets.errors import EXPECTED, PlatformError, describe_error
from platform_assets.partitions import materialized_dates
from platform_assets.retries import attempt, retry_dates

_MOST_DESCRIPTIONS = 5
_PAGE = 1000
# Which materialisation an evaluation judges: what Dagster needs to tell whether it is current.
Target = Any
Context = dg.OpExecutionContext | dg.AssetExecutionContext


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
    step = context.op_execution_context
    dates = dates_to_check(step, spec.asset_key)
    verdicts = judge_each(dates, judge)
    result = report_verdicts(step, spec.key, verdicts, find_targets(step, spec.asset_key, dates))
    # Dagster takes None, too, which its annotation of checks lacks.
    return cast(dg.AssetCheckResult, result)


def check_now(judge: Callable[[], Verdict]) -> dg.AssetCheckResult:
    """The result of a check of what is now; what could not be checked has not passed."""
    try:
        verdict = judge()
    except EXPECTED as error:
        verdict = Verdict(False, f"could not be checked: {error}")
    return to_result(verdict)


def to_result(verdict: Verdict) -> dg.AssetCheckResult:
    """The result of a check that is of no date, and the only one of its step."""
    return dg.AssetCheckResult(
        passed=verdict.passed,
        description=verdict.description,
        metadata=verdict.metadata,
        severity=dg.AssetCheckSeverity(verdict.severity.upper()),
    )


def has_dates(context: Context) -> bool:
    """Whether the run is of a date, or of a range of dates."""
    return context.has_partition_key or context.has_partition_key_range


def dates_to_check(context: Context, asset: dg.AssetKey) -> list[str]:
    """The dates of the run, or the asset's newest one where the run has none.

    Dagster starts checks without a partition by "Execute all" on an asset's page.
    """
    if has_dates(context):
        return list(context.partition_keys)
    materialized = materialized_dates(context.instance, asset)
    if not materialized:
        raise dg.Failure(
            f"No date was given, and {asset.to_user_string()} has none that is materialised: "
            "materialise it first.",
            allow_retries=False,
        )
    newest = max(materialized)
    context.log.info(f"No date was given: {newest}, the newest that is materialised, is checked.")
    return [newest]


def find_targets(context: Context, asset: dg.AssetKey, dates: Sequence[str]) -> dict[str, Target]:
    """The newest materialisation of each date that has one: what evaluations of it judge."""
    targets: dict[str, Target] = {}
    wanted, cursor = set(dates), None
    while wanted:
        page = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset, asset_partitions=sorted(wanted)),
            limit=_PAGE,
            cursor=cursor,
        )
        for record in page.records:  # newest first
            if record.partition_key in wanted:
                wanted.remove(record.partition_key)
                targets[record.partition_key] = _target(record)
        if not page.has_more:
            break
        cursor = page.cursor
    return targets


def _target(record: dg.EventLogRecord) -> Target:
    # Dagster has no public name for this class, but reads what it has written by a public function.
    return dg.deserialize_value(
        json.dumps(
            {
                "__class__": "AssetCheckEvaluationTargetMaterializationData",
                "run_id": record.event_log_entry.run_id,
                "storage_id": record.storage_id,
                "timestamp": record.timestamp,
            }
        )
    )


def judge_each(
    dates: Sequence[str], judge: Callable[[str], Verdict], *, at_once: int = 1
) -> dict[str, Verdict]:
    """The verdict on each date; a date that could not be checked has not passed.

    Args:
        judge: Called from that many threads.
        at_once: How many dates are checked at a time: a store that is far away keeps each waiting.
    """

    def attempt_all(to_judge: Sequence[str]) -> dict[str, Verdict | Exception]:
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="check")
        try:
            verdicts = pool.map(partial(attempt, judge), to_judge)
            return dict(zip(to_judge, verdicts, strict=True))
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
    context: Context,
    check: dg.AssetCheckKey,
    verdicts: Mapping[str, Verdict],
    targets: Mapping[str, Target],
) -> dg.AssetCheckResult | None:
    """Tell Dagster the verdict on each date of the run.

    Args:
        targets: Date → which materialisation it judges, as `find_targets` gives them.

    Returns:
        The result that decides over what is downstream: of the one date, or of all together. In a
        run of a range, be it of a single date, Dagster gives it no partition: the evaluations of
        the dates are logged beside it. None in a run without dates, in which Dagster takes none.
    """
    if context.has_partition_key:
        ((date, verdict),) = verdicts.items()
        return dg.AssetCheckResult(**_describe(check, verdict, date))
    # Dagster shows the last one as the check's own: a refusal, if there is any.
    for date, verdict in sorted(verdicts.items(), key=lambda item: _weight(item[1])):
        log_evaluation(context, check, date, verdict, targets.get(date))
    if has_dates(context):
        return dg.AssetCheckResult(**_describe(check, _join(verdicts)))
    return None


def _weight(verdict: Verdict) -> int:
    return verdict.stops + (not verdict.passed)


def log_evaluation(
    context: Context, check: dg.AssetCheckKey, date: str, verdict: Verdict, target: Target | None
) -> None:
    """Log the verdict on a date, which need not be one of the run."""
    context.log_event(
        # Dagster's annotation lacks this event, which its own runs take.
        dg.AssetCheckEvaluation(  # pyright: ignore[reportArgumentType]
            **_describe(check, verdict, date), partition=date, target_materialization_data=target
        )
    )


def _join(verdicts: Mapping[str, Verdict]) -> Verdict:
    """One verdict on all dates; it stops what is downstream if one of them does."""
    bad = {date: verdict for date, verdict in verdicts.items() if not verdict.passed}
    descriptions = [f"{date}: {verdict.description}" for date, verdict in bad.items()]
    more = f" … and {len(bad) - _MOST_DESCRIPTIONS} more." if len(bad) > _MOST_DESCRIPTIONS else ""
    stops = not bad or any(verdict.stops for verdict in bad.values())
    return Verdict(
        not bad,
        " ".join(descriptions[:_MOST_DESCRIPTIONS]) + more or f"All {len(verdicts)} dates passed.",
        {"dates": len(verdicts), "failed_dates": len(bad)},
        severity="error" if stops else "warn",
    )


def _describe(check: dg.AssetCheckKey, verdict: Verdict, date: str | None = None) -> dict[str, Any]:
    """What Dagster's classes of results and of evaluations have in common."""
    return {
        "asset_key": check.asset_key,
        "check_name": check.name,
        "passed": verdict.passed,
        # In a run's log nothing else tells which date an evaluation is of.
        "description": f"{date}: {verdict.description}" if date else verdict.description,
        "metadata": verdict.metadata,
        "severity": dg.AssetCheckSeverity(verdict.severity.upper()),
    }
