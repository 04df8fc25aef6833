"""The button that makes the dates of the listings that failed, are missing or are outdated.

A backfill makes dates that lie side by side in one run, and scattered ones in a run each. This
makes exactly those that need it in one run, wherever they lie.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from enum import Enum

import dagster as dg
from pydantic import Field

from platform_assets.airbnb.listings_chain import ASSETS, checks_at_once
from platform_assets.airbnb.processed import NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES
from platform_assets.chain import ChainAsset, ChainRun, Plan
from platform_assets.partitions import DAILY
from platform_assets.retries import list_dates

Statuses = Mapping[str, dg.AssetPartitionStatus | None]

_NAMES = [asset.key.to_user_string() for asset in ASSETS]


class Which(Enum):
    """Which dates are made. Dagster shows and takes the names."""

    failed = "failed"
    missing = "missing"
    outdated = "outdated"


class Repair(dg.Config):
    """What is made again."""

    which: Which = Field(
        default=Which.failed,
        description=(
            "failed: the last run of it failed; missing: never made; outdated: price changes and "
            "summaries that were made of other snapshots than there are now."
        ),
    )
    assets: list[str] = Field(default=_NAMES, description="Of these assets.")
    from_date: str = Field(
        default="", description="YYYY-MM-DD; the first date that was ever made if empty."
    )
    to_date: str = Field(
        default="", description="YYYY-MM-DD; the day that has just ended (UTC) if empty."
    )


_STATUS: Mapping[Which, dg.AssetPartitionStatus | None] = {
    Which.failed: dg.AssetPartitionStatus.FAILED,
    Which.missing: None,
    # Which of them are outdated, the number cruncher tells: it makes no others.
    Which.outdated: dg.AssetPartitionStatus.MATERIALIZED,
}


@dg.op(
    required_resource_keys={key for asset in ASSETS for key in asset.resources},
    out=dg.Out(dg.Nothing),
)
def repair_dates(context: dg.OpExecutionContext, config: Repair) -> None:
    """Make the dates that need it, and check them."""
    assets = choose_assets(config)
    dates: dict[dg.AssetKey, Sequence[str]] = {}
    for asset in assets:
        statuses = context.instance.get_status_by_partition(
            asset.key, DAILY.get_partition_keys(), DAILY
        )
        dates[asset.key] = choose_dates(config, statuses or {})
        chosen = list_dates(dates[asset.key]) or "none"
        state = "that may be outdated" if config.which is Which.outdated else config.which.value
        context.log.info(f"{asset.key.to_user_string()}, dates {state}: {chosen}.")
    checks = {
        asset.check_key(check.name): dates[asset.key] for asset in assets for check in asset.checks
    }
    plan = Plan(dates, checks, only_changed=config.which is Which.outdated)
    run = ChainRun(context, plan, checks_at_once(context.resources))
    for _ in run.process(ASSETS):
        pass  # an op hands nothing on: its events are in Dagster's records by then


def choose_assets(config: Repair) -> list[ChainAsset]:
    """The assets of the form.

    Raises:
        dagster.Failure: One of them is none of the listings' chain.
    """
    unknown = set(config.assets) - set(_NAMES)
    if unknown:
        raise dg.Failure(
            f"{', '.join(sorted(unknown))}: only {', '.join(_NAMES)} can be repaired here. "
            "Choose the failed dates of others on the page of the asset, by Materialize.",
            allow_retries=False,
        )
    known = (PRICE_CHANGES, NEIGHBOURHOOD_SUMMARY) if config.which is Which.outdated else ASSETS
    return [asset for asset in known if asset.key.to_user_string() in config.assets]


def choose_dates(config: Repair, statuses: Statuses) -> list[str]:
    """The dates of an asset that are as the form says.

    Args:
        statuses: Date → Dagster's status of it, in the order of dates; None where it was never
            made.

    Raises:
        dagster.Failure: A date of the form is none, or they are the wrong way round.
    """
    known = [day for day, status in statuses.items() if status is not None]
    first = _day(config.from_date) or next(iter(known), "9999")
    last = _day(config.to_date) or "9999"
    if config.from_date and first > last:
        raise dg.Failure(
            f"from_date, {first}, is after to_date, {last}: exchange them.", allow_retries=False
        )
    return [
        day
        for day, status in statuses.items()
        if first <= day <= last and status is _STATUS[config.which]
    ]


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError as error:
        raise dg.Failure(
            f"{text!r} is no date: write it as YYYY-MM-DD.", allow_retries=False
        ) from error


@dg.job(
    config=dg.RunConfig(ops={"repair_dates": Repair()}),
    description=(
        "Makes the dates of the listings that failed, are missing or are outdated, exactly those "
        "and in one run. The form says which."
    ),
)
def repair() -> None:
    repair_dates()
