"""A wait ends when its Dagster run is cancelled or deleted, whatever became of the signal."""

from collections.abc import Iterator

import dagster as dg
import pytest

from resources import cancellation
from resources.cancellation import Cancellation


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "CANCEL_CHECK_SECONDS", 0.0)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    return instance.add_run(dg.DagsterRun(job_name="job", status=status))


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED])
def test_a_wait_of_a_cancelled_run_is_interrupted(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    run = add_run(instance, status)

    with pytest.raises(dg.DagsterExecutionInterruptedError, match=run.run_id):
        Cancellation(instance, run).sleep(60)


def test_a_wait_of_a_run_that_goes_on_is_not(instance: dg.DagsterInstance) -> None:
    Cancellation(instance, add_run(instance, dg.DagsterRunStatus.STARTED)).sleep(0.01)


def test_a_run_that_is_deleted_is_interrupted_and_one_that_was_never_stored_is_not(
    instance: dg.DagsterInstance,
) -> None:
    run = add_run(instance, dg.DagsterRunStatus.STARTED)
    watch = Cancellation(instance, run)
    watch.check()
    instance.delete_run(run.run_id)

    with pytest.raises(dg.DagsterExecutionInterruptedError):
        watch.check()
    Cancellation(instance, run).check()
    Cancellation().check()


def test_a_database_that_does_not_answer_cancels_nothing(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run_id: str) -> None:
        raise OSError(f"no answer about {run_id}")

    run = add_run(instance, dg.DagsterRunStatus.CANCELING)
    monkeypatch.setattr(instance, "get_run_by_id", fail)

    Cancellation(instance, run).check()
