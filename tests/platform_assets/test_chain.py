"""Several assets of one step: a date that fails drops out, and Dagster hears which and why."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from platform_assets.chain import ChainAsset, ChainCheck, build_chain, make_one_by_one
from platform_assets.checks import Verdict
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization

DATES = ["2026-01-01", "2026-01-02", "2026-01-03"]
FIRST, MIDDLE, LAST = DATES
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
RAW, DERIVED = dg.AssetKey("raw"), dg.AssetKey("derived")


class Rig:
    """A step of two assets, whose dates fail as a test says.

    Attributes:
        failing: Date → what making `raw` raises.
        verdicts: Date → the verdict of the check of `raw`; passed where none is given.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.failing: dict[str, Exception] = {}
        self.verdicts: dict[str, Verdict] = {}

    def run(self, tags: dict[str, str] = RANGE, **more: Any) -> dg.ExecuteInProcessResult:
        raw = ChainAsset(
            dg.AssetSpec(RAW),
            make=make_one_by_one(self._raw),
            resources=frozenset(),
            checks=[ChainCheck("sound", "It is sound.", self._judge)],
        )
        derived = ChainAsset(
            dg.AssetSpec(DERIVED, deps=[RAW]),
            make=make_one_by_one(lambda _, date: made(date)),
            resources=frozenset(),
        )

        @dg.asset(deps=[DERIVED], partitions_def=DAILY, backfill_policy=ONE_RUN)
        def after() -> None: ...

        return dg.materialize(
            [build_chain("both", [raw, derived]), after],
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
            **more,
        )

    def _raw(self, _: Any, date: str) -> Materialization:
        if date in self.failing:
            raise self.failing[date]
        return made(date)

    def _judge(self, _: Any, date: str) -> Verdict:
        return self.verdicts.get(date, Verdict(True, "sound"))

    def materialized(self, key: dg.AssetKey) -> list[str]:
        return sorted(self.instance.get_materialized_partitions(key))


def made(date: str) -> Materialization:
    return Materialization({"date": date}, data_version=f"v-{date}")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Rig(instance)


def said(result: dg.ExecuteInProcessResult) -> str:
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
    assert said(result) == f"1 date(s) failed. {MIDDLE}: raw: ValueError: unreadable"


def test_a_date_that_a_blocking_check_refuses_drops_out(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "three rows repeat an id")}
    result = rig.run()
    assert rig.materialized(RAW) == DATES  # it was made before it was looked at
    assert rig.materialized(DERIVED) == [FIRST, LAST]
    assert said(result) == f"1 date(s) failed. {MIDDLE}: raw: sound: three rows repeat an id"


def test_a_warning_stops_nothing_and_shows_on_its_date(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "odd", severity="warn")}
    result = rig.run()
    assert result.success
    assert rig.materialized(DERIVED) == DATES
    by_date = {each.partition: each for each in result.get_asset_check_evaluations()}
    assert {date: by_date[date].passed for date in DATES} == {
        FIRST: True,
        MIDDLE: False,
        LAST: True,
    }
    assert by_date[MIDDLE].severity is dg.AssetCheckSeverity.WARN


def test_every_date_is_judged_by_itself_in_a_range(rig: Rig) -> None:
    rig.verdicts = {MIDDLE: Verdict(False, "bad")}
    found = {each.partition: each.passed for each in rig.run().get_asset_check_evaluations()}
    assert found == {FIRST: True, MIDDLE: False, LAST: True, None: False}


def test_a_single_date_has_its_evaluation_and_version(rig: Rig) -> None:
    result = rig.run(tags={"dagster/partition": LAST})
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.partition == LAST
    (event,) = result.asset_materializations_for_node("both")[:1]
    assert (event.tags or {})["dagster/data_version"] == f"v-{LAST}"


def test_equal_reasons_are_told_once(rig: Rig) -> None:
    rig.failing = dict.fromkeys(DATES, ValueError("the engine is gone"))
    expected = "3 date(s) failed. 2026-01-01, 2026-01-02, 2026-01-03: raw: ValueError: "
    assert said(rig.run()) == expected + "the engine is gone"


def test_dagsters_ui_shows_which_dates_failed(rig: Rig) -> None:
    rig.failing = {MIDDLE: ValueError("unreadable")}
    rig.run()
    for key in (RAW, DERIVED):
        found = rig.instance.get_status_by_partition(key, DATES, DAILY) or {}
        assert {date: status.name for date, status in found.items() if status} == {
            FIRST: "MATERIALIZED",
            MIDDLE: "FAILED",
            LAST: "MATERIALIZED",
        }
