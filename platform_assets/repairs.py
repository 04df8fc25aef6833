"""The button that makes the dates of a chain that failed, are missing or are outdated.

A backfill makes dates that lie side by side in one run, and scattered ones in a run each. This
makes exactly those that need it in one run, wherever they lie.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from typing import Any

import dagster as dg
from pydantic import Field

from platform_assets.chain import ChainAsset, ChainRun, Plan
from platform_assets.partitions import DAILY, list_dates

Statuses = Mapping[str, dg.AssetPartitionStatus | None]


class DateState(Enum):
    """The state of the dates that are made. Dagster shows and takes the names."""

    failed = "failed"
    missing = "missing"
    outdated = "outdated"


class Repair(dg.Config):
    """What is made again."""

    which: DateState = Field(
        default=DateState.failed,
        description=(
            "failed: the last run of it failed; missing: never made; outdated: made of other data, "
            "with other settings or by other code than there are now. All such dates of a model "
            "are trained again, which costs."
        ),
    )
    assets: list[str] = Field(
        default=[],
        description=(
            "Of these assets; of all if empty, but under outdated of no model that is not named."
        ),
    )
    from_date: str = Field(
        default="",
        description="YYYY-MM-DD; if empty, the first date of the whole chain that was ever made.",
    )
    to_date: str = Field(
        default="", description="YYYY-MM-DD; the day that has just ended (UTC) if empty."
    )


_STATUS: Mapping[DateState, dg.AssetPartitionStatus | None] = {
    DateState.failed: dg.AssetPartitionStatus.FAILED,
    DateState.missing: None,
    # Which of them are outdated, their makers find out, and make no others.
    DateState.outdated: dg.AssetPartitionStatus.MATERIALIZED,
}


def build_repair_job(
    name: str,
    chain: Sequence[ChainAsset],
    *,
    of_what: str,
    served_by: Sequence[dg.AssetKey] = (),
    checks_at_once: Callable[[Any], int] = lambda _: 1,
    pool: str | None = None,
) -> dg.JobDefinition:
    """The job that repairs a chain. Its only op is called `NAME_dates`.

    Args:
        name: Of the job.
        chain: The assets, each after those that it is made of.
        of_what: Whose dates, for its description.
        served_by: What is to be materialised for it to serve what is made here, for the same.
        checks_at_once: As of `build_chain`.
        pool: As of `build_chain`.
    """

    @dg.op(
        name=f"{name}_dates",
        required_resource_keys={key for asset in chain for key in asset.resources},
        out=dg.Out(dg.Nothing),
        pool=pool,
    )
    def repair_dates(context: dg.OpExecutionContext, config: Repair) -> None:
        """Make the dates that need it, and check them."""
        plan = make_plan(context, config, chain)
        for _ in ChainRun(context, plan, checks_at_once(context.resources)).process(chain):
            pass  # an op hands nothing on: its events are in Dagster's records by then

    names = [asset.key.to_user_string() for asset in chain]
    endpoints = " and ".join(key.to_user_string() for key in served_by)
    deploying = f" It deploys nothing: materialise {endpoints} afterwards." if endpoints else ""

    @dg.job(
        name=name,
        # With a configuration of its own, the UI's form opens with this. It names no asset: a
        # model would count as named.
        config=dg.RunConfig(ops={f"{name}_dates": Repair()}),
        description=(
            f"Makes the dates of {of_what} that failed, are missing or are outdated, exactly those "
            f"and in one run. The form says which, of {', '.join(names)}.{deploying}"
        ),
    )
    def job() -> None:
        repair_dates()

    return job


def make_plan(context: dg.OpExecutionContext, config: Repair, chain: Sequence[ChainAsset]) -> Plan:
    """Which dates of which assets are made and checked.

    Raises:
        dagster.Failure: The form names an asset of another chain, or no date; or there is nothing
            that could be made by it.
    """
    assets = choose_assets(config, chain)
    if config.which is DateState.outdated:
        assets = assets_to_compare(assets, config.assets, context.log)
    days = DAILY.get_partition_keys()
    statuses: dict[dg.AssetKey, Statuses] = {
        asset.key: context.instance.get_status_by_partition(asset.key, days, DAILY)
        or dict.fromkeys(days)
        for asset in chain
    }
    first = first_known(statuses.values())
    if config.which is DateState.missing and not (first or config.from_date):
        raise dg.Failure(
            "No date was ever made, so there is no first one: fill in from_date.",
            allow_retries=False,
        )
    dates: dict[dg.AssetKey, Sequence[str]] = {}
    for asset in assets:
        dates[asset.key] = choose_dates(config, statuses[asset.key], first)
        chosen = list_dates(dates[asset.key]) or "none"
        state = "that may be outdated" if config.which is DateState.outdated else config.which.value
        context.log.info(f"{asset.key.to_user_string()}, dates {state}: {chosen}.")
    checks = {
        asset.check_key(check.name): dates[asset.key] for asset in assets for check in asset.checks
    }
    return Plan(dates, checks, only_changed=config.which is DateState.outdated)


def choose_assets(config: Repair, chain: Sequence[ChainAsset]) -> list[ChainAsset]:
    """The assets of the form.

    Raises:
        dagster.Failure: One of them is none of the chain.
    """
    names = [asset.key.to_user_string() for asset in chain]
    if unknown := set(config.assets) - set(names):
        raise dg.Failure(
            f"{', '.join(sorted(unknown))}: only {', '.join(names)} can be repaired here. "
            "Choose the failed dates of others on the page of the asset, by Materialize.",
            allow_retries=False,
        )
    return [
        asset for asset, name in zip(chain, names, strict=True) if name in (config.assets or names)
    ]


def assets_to_compare(
    assets: Sequence[ChainAsset], named: Collection[str], log: dg.DagsterLogManager
) -> list[ChainAsset]:
    """Those whose outdated dates are made; the log says why others are left out.

    Args:
        assets: Those that are asked for.
        named: What the form names.
        log: Of the run.

    Raises:
        dagster.Failure: There is none.
    """
    compared: list[ChainAsset] = []
    reasons: list[str] = []
    for asset in assets:
        name = asset.key.to_user_string()
        if asset.spec.tags["tier"] == "raw":
            reasons.append(
                f"{name} is a copy of what is outside and is not compared: materialise the dates "
                "that have changed there."
            )
        elif asset.is_trained and name not in named:
            reasons.append(
                f"{name} is left out: its outdated dates would be trained again, which costs. "
                "Name it in the form's assets if they are to be."
            )
        else:
            compared.append(asset)
    if not compared:
        raise dg.Failure(f"Nothing is left to make. {' '.join(reasons)}", allow_retries=False)
    for reason in reasons:
        log.info(reason)
    return compared


def first_known(statuses: Iterable[Statuses]) -> str:
    """The first date that was made, or failed, of any asset; empty where there is none.

    Args:
        statuses: Of each asset: date → Dagster's status of it; None where it was never made.
    """
    known = (day for of_asset in statuses for day, status in of_asset.items() if status is not None)
    return min(known, default="")


def choose_dates(config: Repair, statuses: Statuses, first_known: str) -> list[str]:
    """The dates of an asset that are as the form says.

    Args:
        config: The form.
        statuses: Date → Dagster's status of it, in the order of dates; None where it was never
            made.
        first_known: The first date of the chain, where the form has none.

    Raises:
        dagster.Failure: A date of the form is none, or they are the wrong way round.
    """
    first = _day(config.from_date) or first_known
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
