"""Several assets made by one Dagster step, date by date: a date that fails drops out alone.

Dagster skips all that is downstream of a step that failed, whichever dates it failed for. So one
step makes all assets of a chain, each for the dates that nothing upstream has refused. What the
assets are, and how they are made and checked, stands in their own modules.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from itertools import groupby
from typing import Any

import dagster as dg

from platform_assets.checks import (
    Context,
    DateRefusedError,
    Target,
    Verdict,
    dates_to_check,
    find_targets,
    judge_each,
    log_evaluation,
    report_verdicts,
)
from platform_assets.lineage import code_reference
from platform_assets.partitions import DAILY, ONE_RUN, list_dates
from platform_assets.reports import (
    Materialization,
    Outcome,
    Outcomes,
    dates_failure,
    errors_of,
    report_made,
    verdicts_of,
)
from platform_assets.retries import attempt, retry_dates
from resources.s3 import NotPublishedError

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
        make: Makes dates of it; `make_together` and `make_one_by_one` make it of functions that
            know one asset. Assets with the same maker that follow each other are made by one call.
        resources: Keys of the resources that maker and checks use.
        checks: In the order in which they are evaluated.
        judge_published: (resources, dates) → verdicts of the checks without a `judge`, where they
            are evaluated without making the asset.
        is_trained: Whether dates of it are made by training jobs, which cost.
    """

    spec: dg.AssetSpec
    make: Maker
    resources: frozenset[str]
    checks: Sequence[ChainCheck] = ()
    judge_published: Callable[[Any, Sequence[str]], DatesVerdicts] | None = None
    is_trained: bool = False

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key."""
        return self.spec.key

    def check_key(self, name: str) -> dg.AssetCheckKey:
        """The key of one of its checks."""
        return dg.AssetCheckKey(self.key, name)


def make_together(make: Callable[["ChainRun", Sequence[str]], Outcomes]) -> Maker:
    """The maker of one asset whose dates are made by one call.

    Args:
        make: (run, dates) → what became of each of them.
    """

    @wraps(make)
    def make_dates(
        run: "ChainRun", dates: Sequence[str], keys: Sequence[dg.AssetKey]
    ) -> DatesOutcomes:
        return {date: dict.fromkeys(keys, outcome) for date, outcome in make(run, dates).items()}

    return make_dates


def make_one_by_one(make: Callable[[Any, str], Materialization]) -> Maker:
    """The maker of one asset whose dates are made one after the other.

    Args:
        make: (resources, date) → what was made. What it raises fails this date alone.
    """

    @wraps(make)
    def make_dates(run: "ChainRun", dates: Sequence[str]) -> Outcomes:
        return {date: attempt(make, run.resources, date) for date in dates}

    return make_together(make_dates)


def build_chain(
    name: str,
    assets: Sequence[ChainAsset],
    *,
    checks_at_once: Callable[[Any], int] = lambda _: 1,
    pool: str | None = None,
) -> dg.AssetsDefinition:
    """The step that makes assets, in their order, and evaluates their checks.

    Args:
        name: Of the step.
        assets: Each after those that it is made of.
        checks_at_once: (resources) → how many dates are checked at a time.
        pool: Of which the step takes a place, so that one waits for another.
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
        pool=pool,
    )
    def chain(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        plan = plan_step(context, assets)
        run = ChainRun(context, plan, checks_at_once(context.resources))
        yield from run.process(assets)

    return chain


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        assets: Asset → the dates that are made of it.
        checks: Check → the dates that it judges, as far as they are there by then.
        only_changed: Whether only what is made of something else than before is made and reported.
            A date whose input is not there is left as it is, with a warning: nothing can be
            compared.
    """

    assets: Mapping[dg.AssetKey, Sequence[str]]
    checks: Mapping[dg.AssetCheckKey, Sequence[str]]
    only_changed: bool = False


def plan_step(context: dg.AssetExecutionContext, assets: Sequence[ChainAsset]) -> Plan:
    """All dates of the step's run, for what is selected in it."""
    return Plan(
        {
            asset.key: context.partition_keys
            for asset in assets
            if asset.key in context.selected_asset_keys
        },
        {
            check: dates_to_check(context, check.asset_key)
            for check in context.selected_asset_check_keys
        },
    )


class ChainRun:
    """The dates of a run on their way through the assets of a chain."""

    def __init__(self, context: Context, plan: Plan, checks_at_once: int) -> None:
        self.context = context
        self.resources = context.resources
        self._plan = plan
        self._checks_at_once = checks_at_once
        self._failed: dict[tuple[dg.AssetKey, str], Exception] = {}
        # Asset → dates that it, or what it is made of, has not.
        self._dropped: defaultdict[dg.AssetKey, set[str]] = defaultdict(set)
        self._later_verdicts: dict[tuple[dg.AssetCheckKey, str], Verdict] = {}

    def report_later(self, check: dg.AssetCheckKey, date: str, verdict: Verdict) -> None:
        """Log a verdict at the end of the step, on whichever date: it is the date's last one."""
        self._later_verdicts[check, date] = verdict

    def process(
        self, assets: Sequence[ChainAsset]
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Make and check everything that is planned.

        Raises:
            dagster.Failure: Dates dropped out; it names each with its reason.
        """
        for make, made_together in groupby(assets, key=lambda asset: asset.make):
            yield from self._process_together(make, list(made_together))
        for check, of_check in groupby(sorted(self._later_verdicts), key=lambda later: later[0]):
            dates = [date for _, date in of_check]
            targets = find_targets(self.context, check.asset_key, dates)
            for date in dates:
                verdict = self._later_verdicts[check, date]
                log_evaluation(self.context, check, date, verdict, targets.get(date))
        if self._failed:
            raise dates_failure(self._failed) from next(iter(self._failed.values()))

    def _process_together(
        self, make: Maker, assets: Sequence[ChainAsset]
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        upstream = {dep.asset_key for asset in assets for dep in asset.spec.deps}
        dropped = set[str]().union(*(self._dropped[key] for key in upstream))
        for asset in assets:
            self._dropped[asset.key] |= dropped
        keys = [asset.key for asset in assets if asset.key in self._plan.assets]
        dates = sorted(set().union(*(self._plan.assets[key] for key in keys)) - dropped)
        outcomes: DatesOutcomes = {}
        if dates:
            self.context.log.info(f"{_names(keys)}: making {list_dates(dates)}.")
            outcomes = retry_dates(dates, lambda to_make: make(self, to_make, keys))
        by_asset = {key: self._outcomes_of(key, outcomes) for key in keys}
        for key, of_asset in by_asset.items():
            failed = errors_of(of_asset)
            for date, error in failed.items():
                self._drop(key, date, error)
            if of_asset:
                self.context.log.info(
                    f"{key.to_user_string()}: {len(of_asset) - len(failed)} of {len(of_asset)} "
                    "dates are there."
                )
            if result := report_made(self.context, of_asset, key=key):
                yield result
        for asset in assets:
            yield from self._check(asset, by_asset.get(asset.key))

    def _outcomes_of(self, key: dg.AssetKey, outcomes: DatesOutcomes) -> dict[str, Outcome]:
        """What became of an asset's own dates; assets that are made together may have others."""
        of_asset = {
            date: outcome
            for date in self._plan.assets[key]
            if (outcome := outcomes.get(date, {}).get(key))
        }
        if not self._plan.only_changed:
            return of_asset
        gone = {date: o for date, o in of_asset.items() if isinstance(o, NotPublishedError)}
        if gone:
            self.context.log.warning(
                f"{key.to_user_string()}: {list_dates(list(gone))} cannot be compared with what "
                f"they were made of, which is not there, and are left as they are. Of the first: "
                f"{next(iter(gone.values()))}"
            )
        return {
            date: outcome
            for date, outcome in of_asset.items()
            if date not in gone and not _is_unchanged(outcome)
        }

    def _check(
        self, asset: ChainAsset, outcomes: Mapping[str, Outcome] | None
    ) -> Iterator[dg.AssetCheckResult]:
        """Evaluate an asset's checks; `outcomes` are None where the run does not make it."""
        by_date = self._verdicts_of_maker(asset, outcomes)
        keys = [asset.check_key(check.name) for check in asset.checks]
        planned = (date for key in keys for date in self._plan.checks.get(key, ()))
        targets = find_targets(self.context, asset.key, sorted({*by_date, *planned}))
        for check in asset.checks:
            key = asset.check_key(check.name)
            if check.judge is None:
                verdicts = {
                    date: by_check[check.name]
                    for date, by_check in by_date.items()
                    if check.name in by_check
                }
            else:
                planned_dates = self._plan.checks.get(key, ())
                dates = self._remaining(
                    asset.key,
                    [date for date in planned_dates if outcomes is None or date in outcomes],
                )
                judge = partial(check.judge, self.resources)
                verdicts = judge_each(dates, judge, at_once=self._checks_at_once)
            yield from self._report_verdicts(key, verdicts, targets)

    def _verdicts_of_maker(
        self, asset: ChainAsset, outcomes: Mapping[str, Outcome] | None
    ) -> DatesVerdicts:
        """The verdicts of checks that are evaluated before an asset is published."""
        if outcomes is not None:
            return {date: verdicts_of(outcome) for date, outcome in outcomes.items()}
        dates = set[str]().union(
            *(
                self._plan.checks.get(asset.check_key(check.name), ())
                for check in asset.checks
                if check.judge is None
            )
        )
        if asset.judge_published is None or not dates:
            return {}
        return asset.judge_published(self.resources, self._remaining(asset.key, dates))

    def _remaining(self, key: dg.AssetKey, dates: Iterable[str]) -> list[str]:
        return sorted(set(dates) - self._dropped[key])

    def _report_verdicts(
        self,
        check: dg.AssetCheckKey,
        verdicts: Mapping[str, Verdict],
        targets: Mapping[str, Target],
    ) -> Iterator[dg.AssetCheckResult]:
        for date, verdict in verdicts.items():
            if verdict.stops:
                error = DateRefusedError(f"{check.name}: {verdict.description}")
                self._drop(check.asset_key, date, error)
        if not verdicts or check not in self._plan.checks:
            return
        if result := report_verdicts(self.context, check, verdicts, targets):
            yield result

    def _drop(self, key: dg.AssetKey, date: str, error: Exception) -> None:
        self._failed.setdefault((key, date), error)
        self._dropped[key].add(date)


def _is_unchanged(outcome: Outcome) -> bool:
    return isinstance(outcome, Materialization) and outcome.metadata.get("unchanged") is True


def _names(keys: Iterable[dg.AssetKey]) -> str:
    return " and ".join(key.to_user_string() for key in keys)
