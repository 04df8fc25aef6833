"""The chain of the listings in one step: snapshots, then results, each with its checks.

One step, so that a date that fails drops out by itself and the others go on (see
`platform_assets.chain`). What each asset is, and how it is made, stands in its own module.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg

from platform_assets.airbnb import checks, processed, quality, snapshots
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.chain import Chain
from platform_assets.outcomes import Verdict, judge_each, log_evaluation, persistently
from platform_assets.partitions import DAILY, ONE_RUN
from resources.docker import DockerResource
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore

_SNAPSHOT = snapshots.SPEC.key
_MATCHES_TABLE = "matches_table"
_RESULT_CHECKS: dict[dg.AssetKey, tuple[str, str, Callable[[ObjectStore, str], Verdict]]] = {
    processed.PRICE_CHANGES: (
        "real_rises_and_falls",
        "The five biggest rises and falls are real ones, in order, and those of the whole table.",
        checks.judge_price_changes,
    ),
    processed.NEIGHBOURHOOD_SUMMARY: (
        "adds_up",
        "The groups add up to the snapshot, and their quartiles are in order.",
        checks.judge_neighbourhoods,
    ),
}

_OUTDATED = Verdict(
    False,
    "An earlier snapshot has come or changed since this was made: materialise it again.",
    severity="warn",
)


def _check(key: dg.AssetKey, name: str, description: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name, asset=key, description=description, blocking=True, partitions_def=DAILY
    )


@dg.multi_asset(
    name="listings_chain",
    specs=[snapshots.SPEC, *processed.SPECS],
    check_specs=[
        *(_check(_SNAPSHOT, name, said) for name, (said, _) in quality.CHECKS.items()),
        _check(
            _SNAPSHOT,
            _MATCHES_TABLE,
            "The object has as many rows as the table has of the day, in the order of their ids.",
        ),
        *(_check(key, name, said) for key, (name, said, _) in _RESULT_CHECKS.items()),
    ],
    can_subset=True,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
)
def airbnb_chain(
    context: dg.AssetExecutionContext,
    postgres: PostgresResource,
    listings_table: ListingsTable,
    listings_store: ObjectStore,
    docker: DockerResource,
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    chain = Chain(context)
    yield from _take_snapshots(chain, postgres, listings_table, listings_store)
    keys = [spec.key for spec in processed.SPECS if chain.wants(spec.key)]
    cruncher = processed.Cruncher(context, docker, listings_store, keys)
    if keys and (dates := chain.dates(_SNAPSHOT)):
        crunched = persistently(dates, cruncher.crunch)
        for key in keys:
            outcomes = {date: each.outcomes[key] for date, each in crunched.items()}
            yield from chain.made(key, outcomes)
    for key, (name, _, judge) in _RESULT_CHECKS.items():
        if chain.wants(key, name):
            dates = chain.dates(_SNAPSHOT, key)
            at_once = listings_table.connections
            verdicts = judge_each(dates, partial(judge, listings_store), at_once=at_once)
            yield from chain.checked(key, name, verdicts)
    for date in sorted(cruncher.outdated):
        name, *_ = _RESULT_CHECKS[processed.PRICE_CHANGES]
        log_evaluation(context, processed.PRICE_CHANGES, name, date, _OUTDATED)
    chain.finish()


def _take_snapshots(
    chain: Chain,
    postgres: PostgresResource,
    table: ListingsTable,
    store: ObjectStore,
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    found: dict[str, dict[str, Verdict]] = {}
    if chain.wants(_SNAPSHOT):
        taken = persistently(chain.dates(), snapshots.Exporter(postgres, table, store).take)
        found = {date: each.verdicts for date, each in taken.items()}
        yield from chain.made(_SNAPSHOT, {date: each.outcome for date, each in taken.items()})
    elif any(chain.wants(_SNAPSHOT, name) for name in quality.CHECKS):
        found = snapshots.judge_published(store, table, chain.dates())
    for name in quality.CHECKS:
        verdicts = {date: each[name] for date, each in found.items() if name in each}
        yield from chain.checked(_SNAPSHOT, name, verdicts)
    if chain.wants(_SNAPSHOT, _MATCHES_TABLE):
        judge = partial(checks.judge_snapshot, postgres, table, store)
        verdicts = judge_each(chain.dates(_SNAPSHOT), judge, at_once=table.connections)
        yield from chain.checked(_SNAPSHOT, _MATCHES_TABLE, verdicts)
