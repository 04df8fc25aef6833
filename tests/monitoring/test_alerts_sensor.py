"""The sensor sends each message once, loses none, sends none without need, and shows no secret."""

import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from jobs.alerts import Cursor
from monitoring.approvals import approval_findings
from monitoring.findings import Problem, Resolved
from monitoring.reported import Entry, changes
from monitoring.serving import EndpointProbe, endpoint_findings
from platform_assets.alert_settings import AlertSettings
from platform_assets.definitions import build_defs
from platform_assets.models.endpoint import DECIDED_BY
from platform_assets.models.serving import DECISION, NOTHING_WAITS, WAITS
from resources.alerts import AlertTargetError, AlertUnavailableError
from tests.monitoring.conftest import LISTINGS, AlertsRig
from tests.platform_assets.conftest import Platform
from tests.receivers import webhook

DATE, NEXT = "2026-01-05", "2026-01-06"
NOTICE = "A message was refused"
SETTINGS = AlertSettings(
    ui_url="http://ui.example", late_after_hours=6, stuck_after_minutes=180, spend_limit=0
)
DAYS = [f"2026-01-0{day}" for day in range(1, 6)]


def fail(rig: AlertsRig, date: str, reason: str = "It broke.") -> None:
    rig.fail("listings", reason, tags={"dagster/partition": date})


def succeed(rig: AlertsRig, date: str) -> None:
    rig.succeed("listings", tags={"dagster/partition": date})


def test_a_clean_week_gives_no_message(rig: AlertsRig) -> None:
    """Days that had ended before the schedule was started are not due."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(1, 9):
        night = midnight + timedelta(days=days)
        date = (night - timedelta(days=1)).date().isoformat()
        assert rig.tick(night + timedelta(minutes=5)) == []
        rig.record_day(date, LISTINGS)
        succeed(rig, date)
        for hours in (1, 7, 23):
            assert rig.tick(night + timedelta(hours=hours)) == []
    assert rig.receiver.paths == []


def test_a_target_that_is_down_gets_everything_once_it_is_up(rig: AlertsRig) -> None:
    receiver = rig.receiver
    receiver.status = 503
    fail(rig, DATE)
    for _ in range(3):
        with pytest.raises(AlertUnavailableError):
            rig.tick()
    assert len(receiver.paths) == 3, "one try a tick"
    fail(rig, NEXT)
    receiver.status = 200
    texts = rig.tick()
    assert sorted(DATE in text for text in texts) == [False, True]
    assert rig.tick() == []


def test_a_problem_that_is_over_before_the_target_is_up_again_is_not_sent(rig: AlertsRig) -> None:
    rig.receiver.status = 503
    fail(rig, DATE)
    with pytest.raises(AlertUnavailableError):
        rig.tick()
    succeed(rig, DATE)
    rig.receiver.status = 200
    assert rig.tick() == []


def test_a_target_that_breaks_off_gets_the_rest_and_nothing_twice(rig: AlertsRig) -> None:
    for day in range(1, 6):
        fail(rig, f"2026-01-0{day}")
    rig.receiver.fail_after = 2
    first = rig.tick()
    assert len(first) == 2
    rig.receiver.fail_after = None
    rest = rig.tick()
    assert len(set(first + rest)) == len(first + rest) == 5


def test_a_message_that_is_refused_for_what_it_holds_is_logged_once_and_given_up(
    rig: AlertsRig, capfd: pytest.CaptureFixture[str]
) -> None:
    rig.receiver.refuse = DATE
    fail(rig, DATE)
    fail(rig, NEXT)
    texts = rig.tick()
    assert sorted(NEXT in text for text in texts) == [False, True]
    assert sum(NOTICE in text for text in texts) == 1
    logged = capfd.readouterr().err
    assert logged.count("Not told: listings failed") == 1
    assert "HTTP 400" in logged
    assert "1 refused for good" in rig.skip_reason
    rig.receiver.refuse = ""
    assert rig.tick() == []
    assert "Not told" not in capfd.readouterr().err


def test_later_failures_are_sent_although_messages_before_them_were_refused(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many messages are refused as a look reads runs."""
    monkeypatch.setattr("monitoring.failed_runs.MOST_RUNS", 2)
    rig.receiver.refuse = "Too long."
    for date in DAYS[:2]:
        fail(rig, date, "Too long.")
    for date in DAYS[2:]:
        fail(rig, date)
    texts = [text for _ in DAYS for text in rig.tick() if NOTICE not in text]
    assert [date in text for date, text in zip(DAYS[2:], texts, strict=True)] == [True] * 3


def test_a_target_that_refuses_us_gets_everything_once_its_setting_is_corrected(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More runs have failed by then than a look reads, each while it was refused otherwise."""
    monkeypatch.setattr("monitoring.failed_runs.MOST_RUNS", 2)
    dates = [*DAYS, "2026-01-06"]
    for date, status in zip(dates, [400, 401, 403, 404, 410, 422], strict=True):
        rig.receiver.status = status
        fail(rig, date)
        with pytest.raises(AlertTargetError):
            rig.tick()
    rig.receiver.status = 200
    texts = [text for _ in dates for text in rig.tick()]
    assert [date in text for date, text in zip(dates, texts, strict=True)] == [True] * len(dates)


def test_a_failed_range_is_well_again_once_each_of_its_dates_is_there(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one query of Dagster's records does not return all of them."""
    monkeypatch.setattr("monitoring.failed_runs._PAGE", 2)
    tags = {
        "dagster/asset_partition_range_start": DAYS[0],
        "dagster/asset_partition_range_end": DAYS[-1],
    }
    rig.fail("listings", tags=tags)
    (text,) = rig.tick()
    assert f"Date: {', '.join(DAYS)}\n" in text
    for date in DAYS[:-1]:
        rig.record_day(date, LISTINGS)
    assert rig.tick() == []
    rig.record_day(DAYS[-1], LISTINGS)
    (text,) = rig.tick()
    assert text.startswith("*Well again: ")


def test_the_log_of_a_failed_run_is_read_once(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    all_logs = dg.DagsterInstance.all_logs

    def count(instance: dg.DagsterInstance, run_id: str, **options: Any) -> Any:
        read.append(run_id)
        return all_logs(instance, run_id, **options)

    monkeypatch.setattr(dg.DagsterInstance, "all_logs", count)
    for date in DAYS:
        fail(rig, date)
    for _ in range(3):
        rig.tick()
    assert len(read) == len(set(read)) == len(DAYS)


def test_a_look_costs_the_same_however_many_runs_failed(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.failed_runs._MOST_FOLLOWED", 2)

    def count_statements() -> int:
        statements: list[str] = []

        def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(Engine, "before_cursor_execute", count)
        assert rig.tick() == []
        event.remove(Engine, "before_cursor_execute", count)
        return len(statements)

    for date in DAYS[:2]:
        fail(rig, date)
    assert len(rig.tick()) == 2
    with_two = count_statements()
    for date in DAYS[2:]:
        fail(rig, date)
    assert len(rig.tick()) == len(DAYS) - 2
    assert count_statements() == with_two

    # Each of them is looked at within so many looks.
    for date in DAYS:
        succeed(rig, date)
    texts = [text for _ in DAYS for text in rig.tick()]
    assert len(texts) == len(DAYS)
    assert all(text.startswith("*Well again: ") for text in texts)


def test_more_failed_runs_than_a_look_reads_are_all_sent_and_none_is_well_again(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.failed_runs.MOST_RUNS", 2)
    for date in DAYS:
        fail(rig, date)
    texts = [text for _ in DAYS for text in rig.tick()]
    assert len(texts) == len(set(texts)) == len(DAYS)
    assert not any("Well again" in text for text in texts)


@pytest.mark.parametrize(
    ("count", "end"),
    [(1, "-01"), (10, ", 2026-03-10"), (14, ", 2026-03-10 and 4 more up to 2026-03-14")],
)
def test_a_message_names_dates_and_of_many_the_first_ten(count: int, end: str) -> None:
    dates = [f"2026-03-{day:02}" for day in range(1, count + 1)]
    problem = Problem(key="k", title="late", reason="r", to_do="t", link="l", dates=dates)
    line = problem.message().text.splitlines()[0]
    assert line.startswith(f"Date: {', '.join(dates[:10])}")
    assert line.endswith(end)


def test_an_endpoint_that_is_being_changed_is_neither_well_nor_a_problem() -> None:
    reported = {"endpoint": Entry(digest="0", title="The endpoint digits does not answer")}
    probes = {
        EndpointProbe("well"): True,
        EndpointProbe("changing"): False,
        EndpointProbe("silent"): False,
        EndpointProbe("unwanted"): False,
    }
    for probe, is_reported in probes.items():
        findings = endpoint_findings(probe, 1, SETTINGS, "digits")
        messages = [change.message for change in changes(findings, reported) if change.message]
        assert bool(messages) == is_reported, probe


def test_a_run_that_fails_again_is_sent_again_only_for_another_reason(
    rig: AlertsRig,
) -> None:
    fail(rig, DATE)
    assert len(rig.tick()) == 1
    fail(rig, DATE)
    assert rig.tick() == []
    fail(rig, DATE, "It broke otherwise.")
    (text,) = rig.tick()
    assert "It broke otherwise." in text
    succeed(rig, DATE)
    (text,) = rig.tick()
    assert text.startswith("*Well again: listings failed*")
    assert rig.tick() == []


def test_a_failed_run_is_followed_for_seven_days_and_then_forgotten_without_a_message(
    rig: AlertsRig,
) -> None:
    fail(rig, DATE)
    assert len(rig.tick()) == 1
    now = datetime.now(UTC)
    for days, followed in ((6, True), (8, False)):
        # Listings are late by then, since the schedule runs; those messages are not looked at.
        texts = rig.tick(now + timedelta(days=days))
        assert not any("listings failed" in text for text in texts)
        reported = Cursor.read(rig.cursor).reported
        assert any(key.startswith("run ") for key in reported) == followed


def test_a_cursor_of_another_release_is_ignored(rig: AlertsRig) -> None:
    rig.cursor = '{"reported": "something else"}'
    fail(rig, DATE)
    assert len(rig.tick()) == 1


def test_without_a_target_nothing_is_looked_at(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLATFORM_ALERTS")
    fail(rig, DATE)
    assert rig.tick() == []
    assert "PLATFORM_ALERTS is not set" in rig.skip_reason


def test_no_error_of_a_tick_shows_the_target(
    rig: AlertsRig, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(rig, DATE)
    with webhook("/services/hush") as gone:
        monkeypatch.setenv("PLATFORM_ALERTS", gone.url)
    with pytest.raises(AlertUnavailableError) as refused:
        rig.tick()
    assert "hush" not in "".join(traceback.format_exception(refused.value))
    assert "hush" not in repr((build_defs().resources or {})["alerts"])


@pytest.mark.parametrize(
    ("sequence", "problem", "well"),
    [
        (f"{WAITS} 1, {WAITS} 2", "2", ""),
        (f"{WAITS} 1, {WAITS} 2, approved 2", "", "2"),
        (f"{WAITS} 1, overridden 2", "", "2"),
        (f"{WAITS} 2, approved 2, {WAITS} 3", "3", ""),
        (f"{WAITS} 1, approved 2, rejected 2", "", "2"),
        (f"{WAITS} 1, {WAITS} 2, rejected 2", "1", "2"),
        (f"{WAITS} 1, {NOTHING_WAITS}", "", "1"),
        (f"{WAITS} 1, {NOTHING_WAITS}, {WAITS} 2", "2", ""),
    ],
)
def test_only_a_version_that_can_be_approved_is_said_to_wait(
    sequence: str, problem: str, well: str
) -> None:
    spec = dg.AssetSpec("model", metadata={DECIDED_BY: "approve"})
    with dg.DagsterInstance.ephemeral() as instance:
        for step in sequence.split(", "):
            decision, _, version = (step, "", "") if step == NOTHING_WAITS else step.rpartition(" ")
            metadata = {DECISION: decision, **({"version": version} if version else {})}
            instance.report_runless_asset_event(dg.AssetObservation("model", metadata=metadata))
        findings = list(approval_findings(instance, [spec], SETTINGS, datetime.now(UTC)))
    waits = [item.key for item in findings if isinstance(item, Problem)]
    over = [item.key for item in findings if isinstance(item, Resolved)]
    assert waits == [f"approval model {version}" for version in problem.split()]
    assert over == [f"approval model {version}" for version in well.split()]
