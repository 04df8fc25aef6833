"""Every kind of failure is told by exactly one message, and its end by one more."""

from datetime import UTC, datetime, time, timedelta

import boto3
import dagster as dg
import numpy as np
import pytest
from psycopg2.extensions import connection
from tenacity import wait_none

from jobs.alerts import Cursor
from platform_assets import retries
from platform_assets.definitions import build_defs
from platform_assets.mnist import centroids
from tests.monitoring.conftest import Watchman
from tests.platform_assets import airbnb_rig
from tests.platform_assets.conftest import Platform
from tests.platform_assets.mnist_rig import put_classifier, put_digits

DATE, NEXT = "2026-01-05", "2026-01-06"
LISTINGS = ["airbnb/snapshot", "airbnb/price_changes", "airbnb/neighbourhood_summary"]
DIGITS = ["mnist/raw", "mnist/dataset", "mnist/model", "mnist/classifier"]
CLOSED = "http://127.0.0.1:9"
Config = dict[str, dict[str, str]]  # op → field → value


def reported_once(watchman: Watchman, at: datetime | None = None) -> str:
    """The one message of a tick, which the next ticks do not repeat."""
    texts = watchman.tick(at)
    assert len(texts) == 1, texts
    assert watchman.tick(at) == []
    assert watchman.tick(at) == []
    return texts[0]


def well_again(watchman: Watchman, at: datetime | None = None) -> None:
    assert reported_once(watchman, at).startswith("*Well again: ")


def test_dates_that_a_check_refuses_are_one_message_that_names_them(
    watchman: Watchman, platform: Platform, table: connection
) -> None:
    bad = airbnb_rig.DATES[1:3]
    for day in bad:
        airbnb_rig.change(
            table, "update listings set price = -1 where download_date = %(day)s", day=day
        )
    platform.run("listings", airbnb_rig.FIRST, airbnb_rig.LAST)
    text = reported_once(watchman)
    assert text.startswith("*listings failed*")
    assert f"Date: {bad[0]}, {bad[1]}\n" in text
    assert "airbnb/snapshot" in text
    assert "negative" in text
    assert "http://127.0.0.1:" in text

    airbnb_rig.change(table, "update listings set price = 50 where price = -1")
    # One alone is not all; both are, whichever runs made them.
    platform.run("listings", bad[0])
    assert watchman.tick() == []
    platform.run("listings", bad[1])
    well_again(watchman)


def test_a_database_that_does_not_answer_is_one_message(
    watchman: Watchman, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WAIT", wait_none())
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", "postgresql://me:hush@127.0.0.1:9/none")
    for _ in range(2):  # the same again is no news
        platform.run("listings", airbnb_rig.FIRST)
    text = reported_once(watchman)
    assert "hush" not in text
    platform.run("listings", airbnb_rig.FIRST)
    assert watchman.tick() == []


def test_a_worker_that_is_lost_is_one_message_once_dagster_does_not_start_it_again(
    watchman: Watchman, platform: Platform
) -> None:
    partition = {"dagster/partition": DATE}
    first = watchman.record_run(
        "listings", dg.DagsterRunStatus.STARTED, {**partition, "dagster/will_retry": "true"}
    )
    platform.instance.report_run_failed(first, "The run's process was killed.")
    assert watchman.tick() == []
    again = watchman.record_run("listings", dg.DagsterRunStatus.STARTED, partition)
    platform.instance.report_run_failed(again, "The run's process was killed.")
    text = reported_once(watchman)
    assert "The run's process was killed." in text
    assert f"Date: {DATE}" in text


def test_a_run_that_a_person_cancels_is_no_problem(watchman: Watchman, platform: Platform) -> None:
    run = watchman.record_run("listings", dg.DagsterRunStatus.CANCELING)
    platform.instance.report_run_canceled(run)
    assert watchman.tick() == []


def test_a_step_that_raises_is_one_message_until_the_same_job_succeeds(
    watchman: Watchman, platform: Platform
) -> None:
    """The button to roll back, with nothing to roll back; it is of no date."""
    job = build_defs().resolve_job_def("rollback_endpoint")
    assert not job.execute_in_process(instance=platform.instance, raise_on_error=False).success
    text = reported_once(watchman)
    assert text.startswith("*rollback_endpoint failed*")
    watchman.succeed("rollback_endpoint")
    well_again(watchman)


@pytest.mark.parametrize(
    ("job", "first", "second"),
    [
        ("rollback_endpoint", {"roll_back": {"to": "v1"}}, {"roll_back": {"to": "v2"}}),
        (
            "repair",
            {"repair_dates": {"from_date": DATE, "to_date": DATE}},
            {"repair_dates": {"from_date": NEXT, "to_date": NEXT}},
        ),
    ],
)
def test_a_run_is_not_well_again_by_one_with_another_configuration(
    watchman: Watchman, job: str, first: Config, second: Config
) -> None:
    watchman.fail(job, config=first)
    reported_once(watchman)
    watchman.succeed(job, config=second)
    assert watchman.tick() == []
    watchman.succeed(job, config=first)
    well_again(watchman)


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (dg.DagsterRunStatus.STARTED, "digits hangs"),
        (dg.DagsterRunStatus.STARTING, "digits hangs"),
        (dg.DagsterRunStatus.CANCELING, "digits hangs"),
        # Dagster's daemon alone can make a QUEUED one, which is looked for together with these.
        (dg.DagsterRunStatus.NOT_STARTED, "Runs wait in the queue"),
    ],
)
def test_a_run_that_does_not_end_is_one_message(
    watchman: Watchman, platform: Platform, status: dg.DagsterRunStatus, title: str
) -> None:
    run = watchman.record_run("digits", status, {"dagster/partition": DATE})
    now = datetime.now(UTC)
    assert watchman.tick(now + timedelta(hours=2)) == []
    text = reported_once(watchman, now + timedelta(hours=4))
    assert text.startswith(f"*{title}*")
    platform.instance.report_run_canceled(run)
    well_again(watchman, now + timedelta(hours=4))


def test_a_run_that_hangs_and_then_fails_is_not_well_again(
    watchman: Watchman, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_STUCK_AFTER_MINUTES", "0.000001")
    run = watchman.record_run("digits", dg.DagsterRunStatus.STARTED, {"dagster/partition": DATE})
    reported_once(watchman)
    platform.instance.report_run_failed(run, "It was terminated.")
    assert reported_once(watchman).startswith("*digits failed*")


def test_a_queue_that_stands_still_is_one_message_however_long_it_is(watchman: Watchman) -> None:
    for _ in range(5):
        watchman.record_run("listings", dg.DagsterRunStatus.NOT_STARTED)
    reported_once(watchman, datetime.now(UTC) + timedelta(hours=4))


def midnight_after_tomorrow() -> datetime:
    """When the first day has ended on which the schedules ran for all of it."""
    now = datetime.now(UTC) + timedelta(days=2)
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_date_that_is_late_is_one_message_for_its_job(watchman: Watchman) -> None:
    night = midnight_after_tomorrow()
    yesterday, before = ((night - timedelta(days=n)).date().isoformat() for n in (1, 2))
    for date in (yesterday, before):
        watchman.record_day(date, DIGITS)
    watchman.record_day(before, LISTINGS)
    watchman.record_day(yesterday, LISTINGS[:1])
    assert watchman.tick(night + timedelta(hours=5)) == []
    text = reported_once(watchman, night + timedelta(hours=7))
    assert text.startswith(f"*listings: {yesterday} is late*")
    assert "Asset: airbnb/neighbourhood_summary, airbnb/price_changes\n" in text
    watchman.record_day(yesterday, LISTINGS[1:])
    well_again(watchman, night + timedelta(hours=8))


@pytest.fixture
def yesterday(watchman: Watchman, monkeypatch: pytest.MonkeyPatch) -> str:
    """A day of which the listings are due and missing."""
    monkeypatch.setenv("PLATFORM_LATE_AFTER_HOURS", "0")
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    watchman.schedule_since(datetime.combine(day, time(12), UTC))
    return day.isoformat()


def test_a_late_date_whose_schedule_is_stopped_is_not_well_again(
    watchman: Watchman, platform: Platform, yesterday: str
) -> None:
    assert reported_once(watchman).startswith(f"*listings: {yesterday} is late*")
    for state in platform.instance.all_instigator_state():
        platform.instance.update_instigator_state(state.with_status(type(state.status).STOPPED))
    assert watchman.tick() == []
    assert Cursor.read(watchman.cursor).reported == {}


def test_a_late_date_whose_run_fails_is_told_of_the_run_alone(
    watchman: Watchman, yesterday: str
) -> None:
    assert reported_once(watchman).startswith(f"*listings: {yesterday} is late*")
    watchman.fail("listings", "The table is gone.", tags={"dagster/partition": yesterday})
    assert "The table is gone." in reported_once(watchman)
    watchman.record_day(yesterday, LISTINGS)
    assert reported_once(watchman).startswith("*Well again: listings failed*")


def test_a_date_without_rows_is_one_message(watchman: Watchman) -> None:
    night = midnight_after_tomorrow()
    for days in (1, 2):
        watchman.record_day((night - timedelta(days=days)).date().isoformat(), DIGITS + LISTINGS)
    yesterday = (night - timedelta(days=1)).date().isoformat()
    watchman.record("airbnb/snapshot", yesterday, **{"dagster/partition_row_count": 0})
    text = reported_once(watchman, night + timedelta(hours=7))
    assert text.startswith(f"*listings: {yesterday} is empty*")
    assert "Asset: airbnb/snapshot\n" in text


def test_a_date_whose_run_failed_is_not_told_a_second_time_as_late(
    watchman: Watchman, yesterday: str
) -> None:
    watchman.fail("listings", "The table is gone.", tags={"dagster/partition": yesterday})
    assert "The table is gone." in reported_once(watchman)


def test_a_spend_above_its_limit_is_one_message_a_month(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "10")
    for cost in (4.0, 5.0, 0.0):
        watchman.record("mnist/model", DATE, estimated_cost=cost)
    assert watchman.tick() == []
    watchman.record("mnist/model", NEXT, estimated_cost=2.5)
    text = reported_once(watchman)
    assert "is above its limit" in text
    assert "Now: 11.50 for training" in text
    watchman.record("mnist/model", NEXT, estimated_cost=100.0)
    assert watchman.tick() == [], "it is above the limit as before"
    next_month = datetime.now(UTC).replace(day=1) + timedelta(days=32)
    # Listings are late by then; that the month is over is not well.
    assert not any("Well again" in text for text in watchman.tick(next_month))


def test_a_spend_below_a_limit_that_was_raised_is_well_again(
    watchman: Watchman, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "10")
    watchman.record("mnist/model", DATE, estimated_cost=12.0)
    reported_once(watchman)
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "20")
    well_again(watchman)


@pytest.fixture
def serving(watchman: Watchman, digits: Platform, endpoint: str) -> str:
    """The endpoint's name; it serves a good classifier of DATE, and nothing is wrong."""
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 1000)
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    assert watchman.tick() == []
    return endpoint


def test_a_classifier_that_its_gate_refuses_is_one_message_until_a_newer_one_serves(
    watchman: Watchman, digits: Platform, serving: str
) -> None:
    chain = ["mnist/model", "mnist/classifier", "mnist/endpoint"]
    few = {"mnist__model": {"config": {"clusters": 10}}}
    low = {"mnist__classifier": {"config": {"min_accuracy": 0.1}}}
    digits.run("digits", NEXT, assets=chain, config={"ops": {**few, **low}})
    text = reported_once(watchman)
    assert text.startswith("*A classifier is not deployed: its gate refused it*")
    assert f"Date: {NEXT}\n" in text
    assert "accuracy_above_gate: " in text
    assert f"The live one of {DATE} classifies" in text

    # That the endpoint is as it should be does not make the classifier better.
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    assert watchman.tick() == []
    wide = {"mnist__classifier": {"config": {"min_accuracy": 0.1, "max_drop": 0.9}}}
    assert digits.run("digits", NEXT, assets=chain, config={"ops": {**few, **wide}}).success
    well_again(watchman)


def test_a_range_of_which_the_gate_refuses_one_names_that_one(
    watchman: Watchman, digits: Platform, serving: str
) -> None:
    few = {"mnist__model": {"config": {"clusters": 10}}}
    low = {"mnist__classifier": {"config": {"min_accuracy": 0.1}}}
    chain = ["mnist/model", "mnist/classifier", "mnist/endpoint"]
    # What is live is as good as itself; only what comes after it is compared with it.
    put_digits(digits, "2026-01-04")
    digits.run("digits", "2026-01-04", NEXT, assets=chain, config={"ops": {**few, **low}})
    text = reported_once(watchman)
    assert text.startswith("*A classifier is not deployed")
    assert NEXT in text.split("Date: ")[1].split("\n")[0]
    assert "2026-01-04" not in text.split("Date: ")[1].split("\n")[0]


def test_a_deployment_that_fails_its_proof_is_one_message(
    watchman: Watchman, digits: Platform, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_classifier(digits, NEXT, 1100)
    with monkeypatch.context() as broken:
        # What was live is put back, since the new one's answers are not the expected ones.
        broken.setattr(centroids, "digits_of", lambda images, _: np.full(len(images), 11))
        digits.run("digits", NEXT, assets=["mnist/endpoint"])
    text = reported_once(watchman)
    assert text.startswith("*A deployment failed*")
    assert "classified otherwise" in text
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    well_again(watchman)


def test_a_rollback_by_a_person_is_one_message_until_something_newer_serves(
    watchman: Watchman, digits: Platform, serving: str
) -> None:
    put_classifier(digits, NEXT, 1100)
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    job = build_defs().resolve_job_def("rollback_endpoint")
    assert job.execute_in_process(instance=digits.instance).success
    text = reported_once(watchman)
    assert text.startswith("*The endpoint was rolled back*")
    # A daily run leaves it as it is.
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    assert watchman.tick() == []
    put_classifier(digits, NEXT, 1200)
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    well_again(watchman)


def test_an_endpoint_that_is_silent_is_one_message(
    watchman: Watchman, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as silent:
        silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", CLOSED)
        assert watchman.tick() == []
        text = reported_once(watchman)
    assert text.startswith(f"*The endpoint {serving} does not answer*")
    assert "a request to it fails" in text
    well_again(watchman)


def test_a_sagemaker_that_is_silent_is_one_message(
    watchman: Watchman, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as silent:
        silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER", CLOSED)
        assert watchman.tick() == []
        assert "SageMaker cannot be asked" in reported_once(watchman)
    well_again(watchman)


def test_a_single_look_without_an_answer_is_no_message(
    watchman: Watchman, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it happens, as long as the endpoint answers in between."""
    for _ in range(3):
        with monkeypatch.context() as silent:
            silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", CLOSED)
            assert watchman.tick() == []
        assert watchman.tick() == []


def test_an_endpoint_that_is_gone_is_one_message_but_not_after_a_teardown(
    watchman: Watchman, digits: Platform, serving: str
) -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=serving)
    sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=serving, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert "It does not exist" in reported_once(watchman)
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    well_again(watchman)
    job = build_defs().resolve_job_def("teardown_endpoint")
    assert job.execute_in_process(instance=digits.instance).success
    assert watchman.tick() == []
