"""Several assets made by one Dagster step, date by date: a date that fails drops out alone.

Dagster skips all that is downstream of a step that failed, whichever dates it failed for. So one
step makes all assets of a chain, each for the dates that nothing upstream has refused. What the
assets are, and how they are made and checked, stands in their own modules.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from itertools import groupby
from typing import Any

import dagster as dg

from platform_assets.checks import (
    DateRefusedError,
    Verdict,
    judge_each,
    log_evaluation,
    report_verdicts,
)
from platform_assets.lineage import code_reference
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import (
    Materialization,
    Outcome,
    dates_failure,
    errors_of,
    report_made,
    verdicts_of,
)
from platform_assets.retries import attempt, retry_dates

# Date → asset → what became of it.
DatesOutcomes = Mapping[str, Mapping[dg.AssetKey, Outcome]]
# (run, dates, which of the maker's assets are wanted) → outcomes.
Maker = Callable[["ChainRun", Sequence[str], Sequence[dg.AssetKey]], DatesOutcomes]
# Date → check → verdict.
DatesVerdicts = Mapping[str, Mapping[str, Verdict]]


@dataclass(frozen=True)
class ChainCheck:
    """A blocking check of an asset: a date that it refuses goes no further.

    Attributes:
        name: As Dagster shows it.
        description: What holds where it passes.
        judge: (resources, date) → verdict on what is published. None where the asset's maker
            evaluates the check before it publishes (`Materialization.verdicts`).
    """

    name: str
    description: str
    judge: Callable[[Any, str], Verdict] | None = None


@dataclass(frozen=True)
class ChainAsset:
    """An asset of a chain, with all that the chain needs to know of it.

    Attributes:
        spec: Of the asset; its `deps` within the chain decide which dates it is made for.
        make: Makes dates of it; `make_one_by_one` makes one of a function of a date. Assets with
            the same maker that follow each other are made by one call.
        resources: Keys of the resources that maker and checks use.
        checks: In the order in which they are evaluated.
        judge_published: (resources, dates) → verdicts of the checks without a `judge`, where they
            are evaluated without making the asset.
    """

    spec: dg.AssetSpec
    make: Maker
    resources: frozenset[str]
    checks: Sequence[ChainCheck] = ()
    judge_published: Callable[[Any, Sequence[str]], DatesVerdicts] | None = None

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key."""
        return self.spec.key

    def check_key(self, name: str) -> dg.AssetCheckKey:
        """The key of one of its checks."""
        return dg.AssetCheckKey(self.key, name)


def make_one_by_one(make: Callable[[Any, str], Materialization]) -> Maker:
    """The maker of an asset whose dates are made one after the other.

    Args:
        make: (resources, date) → what was made. What it raises fails this date alone.
    """

    @wraps(make)
    def make_dates(
        run: "ChainRun", dates: Sequence[str], keys: Sequence[dg.AssetKey]
    ) -> DatesOutcomes:
        return {date: dict.fromkeys(keys, attempt(make, run.resources, date)) for date in dates}

    return make_dates


def build_chain(
    name: str,
    assets: Sequence[ChainAsset],
    *,
    checks_at_once: Callable[[Any], int] = lambda _: 1,
) -> dg.AssetsDefinition:
    """The step that makes assets, in their order, and evaluates their checks.

    Args:
        name: Of the step.
        assets: Each after those that it is made of.
        checks_at_once: (resources) → how many dates are checked at a time.
    """

    @dg.multi_asset(
        name=name,
        specs=[
            asset.spec.replace_attributes(skippable=True).merge_attributes(
                metadata=code_reference(asset.make)
            )
            for asset in assets
        ],
        check_specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=asset.key,
                description=check.description,
                blocking=True,
                partitions_def=DAILY,
            )
            for asset in assets
            for check in asset.checks
        ],
        required_resource_keys={key for asset in assets for key in asset.resources},
        can_subset=True,
        partitions_def=DAILY,
        backfill_policy=ONE_RUN,
    )
    def chain(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        run = ChainRun(context, checks_at_once(context.resources))
        for make, made_together in groupby(assets, key=lambda asset: asset.make):
            yield from run.process(make, list(made_together))
        run.finish()

    return chain


class ChainRun:
    """The dates of a run on their way through the assets of a chain.

    Attributes:
        context: Of the step.
        resources: Of the step, by their keys.
    """

    def __init__(self, context: dg.AssetExecutionContext, checks_at_once: int) -> None:
        self.context = context
        self.resources = context.resources
        self._checks_at_once = checks_at_once
        self._failed: dict[tuple[dg.AssetKey, str], Exception] = {}
        # Asset → dates that it, or what it is made of, has not.
        self._dropped: defaultdict[dg.AssetKey, set[str]] = defaultdict(set)
        self._later_verdicts: dict[tuple[dg.AssetCheckKey, str], Verdict] = {}

    def report_later(self, check: dg.AssetCheckKey, date: str, verdict: Verdict) -> None:
        """Log a verdict at the end of the step, on whichever date: it is the date's last one."""
        self._later_verdicts[check, date] = verdict

    def process(
        self, make: Maker, assets: Sequence[ChainAsset]
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Make and check assets that are made together, as far as the run is to."""
        upstream = {dep.asset_key for asset in assets for dep in asset.spec.deps}
        dropped = set[str]().union(*(self._dropped[key] for key in upstream))
        dates = [date for date in self.context.partition_keys if date not in dropped]
        for asset in assets:
            self._dropped[asset.key] |= dropped
        wanted = [a.key for a in assets if a.key in self.context.selected_asset_keys]
        outcomes: DatesOutcomes = {}
        if wanted and dates:
            outcomes = retry_dates(dates, lambda some: make(self, some, wanted))
        by_asset = {
            key: {date: of_date[key] for date, of_date in outcomes.items()} for key in wanted
        }
        for key, of_asset in by_asset.items():
            for date, error in errors_of(of_asset).items():
                self._drop(key, date, error)
            if result := report_made(self.context, of_asset, key=key):
                yield result
        for asset in assets:
            yield from self._check(asset, dates, by_asset.get(asset.key))

    def _check(
        self, asset: ChainAsset, dates: Sequence[str], outcomes: Mapping[str, Outcome] | None
    ) -> Iterator[dg.AssetCheckResult]:
        """Evaluate an asset's checks; `outcomes` are None where the run does not make it."""
        by_date: DatesVerdicts = {}
        if outcomes is not None:
            by_date = {date: verdicts_of(outcome) for date, outcome in outcomes.items()}
        elif asset.judge_published and any(
            self._is_wanted(asset.check_key(check.name))
            for check in asset.checks
            if check.judge is None
        ):
            by_date = asset.judge_published(self.resources, dates)
        for check in asset.checks:
            if check.judge is None:
                verdicts = {
                    date: by_check[check.name]
                    for date, by_check in by_date.items()
                    if check.name in by_check
                }
            elif self._is_wanted(asset.check_key(check.name)):
                remaining = [date for date in dates if date not in self._dropped[asset.key]]
                judge = partial(check.judge, self.resources)
                verdicts = judge_each(remaining, judge, at_once=self._checks_at_once)
            else:
                continue
            yield from self._report_verdicts(asset.check_key(check.name), verdicts)

    def _report_verdicts(
        self, check: dg.AssetCheckKey, verdicts: Mapping[str, Verdict]
    ) -> Iterator[dg.AssetCheckResult]:
        for date, verdict in verdicts.items():
            if verdict.stops:
                error = DateRefusedError(f"{check.name}: {verdict.description}")
                self._drop(check.asset_key, date, error)
        if verdicts and self._is_wanted(check):
            yield report_verdicts(self.context, check, verdicts)

    def _drop(self, key: dg.AssetKey, date: str, error: Exception) -> None:
        self._failed.setdefault((key, date), error)
        self._dropped[key].add(date)

    def _is_wanted(self, check: dg.AssetCheckKey) -> bool:
        return check in self.context.selected_asset_check_keys

    def finish(self) -> None:
        """End the step.

        Raises:
            dagster.Failure: Dates dropped out; it names each with its reason.
        """
        for (check, date), verdict in sorted(self._later_verdicts.items()):
            log_evaluation(self.context, check, date, verdict)
        if self._failed:
            raise dates_failure(self._failed) from next(iter(self._failed.values()))
