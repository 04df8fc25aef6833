"""Results of the number cruncher, which works on all dates of a run in one pass outside Dagster.

What it computes, and how it publishes, stands in `numbercruncher`; where it runs, in
`resources.docker`. Here its messages become materialisations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import dagster as dg

from platform_assets.airbnb import snapshots
from platform_assets.outcomes import Made
from resources.docker import DockerResource, ModuleRunError
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


UNREPORTED = NotCrunchedError("The number cruncher did not report this date.")


def _spec(key: dg.AssetKey, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=key,
        deps=[snapshots.SPEC],
        group_name="airbnb",
        kinds={"docker", "pandas", "s3"},
        owners=["team:data-engineering"],
        description=description,
        code_version=CODE_VERSION,
        skippable=True,
    )


SPECS = (
    _spec(
        PRICE_CHANGES,
        "How each listing's price changed from its first to its last priced snapshot up to the "
        "day; with the five biggest rises and falls.",
    ),
    _spec(
        NEIGHBOURHOOD_SUMMARY,
        "Listings and prices of the day by neighbourhood and room type.",
    ),
)


@dataclass(frozen=True)
class Crunched:
    """What became of a date, by asset."""

    outcomes: Mapping[dg.AssetKey, Made | Exception]

    @property
    def transient(self) -> bool:
        """Whether another attempt may make what failed."""
        return any(getattr(each, "transient", False) for each in self.outcomes.values())

    def __str__(self) -> str:
        """Why not all of it was made, once where the reason is the same."""
        errors = [str(each) for each in self.outcomes.values() if isinstance(each, Exception)]
        return " ".join(dict.fromkeys(errors))


class Cruncher:
    """The number cruncher, as a run uses it.

    Attributes:
        outdated: Later dates whose price changes were made of other snapshots than are there now.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        docker: DockerResource,
        store: ObjectStore,
        keys: Sequence[dg.AssetKey],
    ) -> None:
        self._context = context
        self._docker = docker
        self._store = store
        self._keys = keys
        self.outdated: set[str] = set()

    def crunch(self, dates: Sequence[str]) -> dict[str, Crunched]:
        """Run it once over all dates; where it breaks off, the dates that it had reported count."""
        extras = {
            "bucket": self._store.bucket,
            "dates": list(dates),
            "outputs": [key.path[-1] for key in self._keys],
            "code_version": CODE_VERSION,
        }
        messages: Sequence[Mapping[str, Any]]
        try:
            run = self._docker.run(self._context, MODULE, extras=extras)
        except ResourceError as error:
            self._context.log.warning(str(error))
            messages = error.messages if isinstance(error, ModuleRunError) else ()
            shown, lost = {}, error
        else:
            messages, shown, lost = run.messages, run.metadata, UNREPORTED
        self.outdated.update(date for each in messages for date in each.get("outdated", []))
        reported = {each["date"]: each for each in messages if "date" in each}
        return {
            date: Crunched(
                {
                    key: _outcome(reported[date], key, self._store, shown)
                    if date in reported
                    else lost
                    for key in self._keys
                }
            )
            for date in dates
        }


def _outcome(
    message: Mapping[str, Any],
    key: dg.AssetKey,
    store: ObjectStore,
    shown: Mapping[str, Any],
) -> Made | Exception:
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
