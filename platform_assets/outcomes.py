"""How the outcome of each date reaches Dagster: events for what was made, one failure for the rest.

What is made, and how, stands with the assets; nothing here knows S3, digits or listings.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import dagster as dg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

# The public tag under which Dagster reads a data version off a materialisation.
DATA_VERSION_TAG = "dagster/data_version"
ATTEMPTS = 3
WAIT = wait_exponential(multiplier=5, max=60) + wait_random(0, 5)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Made:
    """What one date came to.

    Attributes:
        metadata: Shown on the partition's materialisation.
        data_version: Equal where the bytes are equal: a sha256 or an ETag.
    """

    metadata: Mapping[str, Any]
    data_version: str


@dataclass(frozen=True)
class Verdict:
    """What a check found out about one date; a warning stops nothing."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["warn", "error"] = "error"

    @property
    def stops(self) -> bool:
        """Whether a blocking check keeps what is downstream from being made."""
        return not self.passed and self.severity == "error"


Outcomes = Mapping[str, Made | Exception]


def persistently(
    dates: Sequence[str],
    make: Callable[[Sequence[str]], Mapping[str, _T]],
) -> dict[str, _T]:
    """Call `make` for all dates, and again for those alone whose error may pass by itself.

    Dagster's own retries begin the whole step again, and do so for a run that is cancelled, too.

    Args:
        dates: What to make.
        make: Gives each date what came of it, errors among them; such as know of themselves that
            they may pass (`transient`) are tried again, with backoff and jitter.
    """
    found: dict[str, _T] = {}

    def passing() -> list[str]:
        return [date for date, each in found.items() if getattr(each, "transient", False)]

    def attempt() -> bool:
        found.update(make(passing() or dates))
        return bool(passing())

    def say(state: RetryCallState) -> None:
        dg.get_dagster_logger().warning(
            f"{spelled(passing())} failed for a reason that may pass: tried again in "
            f"{state.upcoming_sleep:.0f} s. {found[passing()[0]]}"
        )

    Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        retry=retry_if_result(bool),
        retry_error_callback=lambda _: None,
        before_sleep=say,
    )(attempt)
    return found


def make_each(dates: Sequence[str], make: Callable[[str], Made]) -> Outcomes:
    """Call `make` for every date; what it raised stands in the place of what it made."""

    def attempt(date: str) -> Made | Exception:
        try:
            return make(date)
        except Exception as error:  # `report` names it with its date
            return error

    return persistently(dates, lambda some: {date: attempt(date) for date in some})


def report(context: dg.AssetExecutionContext, outcomes: Outcomes) -> dg.MaterializeResult[Any]:
    """Tell Dagster of each date what became of it.

    Args:
        context: Of an asset partitioned by days.
        outcomes: What became of every date of the run.

    Returns:
        The result to return when all dates were made.

    Raises:
        dagster.Failure: When a date failed, naming each with its reason. The dates that were made
            are recorded before.
    """
    results = list(materialized(context, outcomes, key=context.asset_key))
    failed = failures_of(outcomes)
    if failed:
        log_unforeseen(context, failed)
        by_key = {(context.asset_key, date): error for date, error in failed.items()}
        raise failure(by_key) from next(iter(failed.values()))
    (result,) = results
    return result


def materialized(
    context: dg.AssetExecutionContext, outcomes: Outcomes, *, key: dg.AssetKey
) -> Iterator[dg.MaterializeResult[Any]]:
    """Tell Dagster of the dates that were made, each with its own metadata.

    Yields:
        Where no date of the run failed, the result from which Dagster writes a materialisation
        for each. Otherwise nothing, since Dagster would write one for those that failed, too: the
        events of the others are logged here.
    """
    made = {date: outcome for date, outcome in outcomes.items() if isinstance(outcome, Made)}
    if len(made) == len(context.partition_keys):
        for date, outcome in made.items():
            context.add_asset_metadata(outcome.metadata, asset_key=key, partition_key=date)
        yield dg.MaterializeResult(asset_key=key, data_version=_version(made))
        return
    for date, outcome in made.items():
        context.log_event(
            dg.AssetMaterialization(
                asset_key=key,
                partition=date,
                metadata=outcome.metadata,
                tags={DATA_VERSION_TAG: outcome.data_version},
            )
        )


def _version(made: Mapping[str, Made]) -> dg.DataVersion:
    """One version for all dates of a run, since Dagster takes one: it changes if any of them does.

    A date's own version is that of a run of this date alone; in a run of several, what is
    downstream of an unchanged date may therefore show as outdated, but never the other way round.
    """
    if len(made) == 1:
        return dg.DataVersion(next(iter(made.values())).data_version)
    versions = sorted(f"{date} {outcome.data_version}" for date, outcome in made.items())
    return dg.DataVersion(hashlib.sha256("\n".join(versions).encode()).hexdigest())


def failures_of(outcomes: Outcomes) -> dict[str, Exception]:
    """The dates that failed, with what was raised."""
    return {date: error for date, error in outcomes.items() if isinstance(error, Exception)}


def log_unforeseen(context: dg.AssetExecutionContext, failed: Mapping[str, Exception]) -> None:
    """Put the traceback of what nobody foresaw into the run's log."""
    for date, error in failed.items():
        if not _foreseen(error):
            context.log.error(f"{date} failed unforeseen", exc_info=error)


def failure(failed: Mapping[tuple[dg.AssetKey, str], Exception]) -> dg.Failure:
    """One failure that names every asset and date that failed, each reason once."""
    dates: dict[str, list[str]] = defaultdict(list)
    for (key, date), error in failed.items():
        dates[f"{key.to_user_string()}: {reason(error)}"].append(date)
    count = len({date for _, date in failed})
    said = [f"{spelled(days)}: {why}" for why, days in dates.items()]
    return dg.Failure(
        description=f"{count} date(s) failed. {' '.join(said[:5])}" + " …" * (len(said) > 5),
        metadata={"failed": {why: ", ".join(days) for why, days in dates.items()}},
        # What may pass was tried again already.
        allow_retries=False,
    )


def spelled(dates: Sequence[str]) -> str:
    """A few dates by name, many by their number."""
    return ", ".join(dates) if len(dates) < 4 else f"{len(dates)} dates from {dates[0]} on"


def reason(error: Exception) -> str:
    """What an error says; with its type where nobody wrote its words for people."""
    return str(error) if _foreseen(error) else f"{type(error).__name__}: {error}"


def _foreseen(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"formats", "platform_assets", "resources"}


def check_each(
    context: dg.AssetCheckExecutionContext, verify: Callable[[str], Verdict]
) -> dg.AssetCheckResult:
    """Verify every date of the run. Each date gets an evaluation of its own.

    Args:
        context: Of a check with a partitions definition.
        verify: Gives the verdict on one date; what it raises counts as a failed check that says so.
    """
    (spec,) = context.check_specs
    verdicts = judge_each(context.partition_keys, verify)
    log_evaluations(context.op_execution_context, spec.asset_key, spec.name, verdicts)
    return check_result(context.op_execution_context, spec.asset_key, spec.name, verdicts)


def judge_each(
    dates: Sequence[str], verify: Callable[[str], Verdict], *, at_once: int = 1
) -> dict[str, Verdict]:
    """What `verify` finds of each date; a check that cannot be made is not a passed one.

    Args:
        dates: What to check.
        verify: Called from that many threads.
        at_once: How many dates are checked at a time: a store that is far away keeps each waiting.
    """

    def attempt(date: str) -> Verdict | Exception:
        try:
            return verify(date)
        except Exception as error:
            return error

    def attempts(some: Sequence[str]) -> dict[str, Verdict | Exception]:
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="check")
        try:
            return dict(zip(some, pool.map(attempt, some), strict=True))
        finally:  # a run that is interrupted does not wait for those that are being checked
            pool.shutdown(wait=False, cancel_futures=True)

    found = persistently(dates, attempts)
    return {
        date: Verdict(False, f"could not be checked: {reason(each)}")
        if isinstance(each, Exception)
        else each
        for date, each in found.items()
    }


def log_evaluations(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    key: dg.AssetKey,
    check: str,
    verdicts: Mapping[str, Verdict],
) -> None:
    """Log an evaluation of each date where Dagster gives the check's result no partition.

    It does so in a run of one date only, and not in one of a range, be it of a single date.
    """
    if context.has_partition_key:
        return
    for date, found in verdicts.items():
        log_evaluation(context, key, check, date, found)


def log_evaluation(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    key: dg.AssetKey,
    check: str,
    date: str,
    found: Verdict,
) -> None:
    """Log what a check found of a date, which need not be one of the run."""
    context.log_event(
        # Dagster's annotation lacks this event, which its own runs take.
        dg.AssetCheckEvaluation(  # pyright: ignore[reportArgumentType]
            asset_key=key,
            check_name=check,
            passed=found.passed,
            description=found.description,
            metadata=found.metadata,
            severity=_severity(found),
            partition=date,
        )
    )


def check_result(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    key: dg.AssetKey,
    check: str,
    verdicts: Mapping[str, Verdict],
) -> dg.AssetCheckResult:
    """The result that decides over what is downstream: of the one date, or of all together."""
    if context.has_partition_key:
        (only,) = verdicts.values()
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=check,
            passed=only.passed,
            description=only.description,
            metadata=only.metadata,
            severity=_severity(only),
        )
    bad = {date: found for date, found in verdicts.items() if not found.passed}
    said = [f"{date}: {found.description}" for date, found in bad.items()]
    stops = any(found.stops for found in bad.values())
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not bad,
        description=" ".join(said[:5]) or f"All {len(verdicts)} dates passed.",
        metadata={"dates": len(verdicts), "failed_dates": len(bad)},
        severity=dg.AssetCheckSeverity.ERROR if stops or not bad else dg.AssetCheckSeverity.WARN,
    )


def _severity(found: Verdict) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity(found.severity.upper())
