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
from platform_assets.mnist import centroids
from tests.monitoring.conftest import LISTINGS, AlertsRig
from tests.platform_assets import airbnb_rig
from tests.platform_assets.conftest import Platform, definitions
from tests.platform_assets.mnist_rig import put_classifier, put_digits
from tests.receivers import webhook

pytestmark = pytest.mark.minutes

DATE, NEXT = "2026-01-05", "2026-01-06"
DIGITS = ["mnist/raw", "mnist/dataset", "mnist/model", "mnist/classifier"]
CLOSED = "http://127.0.0.1:9"
Config = dict[str, dict[str, str]]  # op → field → value


def reported_once(rig: AlertsRig, at: datetime | None = None) -> str:
    """The one message of a tick, which the next ticks do not repeat."""
    texts = rig.tick(at)
    assert len(texts) == 1, texts
    assert rig.tick(at) == []
    assert rig.tick(at) == []
    return texts[0]


def well_again(rig: AlertsRig, at: datetime | None = None) -> None:
    assert reported_once(rig, at).startswith("*Well again: ")


def test_dates_that_a_check_refuses_are_one_message_that_names_them(
    rig: AlertsRig, platform: Platform, table: connection
) -> None:
    bad = airbnb_rig.DATES[1:3]
    for day in bad:
        airbnb_rig.change(
            table, "update listings set price = -1 where download_date = %(day)s", day=day
        )
    platform.run("listings", airbnb_rig.FIRST, airbnb_rig.LAST)
    text = reported_once(rig)
    assert text.startswith("*listings failed*")
    assert f"Date: {bad[0]}, {bad[1]}\n" in text
    assert "airbnb/snapshot" in text
    assert "negative" in text
    assert "http://127.0.0.1:" in text

    airbnb_rig.change(table, "update listings set price = 50 where price = -1")
    # One alone is not all; both are, whichever runs made them.
    platform.run("listings", bad[0])
    assert rig.tick() == []
    platform.run("listings", bad[1])
    well_again(rig)


def test_a_database_that_does_not_answer_is_one_message(
    rig: AlertsRig, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WAIT", wait_none())
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", "postgresql://me:hush@127.0.0.1:9/none")
    for _ in range(2):  # the same again is no news
        platform.run("listings", airbnb_rig.FIRST)
    text = reported_once(rig)
    assert "hush" not in text
    platform.run("listings", airbnb_rig.FIRST)
    assert rig.tick() == []


def test_a_worker_that_is_lost_is_one_message_once_dagster_does_not_start_it_again(
    rig: AlertsRig, platform: Platform
) -> None:
    partition = {"dagster/partition": DATE}
    first = rig.record_run(
        "listings", dg.DagsterRunStatus.STARTED, {**partition, "dagster/will_retry": "true"}
    )
    platform.instance.report_run_failed(first, "The run's process was killed.")
    assert rig.tick() == []
    again = rig.record_run("listings", dg.DagsterRunStatus.STARTED, partition)
    platform.instance.report_run_failed(again, "The run's process was killed.")
    text = reported_once(rig)
    assert "The run's process was killed." in text
    assert f"Date: {DATE}" in text


def test_a_run_that_a_person_cancels_is_no_problem(rig: AlertsRig, platform: Platform) -> None:
    run = rig.record_run("listings", dg.DagsterRunStatus.CANCELING)
    platform.instance.report_run_canceled(run)
    assert rig.tick() == []


def test_a_step_that_raises_is_one_message_until_the_same_job_succeeds(
    rig: AlertsRig, platform: Platform
) -> None:
    """The button to roll back, with nothing to roll back; it is of no date."""
    job = definitions().resolve_job_def("rollback_endpoint")
    assert not job.execute_in_process(instance=platform.instance, raise_on_error=False).success
    text = reported_once(rig)
    assert text.startswith("*rollback_endpoint failed*")
    rig.succeed("rollback_endpoint")
    well_again(rig)


@pytest.mark.parametrize(
    ("job", "first", "second"),
    [
        (
            "rollback_endpoint",
            {"rollback_endpoint_form": {"to": "v1"}},
            {"rollback_endpoint_form": {"to": "v2"}},
        ),
        (
            "repair",
            {"repair_dates": {"from_date": DATE, "to_date": DATE}},
            {"repair_dates": {"from_date": NEXT, "to_date": NEXT}},
        ),
    ],
)
def test_a_run_is_not_well_again_by_one_with_another_configuration(
    rig: AlertsRig, job: str, first: Config, second: Config
) -> None:
    rig.fail(job, config=first)
    reported_once(rig)
    rig.succeed(job, config=second)
    assert rig.tick() == []
    rig.succeed(job, config=first)
    well_again(rig)


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
    rig: AlertsRig, platform: Platform, status: dg.DagsterRunStatus, title: str
) -> None:
    run = rig.record_run("digits", status, {"dagster/partition": DATE})
    now = datetime.now(UTC)
    assert rig.tick(now + timedelta(hours=2)) == []
    text = reported_once(rig, now + timedelta(hours=4))
    assert text.startswith(f"*{title}*")
    platform.instance.report_run_canceled(run)
    well_again(rig, now + timedelta(hours=4))


def test_a_run_that_hangs_and_then_fails_is_not_well_again(
    rig: AlertsRig, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_STUCK_AFTER_MINUTES", "0.000001")
    run = rig.record_run("digits", dg.DagsterRunStatus.STARTED, {"dagster/partition": DATE})
    reported_once(rig)
    platform.instance.report_run_failed(run, "It was terminated.")
    assert reported_once(rig).startswith("*digits failed*")


def test_a_queue_that_stands_still_is_one_message_however_long_it_is(rig: AlertsRig) -> None:
    for _ in range(5):
        rig.record_run("listings", dg.DagsterRunStatus.NOT_STARTED)
    reported_once(rig, datetime.now(UTC) + timedelta(hours=4))


def midnight_after_tomorrow() -> datetime:
    """When the first day has ended on which the schedules ran for all of it."""
    now = datetime.now(UTC) + timedelta(days=2)
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_date_that_is_late_is_one_message_for_its_job(rig: AlertsRig) -> None:
    night = midnight_after_tomorrow()
    yesterday, before = ((night - timedelta(days=n)).date().isoformat() for n in (1, 2))
    for date in (yesterday, before):
        rig.record_day(date, DIGITS)
    rig.record_day(before, LISTINGS)
    rig.record_day(yesterday, LISTINGS[:1])
    # Six hours after 00:30, when the schedule asks for it.
    assert rig.tick(night + timedelta(hours=6, minutes=29)) == []
    text = reported_once(rig, night + timedelta(hours=6, minutes=31))
    assert text.startswith(f"*listings: {yesterday} is late*")
    assert f"Asset: {', '.join(sorted(LISTINGS[1:]))}\n" in text
    rig.record_day(yesterday, LISTINGS[1:])
    well_again(rig, night + timedelta(hours=8))


@pytest.fixture
def yesterday(rig: AlertsRig, monkeypatch: pytest.MonkeyPatch) -> str:
    """A day of which the listings are due and missing."""
    monkeypatch.setenv("PLATFORM_LATE_AFTER_HOURS", "0")
    # Until 00:30 it is the day before.
    day = (datetime.now(UTC) - timedelta(days=1, minutes=30)).date()
    rig.schedule_since(datetime.combine(day, time(12), UTC))
    return day.isoformat()


def test_a_late_date_whose_schedule_is_stopped_is_not_well_again(
    rig: AlertsRig, platform: Platform, yesterday: str
) -> None:
    assert reported_once(rig).startswith(f"*listings: {yesterday} is late*")
    for state in platform.instance.all_instigator_state():
        platform.instance.update_instigator_state(state.with_status(type(state.status).STOPPED))
    assert rig.tick() == []
    assert Cursor.read(rig.cursor).reported == {}


def test_a_late_date_whose_run_fails_is_told_of_the_run_alone(
    rig: AlertsRig, yesterday: str
) -> None:
    assert reported_once(rig).startswith(f"*listings: {yesterday} is late*")
    rig.fail("listings", "The table is gone.", tags={"dagster/partition": yesterday})
    assert "The table is gone." in reported_once(rig)
    rig.record_day(yesterday, LISTINGS)
    assert reported_once(rig).startswith("*Well again: listings failed*")


def test_a_date_without_rows_is_one_message(rig: AlertsRig) -> None:
    night = midnight_after_tomorrow()
    for days in (1, 2):
        rig.record_day((night - timedelta(days=days)).date().isoformat(), DIGITS + LISTINGS)
    yesterday = (night - timedelta(days=1)).date().isoformat()
    rig.record("airbnb/snapshot", yesterday, **{"dagster/partition_row_count": 0})
    text = reported_once(rig, night + timedelta(hours=7))
    assert text.startswith(f"*listings: {yesterday} is empty*")
    assert "Asset: airbnb/snapshot\n" in text


def test_a_date_whose_run_failed_is_not_told_a_second_time_as_late(
    rig: AlertsRig, yesterday: str
) -> None:
    rig.fail("listings", "The table is gone.", tags={"dagster/partition": yesterday})
    assert "The table is gone." in reported_once(rig)


def test_a_spend_above_its_limit_is_one_message_a_month(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "10")
    for cost in (4.0, 5.0, 0.0):
        rig.record("mnist/model", DATE, estimated_cost=cost)
    assert rig.tick() == []
    rig.record("mnist/model", NEXT, estimated_cost=2.5)
    text = reported_once(rig)
    assert "is above its limit" in text
    assert "Now: 11.50 for training" in text
    rig.record("mnist/model", NEXT, estimated_cost=100.0)
    assert rig.tick() == [], "it is above the limit as before"
    next_month = datetime.now(UTC).replace(day=1) + timedelta(days=32)
    # Listings are late by then; that the month is over is not well.
    assert not any("Well again" in text for text in rig.tick(next_month))


def test_a_spend_below_a_limit_that_was_raised_is_well_again(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "10")
    rig.record("mnist/model", DATE, estimated_cost=12.0)
    reported_once(rig)
    monkeypatch.setenv("PLATFORM_SPEND_LIMIT", "20")
    well_again(rig)


@pytest.fixture
def serving(rig: AlertsRig, digits: Platform, endpoint: str) -> str:
    """The endpoint's name; it serves a good classifier of DATE, and nothing is wrong."""
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 1000)
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    assert rig.tick() == []
    return endpoint


def test_a_classifier_that_its_gate_refuses_is_one_message_until_a_newer_one_serves(
    rig: AlertsRig, digits: Platform, serving: str
) -> None:
    chain = ["mnist/model", "mnist/classifier", "mnist/endpoint"]
    few = {"mnist__model": {"config": {"clusters": 10}}}
    low = {"mnist__classifier": {"config": {"min_accuracy": 0.1}}}
    digits.run("digits", NEXT, assets=chain, config={"ops": {**few, **low}})
    text = reported_once(rig)
    assert text.startswith("*A classifier is not deployed: its gate refused it*")
    assert f"Date: {NEXT}\n" in text
    assert "accuracy_above_gate: " in text
    assert f"The live one of {DATE} classifies" in text

    # That the endpoint is as it should be does not make the classifier better.
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    assert rig.tick() == []
    wide = {"mnist__classifier": {"config": {"min_accuracy": 0.1, "max_drop": 0.9}}}
    assert digits.run("digits", NEXT, assets=chain, config={"ops": {**few, **wide}}).success
    well_again(rig)


def test_a_range_of_which_the_gate_refuses_one_names_that_one(
    rig: AlertsRig, digits: Platform, serving: str
) -> None:
    few = {"mnist__model": {"config": {"clusters": 10}}}
    low = {"mnist__classifier": {"config": {"min_accuracy": 0.1}}}
    chain = ["mnist/model", "mnist/classifier", "mnist/endpoint"]
    # What is live is as good as itself; only what comes after it is compared with it.
    put_digits(digits, "2026-01-04")
    digits.run("digits", "2026-01-04", NEXT, assets=chain, config={"ops": {**few, **low}})
    text = reported_once(rig)
    assert text.startswith("*A classifier is not deployed")
    assert NEXT in text.split("Date: ")[1].split("\n")[0]
    assert "2026-01-04" not in text.split("Date: ")[1].split("\n")[0]


def test_a_deployment_that_fails_its_proof_is_one_message(
    rig: AlertsRig, digits: Platform, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_classifier(digits, NEXT, 1100)
    with monkeypatch.context() as broken:
        # What was live is put back, since the new one's answers are not the expected ones.
        broken.setattr(centroids, "digits_of", lambda images, _: np.full(len(images), 11))
        digits.run("digits", NEXT, assets=["mnist/endpoint"])
    text = reported_once(rig)
    assert text.startswith("*A deployment failed*")
    assert "classified otherwise" in text
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    well_again(rig)


def test_a_rollback_by_a_person_is_one_message_until_something_newer_serves(
    rig: AlertsRig, digits: Platform, serving: str
) -> None:
    put_classifier(digits, NEXT, 1100)
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    job = definitions().resolve_job_def("rollback_endpoint")
    assert job.execute_in_process(instance=digits.instance).success
    text = reported_once(rig)
    assert text.startswith("*The endpoint was rolled back*")
    # A daily run leaves it as it is.
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    assert rig.tick() == []
    put_classifier(digits, NEXT, 1200)
    assert digits.run("digits", NEXT, assets=["mnist/endpoint"]).success
    well_again(rig)


def test_a_version_that_waits_for_approval_is_one_message_until_somebody_decides(
    rig: AlertsRig, digits: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_APPROVAL", "required")
    put_digits(digits, DATE)
    version = put_classifier(digits, DATE, 400).sha256
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    text = reported_once(rig)
    assert text.startswith("*A version of mnist/classifier waits for approval*")
    assert version in text
    assert DATE in text
    form = {"version": version, "by": "Ada", "why": "Its sevens are poor."}
    rejected = digits.run(
        "reject_classifier", DATE, config={"ops": {"reject_classifier_form": {"config": form}}}
    )
    assert rejected.success
    well_again(rig)


def test_an_endpoint_that_is_silent_is_one_message(
    rig: AlertsRig, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as silent:
        silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", CLOSED)
        assert rig.tick() == []
        text = reported_once(rig)
    assert text.startswith(f"*The endpoint {serving} does not answer*")
    assert "a request to it fails" in text
    well_again(rig)


def test_a_sagemaker_that_is_silent_is_one_message(
    rig: AlertsRig, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as silent:
        silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER", CLOSED)
        assert rig.tick() == []
        assert "SageMaker cannot be asked" in reported_once(rig)
    well_again(rig)


def test_an_endpoint_that_answers_oddly_is_one_message(
    rig: AlertsRig, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook("") as odd, monkeypatch.context() as answering:
        odd.answer = b"<html>"
        answering.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", odd.url)
        assert rig.tick() == []
        assert "did not answer as k-means" in reported_once(rig)
    well_again(rig)


def test_a_single_look_without_an_answer_is_no_message(
    rig: AlertsRig, serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it happens, as long as the endpoint answers in between."""
    for _ in range(3):
        with monkeypatch.context() as silent:
            silent.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", CLOSED)
            assert rig.tick() == []
        assert rig.tick() == []


def test_an_endpoint_that_is_gone_is_one_message_but_not_after_a_teardown(
    rig: AlertsRig, digits: Platform, serving: str
) -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=serving)
    sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=serving, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert "It does not exist" in reported_once(rig)
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    well_again(rig)
    job = definitions().resolve_job_def("teardown_endpoint")
    assert job.execute_in_process(instance=digits.instance).success
    assert rig.tick() == []
