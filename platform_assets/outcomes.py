"""How the outcome of each date reaches Dagster: events for what was made, one failure for the rest.

What is made, and how, stands with the assets; nothing here knows S3, digits or listings.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

# The public tag under which Dagster reads a data version off a materialisation.
DATA_VERSION_TAG = "dagster/data_version"


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
    """What a check found out about one date."""

    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


Outcomes = Mapping[str, Made | Exception]


def make_each(dates: Sequence[str], make: Callable[[str], Made], *, workers: int = 1) -> Outcomes:
    """Call `make` for every date; what it raised stands in the place of what it made."""

    def attempt(date: str) -> Made | Exception:
        try:
            return make(date)
        except Exception as error:  # `report` names it with its date
            return error

    if workers == 1:  # in this thread, where the interruption of a run is raised
        return {date: attempt(date) for date in dates}
    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(dates, pool.map(attempt, dates), strict=True))


def report(
    context: dg.AssetExecutionContext, outcomes: Outcomes, *, key: dg.AssetKey | None = None
) -> dg.MaterializeResult[Any]:
    """Tell Dagster of each date what became of it; a date that fails, fails alone.

    Args:
        context: Of an asset partitioned by days.
        outcomes: What became of every date of the run.
        key: Of which asset, where the step makes several.

    Returns:
        The result to return or yield when all dates were made. Dagster writes a materialisation
        for each date of the run from it, with that date's own metadata.

    Raises:
        dagster.Failure: When a date failed, naming each with its reason. The dates that were made
            are recorded before. A retry is allowed only where a later attempt may succeed.
    """
    key = key or context.asset_key
    made = {date: outcome for date, outcome in outcomes.items() if isinstance(outcome, Made)}
    failed = {date: error for date, error in outcomes.items() if isinstance(error, Exception)}
    if failed:
        for date, error in failed.items():
            if not _foreseen(error):
                context.log.error(f"{date} failed unforeseen", exc_info=error)
        for date, outcome in made.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key=key,
                    partition=date,
                    metadata=outcome.metadata,
                    tags={DATA_VERSION_TAG: outcome.data_version},
                )
            )
        raise failure(failed, of=key) from next(iter(failed.values()))
    for date, outcome in made.items():
        context.add_asset_metadata(outcome.metadata, asset_key=key, partition_key=date)
    return dg.MaterializeResult(asset_key=key, data_version=_version(made))


def _version(made: Mapping[str, Made]) -> dg.DataVersion:
    """One version for all dates of a run, since Dagster takes one: it changes if any of them does.

    A date's own version is that of a run of this date alone; in a run of several, what is
    downstream of an unchanged date may therefore show as outdated, but never the other way round.
    """
    if len(made) == 1:
        return dg.DataVersion(next(iter(made.values())).data_version)
    versions = sorted(f"{date} {outcome.data_version}" for date, outcome in made.items())
    return dg.DataVersion(hashlib.sha256("\n".join(versions).encode()).hexdigest())


def failure(failed: Mapping[str, Exception], *, of: dg.AssetKey) -> dg.Failure:
    """One failure that names every date that failed, with its reason.

    Errors that know of themselves that they may pass (`transient`) allow Dagster to try again.
    """
    reasons = [f"{date}: {reason(error)}" for date, error in failed.items()]
    head = f"{of.to_user_string()} failed for {len(failed)} date(s). "
    return dg.Failure(
        description=head + " ".join(reasons[:5]) + (" …" if len(reasons) > 5 else ""),
        metadata={"failed": {date: reason(error) for date, error in failed.items()}},
        # What was made is found again, so a retry costs only what failed.
        allow_retries=any(getattr(error, "transient", False) for error in failed.values()),
    )


def reason(error: Exception) -> str:
    """What an error says; with its type where nobody wrote its words for people."""
    return str(error) if _foreseen(error) else f"{type(error).__name__}: {error}"


def _foreseen(error: Exception) -> bool:
    return type(error).__module__.split(".")[0] in {"formats", "platform_assets", "resources"}


def check_each(
    context: dg.AssetCheckExecutionContext, verify: Callable[[str], Verdict]
) -> dg.AssetCheckResult:
    """Verify every date of the run. Each date gets an evaluation of its own.

    Dagster gives a result its partition in a run of one date only; in a run of several, each
    date's evaluation is logged, and the result that decides over what is downstream is of all.

    Args:
        context: Of a check with a partitions definition.
        verify: Gives the verdict on one date; what it raises counts as a failed check that says so.
    """
    verdicts = {date: _verdict(verify, date) for date in context.partition_keys}
    if len(verdicts) == 1:
        (only,) = verdicts.values()
        return dg.AssetCheckResult(
            passed=only.passed, description=only.description, metadata=only.metadata
        )
    for date, verdict in verdicts.items():
        context.op_execution_context.log_event(
            # Dagster's annotation lacks this event, which its own runs take.
            dg.AssetCheckEvaluation(  # pyright: ignore[reportArgumentType]
                asset_key=context.check_specs[0].asset_key,
                check_name=context.check_specs[0].name,
                passed=verdict.passed,
                description=verdict.description,
                metadata=verdict.metadata,
                partition=date,
            )
        )
    bad = [
        f"{date}: {verdict.description}" for date, verdict in verdicts.items() if not verdict.passed
    ]
    return dg.AssetCheckResult(
        passed=not bad,
        description=" ".join(bad[:5]) or f"All {len(verdicts)} dates passed.",
        metadata={"dates": len(verdicts), "failed_dates": len(bad)},
    )


def _verdict(verify: Callable[[str], Verdict], date: str) -> Verdict:
    try:
        return verify(date)
    except Exception as error:  # a check that cannot be made is not a passed one
        if getattr(error, "transient", False):
            raise  # the step is tried again
        return Verdict(passed=False, description=f"could not be checked: {reason(error)}")
