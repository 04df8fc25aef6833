"""Nothing is told twice, nothing is lost, nothing is told in vain, and no secret is shown."""

import traceback
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from jobs.alerts import Cursor
from platform_assets.definitions import build_defs
from resources.alerts import AlertUnavailableError
from tests.monitoring.conftest import Watchman
from tests.platform_assets.conftest import Platform
from tests.receivers import webhook

DATE, NEXT = "2026-01-05", "2026-01-06"
LISTINGS = ["airbnb/snapshot", "airbnb/price_changes", "airbnb/neighbourhood_summary"]


def fail(watchman: Watchman, date: str, reason: str = "It broke.") -> None:
    run = watchman.record_run("listings", dg.DagsterRunStatus.STARTED, {"dagster/partition": date})
    watchman.platform.instance.report_run_failed(run, reason)


def succeed(watchman: Watchman, date: str) -> None:
    run = watchman.record_run("listings", dg.DagsterRunStatus.STARTED, {"dagster/partition": date})
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "listings")
    watchman.platform.instance.report_dagster_event(event, run.run_id)


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
