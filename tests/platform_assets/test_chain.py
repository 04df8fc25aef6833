"""Several assets of one step: a date that fails drops out, and Dagster hears which and why."""

import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from platform_assets.chain import (
    ChainAsset,
    ChainCheck,
    ChainRun,
    Plan,
    build_chain,
    make_one_by_one,
)
from platform_assets.checks import Verdict
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization
from resources.s3 import NotPublishedError

DATES = ["2026-01-01", "2026-01-02", "2026-01-03"]
FIRST, MIDDLE, LAST = DATES
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
RAW, DERIVED = dg.AssetKey("raw"), dg.AssetKey("derived")


class Rig:
    """A step of two assets, whose dates fail as a test says.

    Attributes:
        failing: Date → what making `raw` raises.
        verdicts: Date → the verdict of the check of `raw`; passed where none is given.
        unchanged: Dates of `raw` that are said to be as they were.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.failing: dict[str, Exception] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.unchanged: set[str] = set()

    def run(self, tags: dict[str, str] = RANGE, **more: Any) -> dg.ExecuteInProcessResult:
        @dg.asset(deps=[DERIVED], partitions_def=DAILY, backfill_policy=ONE_RUN)
        def after() -> None: ...

        return dg.materialize(
            [build_chain("both", self.assets()), after],
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
            **more,
        )

    def assets(self) -> list[ChainAsset]:
        """Two assets; the second is made of the first."""
        raw = ChainAsset(
            dg.AssetSpec(RAW),
            make=make_one_by_one(self._raw),
            resources=frozenset(),
            checks=[ChainCheck("sound", "It is sound.", self._judge)],
        )
        derived = ChainAsset(
            dg.AssetSpec(DERIVED, deps=[RAW]),
            make=make_one_by_one(lambda _, date: materialization_of(date)),
            resources=frozenset(),
        )
        return [raw, derived]

    def run_plan(self, plan: Plan) -> dg.ExecuteInProcessResult:
        """Do what is planned in an op of a job without dates."""

        @dg.op(out=dg.Out(dg.Nothing))
        def work(context: dg.OpExecutionContext) -> None:
            assert list(ChainRun(context, plan, 1).process(self.assets())) == []

        @dg.job
        def job() -> None:
            work()

        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def newest(self, key: dg.AssetKey, date: str) -> int:
        """The storage id of a date's newest materialisation."""
        wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[date])
        (record,) = self.instance.fetch_materializations(wanted, limit=1).records
        return record.storage_id

    def _raw(self, _: Any, date: str) -> Materialization:
        if date in self.failing:
            raise self.failing[date]
        return Materialization({"unchanged": date in self.unchanged}, data_version=f"v-{date}")

    def _judge(self, _: Any, date: str) -> Verdict:
        return self.verdicts.get(date, Verdict(True, "sound"))

    def materialized(self, key: dg.AssetKey) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(key))


def materialization_of(date: str) -> Materialization:
    return Materialization({"date": date}, data_version=f"v-{date}")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Rig(instance)


def reason_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    assert event.step_failure_data.user_failure_data is not None
    return event.step_failure_data.user_failure_data.description or ""


def test_a_range_without_failures_makes_what_is_downstream_of_the_step_too(rig: Rig) -> None:
    assert rig.run().success
    assert rig.materialized(RAW) == rig.materialized(DERIVED) == DATES
    assert rig.materialized(dg.AssetKey("after")) == DATES


def test_a_date_that_fails_drops_out_and_the_others_go_all_the_way(rig: Rig) -> None:
    rig.failing = {MIDDLE: ValueError("unreadable")}
    result = rig.run()
    assert rig.materialized(RAW) == rig.materialized(DERIVED) == [FIRST, LAST]
    assert reason_of(result) == f"1 date(s) failed. {MIDDLE}: raw: ValueError: unreadable"


def test_a_date_that_a_blocking_check_refuses_drops_out(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "three rows repeat an id")}
    result = rig.run()
    assert rig.materialized(RAW) == DATES  # it was made before it was looked at
    assert rig.materialized(DERIVED) == [FIRST, LAST]
    assert reason_of(result) == f"1 date(s) failed. {MIDDLE}: raw: sound: three rows repeat an id"


def test_a_warning_stops_nothing_and_shows_on_its_date(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "odd", severity="warn")}
    result = rig.run()
    assert result.success
    assert rig.materialized(DERIVED) == DATES
    by_date = {item.partition: item for item in result.get_asset_check_evaluations()}
    assert {date: by_date[date].passed for date in DATES} == {
        FIRST: True,
        MIDDLE: False,
        LAST: True,
    }
    assert by_date[MIDDLE].severity is dg.AssetCheckSeverity.WARN


def test_every_date_is_judged_by_itself_in_a_range(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "bad")}
    result = {item.partition: item.passed for item in rig.run().get_asset_check_evaluations()}
    assert result == {FIRST: True, MIDDLE: False, LAST: True, None: False}


def test_a_single_date_has_its_evaluation_and_version(rig: Rig) -> None:
    result = rig.run(tags={"dagster/partition": LAST})
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.partition == LAST
    (event,) = result.asset_materializations_for_node("both")[:1]
    assert (event.tags or {})["dagster/data_version"] == f"v-{LAST}"


def test_equal_reasons_are_told_once(rig: Rig) -> None:
    rig.failing = dict.fromkeys(DATES, ValueError("the engine is gone"))
    expected = "3 date(s) failed. 2026-01-01, 2026-01-02, 2026-01-03: raw: ValueError: "
    assert reason_of(rig.run()) == expected + "the engine is gone"


def test_dagsters_ui_shows_which_dates_failed(rig: Rig) -> None:
    rig.failing = {MIDDLE: ValueError("unreadable")}
    rig.run()
    for key in (RAW, DERIVED):
        result = rig.instance.get_status_by_partition(key, DATES, DAILY) or {}
        assert {date: status.name for date, status in result.items() if status} == {
            FIRST: "MATERIALIZED",
            MIDDLE: "FAILED",
            LAST: "MATERIALIZED",
        }


@pytest.mark.parametrize("failing", [{}, {MIDDLE: ValueError("unreadable")}])
def test_evaluations_judge_the_newest_materialisation_of_their_dates(
    rig: Rig, failing: dict[str, Exception]
) -> None:
    """Dagster takes an evaluation of another materialisation, or of none, for missing."""
    rig.run()
    rig.failing = failing
    evaluations = rig.run().get_asset_check_evaluations()
    targets = {item.partition: item.target_materialization_data for item in evaluations}
    del targets[None]
    assert {date: target.storage_id for date, target in targets.items() if target} == {
        date: rig.newest(RAW, date) for date in DATES if date not in failing
    }


def test_without_a_date_a_check_judges_the_newest_that_is_materialised(rig: Rig) -> None:
    rig.run(
        {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": MIDDLE}
    )
    result = rig.run({}, selection=dg.AssetSelection.checks(dg.AssetCheckKey(RAW, "sound")))
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert (evaluation.partition, evaluation.passed) == (MIDDLE, True)
    assert evaluation.target_materialization_data is not None
    assert evaluation.target_materialization_data.storage_id == rig.newest(RAW, MIDDLE)


def test_without_a_date_and_without_any_that_is_materialised_a_check_says_so(rig: Rig) -> None:
    result = rig.run({}, selection=dg.AssetSelection.checks(dg.AssetCheckKey(RAW, "sound")))
    assert "raw has none that is materialised: materialise it first" in reason_of(result)


def test_a_plan_makes_scattered_dates_and_an_asset_its_own(rig: Rig) -> None:
    plan = Plan(
        {RAW: [FIRST, LAST], DERIVED: [LAST]}, {dg.AssetCheckKey(RAW, "sound"): [FIRST, LAST]}
    )
    result = rig.run_plan(plan)
    assert result.success
    assert rig.materialized(RAW) == [FIRST, LAST]
    assert rig.materialized(DERIVED) == [LAST]
    assert {item.partition for item in result.get_asset_check_evaluations()} == {FIRST, LAST}


def test_a_date_of_a_plan_that_fails_drops_out_and_the_run_names_it(rig: Rig) -> None:
    rig.verdicts = {FIRST: Verdict(False, "odd")}
    plan = Plan(
        {RAW: [FIRST, LAST], DERIVED: [FIRST, LAST]},
        {dg.AssetCheckKey(RAW, "sound"): [FIRST, LAST]},
    )
    assert reason_of(rig.run_plan(plan)) == f"1 date(s) failed. {FIRST}: raw: sound: odd"
    assert rig.materialized(DERIVED) == [LAST]


def test_what_turns_out_as_it_was_is_not_reported_again_where_only_changes_are_asked_for(
    rig: Rig,
) -> None:
    rig.unchanged = {FIRST}
    dates = [FIRST, LAST]
    plan = Plan({RAW: dates}, {dg.AssetCheckKey(RAW, "sound"): dates}, only_changed=True)
    result = rig.run_plan(plan)
    assert rig.materialized(RAW) == [LAST]
    assert {item.partition for item in result.get_asset_check_evaluations()} == {LAST}


def test_what_cannot_be_compared_is_left_as_it_is_where_only_changes_are_asked_for(
    rig: Rig,
) -> None:
    rig.failing = {FIRST: NotPublishedError("nothing is there")}
    dates = [FIRST, LAST]
    result = rig.run_plan(Plan({RAW: dates, DERIVED: dates}, {}, only_changed=True))
    assert result.success
    assert rig.materialized(RAW) == [LAST]
    # What is made of it has its own inputs, and those are there.
    assert rig.materialized(DERIVED) == dates
    (warning,) = warnings_of(rig.instance, result)
    assert f"raw: {FIRST} cannot be compared" in warning
    assert not rig.run_plan(Plan({RAW: dates}, {})).success


def warnings_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> list[str]:
    """What a run has warned of."""
    entries = instance.all_logs(result.run_id)
    return [entry.user_message for entry in entries if entry.level == logging.WARNING]
