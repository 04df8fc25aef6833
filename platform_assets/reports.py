"""Reporting dates to Dagster: a materialisation of what was made, one failure for the rest.

What is made, and how, stands with the assets; nothing here knows S3, digits or listings.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from formats.columns import Column
from platform_assets.checks import Context, DateRefusedError, Verdict, has_dates
from platform_assets.errors import EXPECTED, describe_error
from platform_assets.partitions import list_dates
from platform_assets.retries import attempt, retry_dates

# The public tag under which Dagster reads a data version off a materialisation.
DATA_VERSION_TAG = "dagster/data_version"
_MOST_REASONS = 5


@dataclass(frozen=True)
class Materialization:
    """A date of an asset that was made.

    Attributes:
        metadata: Shown on the partition's materialisation.
        data_version: Equal where the bytes are equal: a sha256 or an ETag.
        verdicts: Of checks that were evaluated before it was published, by their names.
    """

    metadata: Mapping[str, Any]
    data_version: str
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])


Outcome = Materialization | Exception
Outcomes = Mapping[str, Outcome]


def make_each(
    context: dg.AssetExecutionContext, make: Callable[[str], Materialization]
) -> dg.MaterializeResult[Any]:
    """Make every date of the run of an asset, and tell Dagster what became of each.

    What `make` raises fails its date alone; where that is transient, the date is tried again.

    Returns:
        The result to return when all dates were made.

    Raises:
        dagster.Failure: When a date failed, naming each with its reason. The dates that were made
            are recorded before.
    """
    outcomes: dict[str, Outcome] = retry_dates(
        context.partition_keys, lambda dates: {date: attempt(make, date) for date in dates}
    )
    result = report_made(context, outcomes, key=context.asset_key)
    if result is None:
        failed = {(context.asset_key, date): e for date, e in errors_of(outcomes).items()}
        raise dates_failure(failed) from next(iter(failed.values()))
    return result


def report_made(
    context: Context, outcomes: Outcomes, *, key: dg.AssetKey
) -> dg.MaterializeResult[Any] | None:
    """Tell Dagster of the dates that were made, each with its own metadata.

    The traceback of an unexpected error is put into the run's log.

    Returns:
        Where every date of the run was made, the result from which Dagster writes a
        materialisation for each. Otherwise None, since Dagster would write one for those that were
        not, too: the events of the others are logged here.
    """
    for date, error in errors_of(outcomes).items():
        if not isinstance(error, EXPECTED):
            context.log.error(f"{date} failed unexpectedly", exc_info=error)
    materializations = {
        date: outcome for date, outcome in outcomes.items() if isinstance(outcome, Materialization)
    }
    if (
        isinstance(context, dg.AssetExecutionContext)
        and has_dates(context)
        and set(materializations) == set(context.partition_keys)
    ):
        for date, outcome in materializations.items():
            context.add_asset_metadata(outcome.metadata, asset_key=key, partition_key=date)
        return dg.MaterializeResult(asset_key=key, data_version=_joint_version(materializations))
    for date, outcome in materializations.items():
        context.log_event(
            dg.AssetMaterialization(
                asset_key=key,
                partition=date,
                metadata=outcome.metadata,
                tags={DATA_VERSION_TAG: outcome.data_version},
            )
        )
    return None


def _joint_version(outcomes: Mapping[str, Materialization]) -> dg.DataVersion:
    """One version for all dates of a run, since Dagster takes one: it changes if any of them does.

    A date's own version is that of a run of this date alone; in a run of several, what is
    downstream of an unchanged date may therefore show as outdated, but never the other way round.
    """
    if len(outcomes) == 1:
        return dg.DataVersion(next(iter(outcomes.values())).data_version)
    versions = sorted(f"{date} {outcome.data_version}" for date, outcome in outcomes.items())
    return dg.DataVersion(hashlib.sha256("\n".join(versions).encode()).hexdigest())


def errors_of(outcomes: Outcomes) -> dict[str, Exception]:
    """The dates that failed, with their errors."""
    return {date: outcome for date, outcome in outcomes.items() if isinstance(outcome, Exception)}


def verdicts_of(outcome: Outcome) -> Mapping[str, Verdict]:
    """What checks said of a date before it was published or refused, by their names."""
    return outcome.verdicts if isinstance(outcome, Materialization | DateRefusedError) else {}


def dates_failure(failed: Mapping[tuple[dg.AssetKey, str], Exception]) -> dg.Failure:
    """One failure that names every asset and date that failed, equal reasons once.

    Args:
        failed: (asset, date) → why.
    """
    dates: dict[str, list[str]] = defaultdict(list)
    for (key, date), error in failed.items():
        dates[f"{key.to_user_string()}: {describe_error(error)}"].append(date)
    count = len({date for _, date in failed})
    reasons = [f"{list_dates(days)}: {reason}" for reason, days in dates.items()]
    more = " …" if len(reasons) > _MOST_REASONS else ""
    return dg.Failure(
        description=f"{count} date(s) failed. {' '.join(reasons[:_MOST_REASONS])}{more}",
        metadata={"failed": {reason: ", ".join(days) for reason, days in dates.items()}},
        # What may pass was tried again already.
        allow_retries=False,
    )


def table_schema(columns: Iterable[Column], descriptions: Mapping[str, str]) -> dg.TableSchema:
    """Columns as Dagster shows them: the value of the metadata "dagster/column_schema".

    Args:
        descriptions: Column → a line of text, with its unit.
    """
    return dg.TableSchema(
        columns=[dg.TableColumn(c.name, c.type, descriptions.get(c.name)) for c in columns]
    )


@contextmanager
def expected_errors_as_failures() -> Iterator[None]:
    """Within it, an error that is written for people fails the step with its sentence.

    For steps that are of no date. What may pass was tried again already, or is by the next run.
    """
    try:
        yield
    except EXPECTED as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
