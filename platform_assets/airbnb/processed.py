"""Results of the number cruncher, which works on all dates of a run in one pass outside Dagster.

What it computes, and how it publishes, stands in `numbercruncher`; where it runs, in
`resources.docker`. Here its messages become materialisations.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import dagster as dg

from platform_assets.airbnb import snapshots
from platform_assets.outcomes import Made, failure, report
from platform_assets.partitions import DAILY, ONE_RUN, RETRIES
from resources.docker import DockerResource
from resources.docker_errors import ModuleRunError
from resources.errors import ResourceError
from resources.s3 import ObjectStore

PRICE_CHANGES = dg.AssetKey(["airbnb", "price_changes"])
NEIGHBOURHOOD_SUMMARY = dg.AssetKey(["airbnb", "neighbourhood_summary"])
MODULE = "numbercruncher"
CODE_VERSION = "1"


def prefix(asset: dg.AssetKey, date: str) -> str:
    """Where a date's result stands."""
    return f"{'/'.join(asset.path)}/date={date}"


class NotCrunchedError(Exception):
    """The number cruncher says that it could not make a date, and why."""


class PassingNotCrunchedError(NotCrunchedError):
    """The same, where the same attempt may succeed later."""

    transient: ClassVar[bool] = True


def _spec(key: dg.AssetKey, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=key,
        deps=[snapshots.airbnb_snapshot],
        group_name="airbnb",
        kinds={"docker", "pandas", "s3"},
        owners=["team:data-engineering"],
        description=description,
        code_version=CODE_VERSION,
        skippable=True,
    )


@dg.multi_asset(
    name="number_cruncher",
    specs=[
        _spec(
            PRICE_CHANGES,
            "How each listing's price changed from its first to its last priced snapshot up to "
            "the day; with the five biggest rises and falls.",
        ),
        _spec(
            NEIGHBOURHOOD_SUMMARY,
            "Listings and prices of the day by neighbourhood and room type.",
        ),
    ],
    can_subset=True,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    retry_policy=RETRIES,
)
def airbnb_results(
    context: dg.AssetExecutionContext, docker: DockerResource, listings_store: ObjectStore
) -> Iterator[dg.MaterializeResult]:
    keys = sorted(context.selected_asset_keys)
    messages, shown = crunch(context, docker, listings_store, keys)
    failures: list[dg.Failure] = []
    for key in keys:
        outcomes = {
            date: _outcome(messages.get(date), key, listings_store, shown)
            for date in context.partition_keys
        }
        try:
            yield report(context, outcomes, key=key)
        except dg.Failure as error:
            failures.append(error)
    if failures:
        raise merged(failures)


def crunch(
    context: dg.AssetExecutionContext,
    docker: DockerResource,
    store: ObjectStore,
    keys: list[dg.AssetKey],
) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, Any]]:
    """Run the number cruncher over the dates of the run.

    Returns:
        Its message about each date, and how it was run.

    Raises:
        dagster.Failure: It could not be run, or ended before it had reported any date.
    """
    extras = {
        "bucket": store.bucket,
        "dates": list(context.partition_keys),
        "outputs": [key.path[-1] for key in keys],
        "code_version": CODE_VERSION,
    }
    try:
        run = docker.run(context, MODULE, extras=extras)
    except ModuleRunError as error:
        if not error.messages:
            raise failure({"all dates": error}, of=keys[0]) from error
        context.log.warning(str(error))  # raised below, for the dates that it lost
        reported = {message["date"]: message for message in error.messages}
        lost = {"error": str(error), "transient": error.transient, "outputs": {}}
        return {date: reported.get(date, lost) for date in context.partition_keys}, {}
    except ResourceError as error:
        raise failure({"all dates": error}, of=keys[0]) from error
    return {message["date"]: message for message in run.messages}, run.metadata


def _outcome(
    message: Mapping[str, Any] | None,
    key: dg.AssetKey,
    store: ObjectStore,
    shown: Mapping[str, Any],
) -> Made | Exception:
    if message is None:
        return NotCrunchedError("The number cruncher did not report this date.")
    output = message["outputs"].get(key.path[-1], message)
    if output.get("error"):
        kind = PassingNotCrunchedError if output.get("transient") else NotCrunchedError
        return kind(output["error"])
    return Made(
        metadata={
            "dagster/uri": store.uri(output["prefix"]),
            "dagster/partition_row_count": output["rows"],
            "dagster/column_schema": dg.TableSchema(
                columns=[dg.TableColumn(each["name"], each["type"]) for each in output["columns"]]
            ),
            "bytes": sum(file["bytes"] for file in output["files"]),
            "unchanged": output["status"] == "unchanged",
            **output["metadata"],
            **shown,
        },
        data_version=output["data_version"],
    )


def merged(failures: list[dg.Failure]) -> dg.Failure:
    """One failure of several assets that one step makes."""
    return dg.Failure(
        description=" ".join(str(each.description) for each in failures),
        allow_retries=any(each.allow_retries for each in failures),
    )
