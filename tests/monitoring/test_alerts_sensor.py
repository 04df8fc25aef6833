"""Nothing is told twice, nothing is lost, nothing is told in vain, and no secret is shown."""

import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from jobs.alerts import Cursor
from monitoring.reported import Entry, changes
from monitoring.serving import Look, endpoint_findings
from platform_assets.alert_settings import AlertSettings
from platform_assets.definitions import build_defs
from resources.alerts import AlertTargetError, AlertUnavailableError
from tests.monitoring.conftest import Watchman
from tests.platform_assets.conftest import Platform
from tests.receivers import webhook

DATE, NEXT = "2026-01-05", "2026-01-06"
DAYS = [f"2026-01-0{day}" for day in range(1, 6)]
LISTINGS = ["airbnb/snapshot", "airbnb/price_changes", "airbnb/neighbourhood_summary"]


def fail(watchman: Watchman, date: str, reason: str = "It broke.") -> None:
    watchman.fail("listings", reason, tags={"dagster/partition": date})


def succeed(watchman: Watchman, date: str) -> None:
    watchman.succeed("listings", tags={"dagster/partition": date})


def test_a_clean_week_gives_no_message(watchman: Watchman) -> None:
    """Days that had ended before the schedule was started are nobody's to make."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(1, 9):
        night = midnight + timedelta(days=days)
        date = (night - timedelta(days=1)).date().isoformat()
        assert watchman.tick(night + timedelta(minutes=5)) == []
        watchman.record_day(date, LISTINGS)
        succeed(watchman, date)
        for hours in (1, 7, 23):
            assert watchman.tick(night + timedelta(hours=hours)) == []
    assert watchman.receiver.paths == []


def test_a_target_that_is_down_gets_everything_once_it_is_up(watchman: Watchman) -> None:
    receiver = watchman.receiver
    receiver.status = 503
    fail(watchman, DATE)
    for _ in range(3):
        with pytest.raises(AlertUnavailableError):
            watchman.tick()
    assert len(receiver.paths) == 3, "one try a tick"
    fail(watchman, NEXT)
    receiver.status = 200
    texts = watchman.tick()
    assert sorted(DATE in text for text in texts) == [False, True]
    assert watchman.tick() == []


def test_what_is_over_before_the_target_is_up_again_is_not_told(watchman: Watchman) -> None:
    watchman.receiver.status = 503
    fail(watchman, DATE)
    with pytest.raises(AlertUnavailableError):
        watchman.tick()
    succeed(watchman, DATE)
    watchman.receiver.status = 200
    assert watchman.tick() == []


def test_a_target_that_breaks_off_gets_the_rest_and_nothing_twice(watchman: Watchman) -> None:
    for day in range(1, 6):
        fail(watchman, f"2026-01-0{day}")
    watchman.receiver.fail_after = 2
    first = watchman.tick()
    assert len(first) == 2
    watchman.receiver.fail_after = None
    rest = watchman.tick()
    assert len(set(first + rest)) == len(first + rest) == 5


def test_a_message_that_is_refused_holds_no_other_up(watchman: Watchman) -> None:
    fail(watchman, DATE)
    fail(watchman, NEXT)
    watchman.receiver.refuse = DATE
    (text,) = watchman.tick()
    assert NEXT in text
    with pytest.raises(AlertTargetError):
        watchman.tick()
    watchman.receiver.refuse = ""
    (text,) = watchman.tick()
    assert DATE in text


def test_a_failed_range_is_well_again_once_each_of_its_dates_is_there(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are more than one query of Dagster's records returns."""
    monkeypatch.setattr("monitoring.failed_runs._PAGE", 2)
    tags = {
        "dagster/asset_partition_range_start": DAYS[0],
        "dagster/asset_partition_range_end": DAYS[-1],
    }
    watchman.fail("listings", tags=tags)
    (text,) = watchman.tick()
    assert f"Date: {', '.join(DAYS)}\n" in text
    for date in DAYS[:-1]:
        watchman.record_day(date, LISTINGS)
    assert watchman.tick() == []
    watchman.record_day(DAYS[-1], LISTINGS)
    (text,) = watchman.tick()
    assert text.startswith("*Well again: ")


def test_the_log_of_a_failed_run_is_read_once(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    all_logs = dg.DagsterInstance.all_logs

    def count(instance: dg.DagsterInstance, run_id: str, **options: Any) -> Any:
        read.append(run_id)
        return all_logs(instance, run_id, **options)

    monkeypatch.setattr(dg.DagsterInstance, "all_logs", count)
    for date in DAYS:
        fail(watchman, date)
    for _ in range(3):
        watchman.tick()
    assert len(read) == len(set(read)) == len(DAYS)


def test_a_look_costs_the_same_however_many_runs_failed(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.failed_runs._MOST_FOLLOWED", 2)

    def count_statements() -> int:
        statements: list[str] = []

        def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(Engine, "before_cursor_execute", count)
        assert watchman.tick() == []
        event.remove(Engine, "before_cursor_execute", count)
        return len(statements)

    for date in DAYS[:2]:
        fail(watchman, date)
    assert len(watchman.tick()) == 2
    with_two = count_statements()
    for date in DAYS[2:]:
        fail(watchman, date)
    assert len(watchman.tick()) == len(DAYS) - 2
    assert count_statements() == with_two

    # Each has its turn.
    for date in DAYS:
        succeed(watchman, date)
    texts = [text for _ in DAYS for text in watchman.tick()]
    assert len(texts) == len(DAYS)
    assert all(text.startswith("*Well again: ") for text in texts)


def test_of_more_failed_runs_than_a_look_reads_each_is_told_and_none_is_well_again(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.failed_runs.MOST_RUNS", 2)
    for date in DAYS:
        fail(watchman, date)
    texts = [text for _ in DAYS for text in watchman.tick()]
    assert len(texts) == len(set(texts)) == len(DAYS)
    assert not any("Well again" in text for text in texts)


def test_an_endpoint_that_is_being_changed_is_neither_well_nor_a_problem() -> None:
    reported = {"endpoint": Entry(digest="0", title="The endpoint digits does not answer")}
    looks = {
        Look("well"): True,
        Look("changing"): False,
        Look("silent"): False,
        Look("unwanted"): False,
    }
    for look, is_told in looks.items():
        findings = endpoint_findings(look, 1, AlertSettings(), "digits")
        told = [change for change in changes(findings, reported) if change.message]
        assert bool(told) == is_told, look


def test_a_run_that_fails_again_is_told_only_where_the_reason_is_another(
    watchman: Watchman,
) -> None:
    fail(watchman, DATE)
    assert len(watchman.tick()) == 1
    fail(watchman, DATE)
    assert watchman.tick() == []
    fail(watchman, DATE, "It broke otherwise.")
    (text,) = watchman.tick()
    assert "It broke otherwise." in text
    succeed(watchman, DATE)
    (text,) = watchman.tick()
    assert text.startswith("*Well again: listings failed*")
    assert watchman.tick() == []


def test_what_nobody_has_mended_for_long_is_forgotten_without_a_word(watchman: Watchman) -> None:
    fail(watchman, DATE)
    assert len(watchman.tick()) == 1
    now = datetime.now(UTC)
    for days, followed in ((6, True), (8, False)):
        # By then the listings of days on which the schedule ran are late; that is something else.
        texts = watchman.tick(now + timedelta(days=days))
        assert not any("listings failed" in text for text in texts)
        reported = Cursor.read(watchman.cursor).reported
        assert any(key.startswith("run ") for key in reported) == followed


def test_a_cursor_of_another_release_is_begun_anew(watchman: Watchman) -> None:
    watchman.cursor = '{"reported": "something else"}'
    fail(watchman, DATE)
    assert len(watchman.tick()) == 1


def test_without_a_target_nothing_is_looked_at(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLATFORM_ALERTS")
    fail(watchman, DATE)
    assert watchman.tick() == []
    assert "PLATFORM_ALERTS is not set" in watchman.skip_reason


def test_no_error_of_a_tick_shows_the_target(
    watchman: Watchman, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(watchman, DATE)
    with webhook("/services/hush") as gone:
        monkeypatch.setenv("PLATFORM_ALERTS", gone.url)
    with pytest.raises(AlertUnavailableError) as refused:
        watchman.tick()
    assert "hush" not in "".join(traceback.format_exception(refused.value))
    assert "hush" not in repr((build_defs().resources or {})["alerts"])
