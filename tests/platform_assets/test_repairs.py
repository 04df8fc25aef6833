"""The button that repairs a chain: which dates of which assets it makes, and what it tells."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from platform_assets.chain import ChainAsset, make_one_by_one
from platform_assets.lineage import Tier, place
from platform_assets.repairs import build_repair_job
from platform_assets.reports import Materialization
from tests.platform_assets.conftest import reason_of

DATES = ["2026-01-01", "2026-01-02", "2026-01-03"]
RAW, DERIVED = dg.AssetKey("raw"), dg.AssetKey("derived")


@dataclass
class Rig:
    """A chain whose assets say what they are asked to make.

    Attributes:
        events: (asset, date) in their order.
    """

    instance: dg.DagsterInstance
    events: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def asset(self, name: str, tier: Tier, *, is_trained: bool = False) -> ChainAsset:
        def make(_: Any, date: str) -> Materialization:
            self.events.append((name, date))
            return Materialization({}, data_version="1")

        spec = dg.AssetSpec(name, tags=place("a_pipeline", tier))
        return ChainAsset(spec, make_one_by_one(make), frozenset(), is_trained=is_trained)

    def job(self, *assets: ChainAsset) -> dg.JobDefinition:
        return build_repair_job("repair", assets or self.chain(), of_what="a pipeline")

    def chain(self) -> list[ChainAsset]:
        return [self.asset("raw", "raw"), self.asset("derived", "derived")]

    def press(self, *assets: ChainAsset, **config: Any) -> dg.ExecuteInProcessResult:
        """Launch the job with what its form says otherwise than by default."""
        return self.job(*assets).execute_in_process(
            instance=self.instance,
            run_config={"ops": {"repair_dates": {"config": config}}},
            raise_on_error=False,
        )

    def record(self, key: dg.AssetKey, *dates: str) -> None:
        """Dates that were made before."""
        for date in dates:
            event = dg.AssetMaterialization(key, partition=date)
            self.instance.report_runless_asset_event(event)

    def told(self, result: dg.ExecuteInProcessResult) -> str:
        """What a run's log tells people."""
        entries = self.instance.all_logs(result.run_id)
        return " ".join(e.user_message for e in entries if e.level == logging.INFO)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Rig(instance)


def test_what_is_missing_of_a_new_asset_begins_with_the_first_date_of_the_others(rig: Rig) -> None:
    rig.record(RAW, *DATES)
    assert rig.press(which="missing", to_date=DATES[-1]).success
    assert rig.events == [("derived", date) for date in DATES]


def test_what_is_missing_where_nothing_was_ever_made_needs_a_first_date(rig: Rig) -> None:
    assert "fill in from_date" in reason_of(rig.press(which="missing"))
    assert rig.press(which="missing", from_date=DATES[0], to_date=DATES[0]).success
    assert rig.events == [("raw", DATES[0]), ("derived", DATES[0])]


def test_copies_of_what_is_outside_are_not_compared_and_the_log_says_so(rig: Rig) -> None:
    rig.record(RAW, *DATES)
    rig.record(DERIVED, DATES[0])
    result = rig.press(which="outdated")
    assert result.success
    assert rig.events == [("derived", DATES[0])]
    assert "raw is a copy of what is outside and is not compared" in rig.told(result)


def test_where_nothing_can_be_compared_the_run_fails_and_says_what_to_do(rig: Rig) -> None:
    rig.record(RAW, *DATES)
    reason = reason_of(rig.press(which="outdated", assets=["raw"]))
    assert reason.startswith("Nothing is left to make. raw is a copy of what is outside")
    assert "materialise the dates" in reason
    assert rig.events == []


def test_models_are_trained_again_only_where_the_form_names_them(rig: Rig) -> None:
    chain = [rig.asset("derived", "derived"), rig.asset("model", "derived", is_trained=True)]
    rig.record(DERIVED, *DATES)
    rig.record(dg.AssetKey("model"), *DATES)
    # As the form opens, with the other choice.
    opened = rig.job(*chain).run_config or {}
    form = opened["ops"]["repair_dates"]["config"]
    result = rig.press(*chain, **{**form, "which": "outdated"})
    assert result.success
    assert rig.events == [("derived", date) for date in DATES]
    assert "model is left out: its outdated dates would be trained again" in rig.told(result)

    rig.events.clear()
    assert rig.press(*chain, which="outdated", assets=["model"]).success
    assert rig.events == [("model", date) for date in DATES]
