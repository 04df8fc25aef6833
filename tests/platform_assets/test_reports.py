"""What Dagster is told of dates that were made and of dates that failed."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import dagster as dg
import pytest
from tenacity import wait_none

from platform_assets import retries
from platform_assets.checks import Verdict, check_each, check_now, judge_each
from platform_assets.errors import PlatformError
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization, expected_errors_as_failures, make_each
from platform_assets.retries import retry_call, retry_dates

FIRST, MIDDLE, LAST = "2026-01-01", "2026-01-02", "2026-01-03"
RANGE = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
ASSET = dg.AssetKey("thing")


class PassingError(PlatformError):
    """A fault that passes by itself."""

    transient: ClassVar[bool] = True


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    instance: dg.DagsterInstance,
    make: Callable[[str], Materialization],
    tags: dict[str, str] = RANGE,
) -> dg.ExecuteInProcessResult:
    @dg.asset(key=ASSET, partitions_def=DAILY, backfill_policy=ONE_RUN)
    def thing(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return make_each(context, make)

    return dg.materialize([thing], instance=instance, tags=tags, raise_on_error=False)


def materialization_of(date: str) -> Materialization:
    return Materialization({"date": date}, data_version=f"v-{date}")


def poisoned(date: str) -> Materialization:
    if date == MIDDLE:
        raise ValueError("the rows of this day are unreadable")
    return materialization_of(date)


def versions(instance: dg.DagsterInstance) -> dict[str | None, tuple[object, str | None]]:
    # Newest first: of a date's events the newest counts.
    records = instance.fetch_materializations(ASSET, limit=20).records[::-1]
    events = [record.asset_materialization for record in records]
    return {
        event.partition: (
            event.metadata["date"].value,
            (event.tags or {}).get("dagster/data_version"),
        )
        for event in events
        if event is not None
    }


def test_each_date_of_a_range_shows_its_own_metadata(instance: dg.DagsterInstance) -> None:
    assert run(instance, materialization_of).success
    assert {date: output[0] for date, output in versions(instance).items()} == {
        date: date for date in (FIRST, MIDDLE, LAST)
    }


def test_the_version_of_a_range_changes_with_the_bytes_of_any_of_its_dates(
    instance: dg.DagsterInstance,
) -> None:
    def changed(date: str) -> Materialization:
        return Materialization(
            {"date": date}, data_version="other" if date == MIDDLE else f"v-{date}"
        )

    seen: list[object] = []
    for make in (materialization_of, materialization_of, changed):
        assert run(instance, make).success
        seen.append(versions(instance)[FIRST][1])
    assert seen[0] == seen[1] != seen[2]


def test_a_single_date_has_the_data_version_of_its_bytes(instance: dg.DagsterInstance) -> None:
    assert run(instance, materialization_of, tags={"dagster/partition": MIDDLE}).success
    assert versions(instance) == {MIDDLE: (MIDDLE, f"v-{MIDDLE}")}


def test_a_date_that_fails_fails_alone_and_the_run_says_why(instance: dg.DagsterInstance) -> None:
    result = run(instance, poisoned)

    assert not result.success
    assert versions(instance) == {FIRST: (FIRST, f"v-{FIRST}"), LAST: (LAST, f"v-{LAST}")}
    (event,) = result.get_step_failure_events()
    output = event.step_failure_data.user_failure_data
    assert output is not None
    assert output.description == (
        f"1 date(s) failed. {MIDDLE}: thing: ValueError: the rows of this day are unreadable"
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is tried again at once."""
    monkeypatch.setattr(retries, "WAIT", wait_none())


@pytest.mark.usefixtures("impatient")
def test_only_the_dates_that_may_pass_are_tried_again(instance: dg.DagsterInstance) -> None:
    tried: list[str] = []

    def make(date: str) -> Materialization:
        tried.append(date)
        if date == MIDDLE and tried.count(date) < 3:
            raise PassingError("the service is busy")
        if date == LAST:
            raise ValueError("wrong")
        return materialization_of(date)

    result = run(instance, make)
    assert not result.success
    assert tried == [FIRST, MIDDLE, LAST, MIDDLE, MIDDLE]
    assert set(versions(instance)) == {FIRST, MIDDLE}


@pytest.mark.usefixtures("impatient")
def test_what_does_not_pass_fails_after_some_attempts(instance: dg.DagsterInstance) -> None:
    tried: list[str] = []

    def make(date: str) -> Materialization:
        tried.append(date)
        raise PassingError("the service is busy")

    assert not run(instance, make, tags={"dagster/partition": FIRST}).success
    assert tried == [FIRST] * retries.ATTEMPTS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "outcome",
    [
        PassingError("The store is busy."),
        {
            dg.AssetKey("a"): materialization_of(FIRST),
            dg.AssetKey("b"): PassingError("The store is busy."),
            dg.AssetKey("c"): PassingError("The store is busy."),
        },
    ],
    ids=["of the date", "of some of its assets"],
)
def test_a_further_attempt_is_announced_with_its_reason(
    outcome: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dg.get_dagster_logger(), "propagate", True)
    retry_dates([FIRST], lambda dates: dict.fromkeys(dates, outcome))
    announced = f"{FIRST} failed for a reason that may pass: tried again in 0 s. The store is busy."
    assert caplog.messages == [announced] * (retries.ATTEMPTS - 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("error", "attempts"),
    [(PassingError("The store is busy."), 3), (ValueError("wrong"), 1)],
    ids=["it may pass", "it will not pass"],
)
def test_a_call_is_tried_again_only_where_its_error_may_pass(
    error: Exception, attempts: int
) -> None:
    tried: list[int] = []

    def call() -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        retry_call("The endpoint", call)
    assert len(tried) == attempts


def test_a_failure_of_no_date_has_the_errors_words_and_is_not_retried_by_dagster() -> None:
    with pytest.raises(dg.Failure) as failure, expected_errors_as_failures():
        raise PlatformError("The bucket is empty: fill it.")
    assert failure.value.description == "The bucket is empty: fill it."
    assert not failure.value.allow_retries
    with pytest.raises(KeyError), expected_errors_as_failures():
        raise KeyError("rows")


def test_a_run_that_is_interrupted_ends_and_does_not_begin_again(
    instance: dg.DagsterInstance,
) -> None:
    tried: list[str] = []

    def make(date: str) -> Materialization:
        tried.append(date)
        raise dg.DagsterExecutionInterruptedError

    assert not run(instance, make).success
    assert tried == [FIRST]


def checked(
    instance: dg.DagsterInstance, verify: Callable[[str], Verdict], tags: dict[str, str]
) -> dg.ExecuteInProcessResult:
    @dg.asset(key=ASSET, partitions_def=DAILY, backfill_policy=ONE_RUN)
    def thing() -> None: ...

    @dg.asset_check(asset=thing, blocking=True, partitions_def=DAILY)
    def sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return check_each(context, verify)

    @dg.asset(deps=[thing], partitions_def=DAILY, backfill_policy=ONE_RUN)
    def after() -> None: ...

    return dg.materialize([thing, sound, after], instance=instance, tags=tags, raise_on_error=False)


def test_each_date_of_a_range_is_judged_by_itself_and_one_bad_one_stops_what_follows(
    instance: dg.DagsterInstance,
) -> None:
    result = checked(instance, lambda date: Verdict(date != MIDDLE, f"seen on {date}"), tags=RANGE)

    assert not result.success
    assert not result.asset_materializations_for_node("after")
    by_partition = {item.partition: item.passed for item in result.get_asset_check_evaluations()}
    assert by_partition == {FIRST: True, MIDDLE: False, LAST: True, None: False}
    for item in result.get_asset_check_evaluations():
        if item.partition:
            wanted = dg.AssetRecordsFilter(asset_key=ASSET, asset_partitions=[item.partition])
            (newest,) = instance.fetch_materializations(wanted, limit=1).records
            assert item.target_materialization_data is not None
            assert item.target_materialization_data.storage_id == newest.storage_id


@pytest.mark.parametrize(
    "tags",
    [
        {"dagster/partition": FIRST},
        {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": FIRST},
    ],
    ids=["a run of a date", "a backfill of a date"],
)
def test_a_single_date_is_judged_as_itself(
    instance: dg.DagsterInstance, tags: dict[str, str]
) -> None:
    result = checked(instance, lambda date: Verdict(True, date), tags).get_asset_check_evaluations()
    assert [item.passed for item in result if item.partition == FIRST] == [True]


def test_a_check_that_cannot_be_made_is_not_a_passed_one(instance: dg.DagsterInstance) -> None:
    def verify(date: str) -> Verdict:
        raise FileNotFoundError("no such object")

    result = checked(instance, verify, tags={"dagster/partition": FIRST})

    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.partition == FIRST
    reason = "could not be checked: FileNotFoundError: no such object"
    assert evaluation.description == f"{FIRST}: {reason}"


@pytest.mark.parametrize("severity", ["warn", "error"])
def test_a_check_without_a_date_fails_as_its_verdict_says(
    severity: Literal["warn", "error"],
) -> None:
    result = check_now(lambda: Verdict(False, "odd", severity=severity))
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity(severity.upper()))


DAYS = [f"2026-01-{day:02}" for day in range(1, 7)]


def test_so_many_dates_are_checked_at_a_time_and_told_in_their_order() -> None:
    together = threading.Barrier(3)
    running: set[str] = set()

    def verify(date: str) -> Verdict:
        running.add(date)
        place = together.wait(120)  # alone, one would wait in vain
        most.append(len(running))
        time.sleep(place / 100)
        running.remove(date)
        return Verdict(True, date)

    most: list[int] = []
    verdicts = judge_each(DAYS, verify, at_once=3)
    assert [(date, item.description) for date, item in verdicts.items()] == [
        (date, date) for date in DAYS
    ]
    assert max(most) == 3


def test_an_interruption_does_not_wait_for_what_is_being_checked(interrupts: int) -> None:
    two, interrupted = threading.Barrier(3), threading.Event()

    def verify(date: str) -> Verdict:
        begun.append(date)
        two.wait(120)
        ended.append(interrupted.wait(120))
        return Verdict(True, date)

    def interrupt() -> None:
        two.wait(120)
        while not interrupted.wait(0.1):
            signal.pthread_kill(interrupts, signal.SIGUSR1)

    begun: list[str] = []
    ended: list[bool] = []
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            judge_each(DAYS, verify, at_once=2)
        assert not ended
    finally:
        interrupted.set()
        thread.join()
    assert begun == DAYS[:2]
