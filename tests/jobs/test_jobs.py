"""When runs are asked for, and what the buttons do."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import dagster as dg
import pytest
from docker.errors import NotFound

from jobs.sources import observe_sources
from platform_assets.definitions import build_defs
from resources.docker import DockerResource
from resources.docker.container import RUN_LABEL
from resources.s3 import ObjectStore
from tests.containers import engine, number_cruncher_image
from tests.platform_assets.conftest import RANGE_END, RANGE_START

# Schedules with their hour and minute, and the asset by which they know what is there.
DAILY_SCHEDULES = [
    ("digits_daily", (1, 0), "mnist/raw"),
    ("listings_daily", (0, 30), "airbnb/snapshot"),
]


def test_the_sources_that_are_looked_at_are_no_others_that_are_called_tables() -> None:
    @dg.asset(kinds={"table"}, tags={"tier": "source"})
    def somebody_elses() -> None: ...

    outside = dg.AssetSpec("outside", kinds={"table"}, tags={"tier": "source"})
    defs = dg.Definitions.merge(build_defs(), dg.Definitions([somebody_elses, outside]))
    looked_at = observe_sources.selection.resolve(defs.resolve_asset_graph())
    assert {key.to_user_string() for key in looked_at} == {"mnist/public", "airbnb/listings"}


@pytest.mark.parametrize(("schedule", "at", "asset"), DAILY_SCHEDULES)
@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ([], ["2026-03-09"]),
        (["2026-03-08"], ["2026-03-09"]),
        (["2026-03-05", "2026-03-06"], ["2026-03-07", "2026-03-08", "2026-03-09"]),
        (["2026-03-09"], ["2026-03-09"]),
        (["2026-03-04", "2026-03-20"], [f"2026-03-0{day}" for day in range(5, 10)]),
        (["2026-01-01"], [f"2026-03-0{day}" for day in range(3, 10)]),
    ],
)
def test_a_tick_asks_for_the_day_before_it_and_for_those_missed(
    schedule: str,
    at: tuple[int, int],
    asset: str,
    existing: list[str],
    expected: list[str],
    tmp_path: Path,
) -> None:
    defs = build_defs()
    key = dg.AssetKey.from_user_string(asset)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for date in existing:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=date))
        requests = defs.resolve_schedule_def(schedule).evaluate_tick(
            dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=datetime(2026, 3, 10, *at, tzinfo=UTC),
                repository_def=defs.get_repository_def(),
            )
        )
    (request,) = requests.run_requests or []
    if request.partition_key:
        assert [request.partition_key] == expected
    else:
        assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (expected[0], expected[-1])


@pytest.mark.parametrize(("setting", "expected"), [(None, "STOPPED"), ("running", "RUNNING")])
def test_schedules_and_sensors_run_only_where_a_setting_says_so(
    setting: str | None, expected: str
) -> None:
    """In a process of its own: jobs are defined once, when they are imported."""
    code = """
from platform_assets.definitions import build_defs
defs = build_defs()
for schedule in [*defs.schedules, *defs.sensors]:
    print(schedule.name, schedule.default_status.name)
"""
    env = {name: value for name, value in os.environ.items() if name != "PLATFORM_SCHEDULES"}
    env |= {"PLATFORM_SCHEDULES": setting} if setting else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True
    )
    statuses = dict(line.split() for line in done.stdout.splitlines())
    # These start no runs.
    always = {statuses.pop(name) for name in ("orphan_containers", "overlooked_steps", "alerts")}
    assert always == {"RUNNING"}
    assert len(statuses) >= 4
    assert set(statuses.values()) == {expected}


def public_source(bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ObjectStore, str]:
    """A place for a public object, which the platform is told of; store and key."""
    monkeypatch.setenv("PLATFORM_MNIST_SOURCE", f"s3://{bucket}/public/mnist.pkl.gz")
    monkeypatch.setenv("PLATFORM_BUCKET", bucket)
    return ObjectStore(bucket=bucket), "public/mnist.pkl.gz"


def evaluate(cursor: str | None) -> tuple[list[str | None], str | None]:
    answer = tick(cursor)
    return [request.partition_key for request in answer.run_requests or []], answer.cursor


def tick(cursor: str | None) -> Any:
    """What the sensor asks for when it has seen the object with this ETag."""
    defs = build_defs()
    resources = {name: (defs.resources or {})[name] for name in ("public", "digits_store")}
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources=resources,
            repository_def=defs.get_repository_def(),
        ) as context,
    ):
        return defs.resolve_sensor_def("public_digits_changed").evaluate_tick(context)


@pytest.mark.usefixtures("environment")
def test_a_changed_public_object_asks_for_one_run_of_the_latest_date(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = public_source(bucket, monkeypatch)
    store.put_bytes(key, b"one")
    asked, first = evaluate(None)
    assert asked == []  # seen for the first time
    assert evaluate(first) == ([], first)
    store.put_bytes(key, b"two")
    asked, second = evaluate(first)
    assert len(asked) == 1
    assert second not in (None, first)
    assert evaluate(second) == ([], second)


@pytest.mark.usefixtures("environment")
def test_an_object_that_changes_back_and_again_is_a_change_each_time(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run key of date and ETag would let Dagster drop the second run of the same."""
    store, key = public_source(bucket, monkeypatch)
    store.put_bytes(key, b"one")
    cursor = evaluate(None)[1]
    for content in (b"two", b"one", b"two"):
        store.put_bytes(key, content)
        answer = tick(cursor)
        assert [request.run_key for request in answer.run_requests] == [None]
        cursor = answer.cursor


@pytest.mark.usefixtures("environment")
def test_each_content_of_the_public_object_is_told_once_by_its_etag(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = public_source(bucket, monkeypatch)
    cursor, reply = None, []
    for content in (b"one", b"one", b"two"):
        store.put_bytes(key, content)
        answer = tick(cursor)
        cursor = answer.cursor
        reply += [(item.asset_key, item.data_version) for item in answer.asset_events]
    asset = dg.AssetKey(["mnist", "public"])
    assert reply == [(asset, md5(content).hexdigest()) for content in (b"one", b"two")]


@pytest.mark.usefixtures("environment")
def test_a_public_object_that_cannot_be_seen_keeps_what_was_known(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    public_source(bucket, monkeypatch)
    assert evaluate("known") == ([], "known")


def press(button: str) -> dg.ExecuteInProcessResult:
    defs = build_defs()
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def(button)
        return job.execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.usefixtures("environment")
def test_tearing_down_what_is_not_there_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_ENDPOINT_NAME", "never-made")
    run = press("teardown_endpoint")
    assert run.success
    (observed,) = run.get_asset_observation_events()
    assert observed.asset_observation_data.asset_observation.description == (
        "never-made did not exist."
    )
    assert not boto3.client("sagemaker").list_endpoints(NameContains="never-made")["Endpoints"]


@pytest.mark.usefixtures("environment")
def test_rolling_back_what_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_ENDPOINT_NAME", "never-made")
    (event,) = press("rollback_endpoint").get_step_failure_events()
    output = event.step_failure_data.user_failure_data
    assert output is not None
    assert "never-made" in str(output.description)


def test_a_step_that_was_overlooked_when_a_place_became_free_gets_it() -> None:
    """What Dagster's own race leaves: the queued step asked just before the place was freed."""
    with dg.DagsterInstance.ephemeral() as instance:
        storage: Any = instance.event_log_storage
        storage.set_concurrency_slots("training", 1)
        assert storage.claim_concurrency_slot("training", "killed", "train").is_claimed
        # The two halves of a claim, with the killed run's place freed between them.
        assert not storage.has_unassigned_slots("training")
        storage.free_concurrency_slots_for_run("killed")
        storage.add_pending_step("training", "waiting", "train", should_assign=False)
        assert not storage.claim_concurrency_slot("training", "waiting", "train").is_claimed
        sensor = build_defs().resolve_sensor_def("overlooked_steps")
        with dg.build_sensor_context(instance=instance) as context:
            sensor.evaluate_tick(context)
        assert storage.claim_concurrency_slot("training", "waiting", "train").is_claimed
        # One place, one step: the next one waits for its turn.
        assert not storage.claim_concurrency_slot("training", "later", "train").is_claimed
        with dg.build_sensor_context(instance=instance) as context:
            sensor.evaluate_tick(context)
        assert not storage.claim_concurrency_slot("training", "later", "train").is_claimed


@pytest.mark.docker
def test_sweeping_removes_containers_of_runs_that_have_ended_and_no_others() -> None:
    image, client = number_cruncher_image(), engine()
    with dg.DagsterInstance.ephemeral() as instance:
        docker = DockerResource(mode="docker", image=image)
        job = build_defs(resource_overrides={"docker": docker}).resolve_job_def("sweep")
        running, ended = (
            instance.create_run_for_job(job, status=status).run_id
            for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE)
        )
        # The last one is of a stack beside this one, on the same engine.
        kept, left, foreign = (
            client.containers.create(image, labels={RUN_LABEL: run})
            for run in (running, ended, str(uuid4()))
        )
        try:
            assert job.execute_in_process(instance=instance).success
            with pytest.raises(NotFound):
                left.reload()
            kept.reload()
            foreign.reload()
        finally:
            for container in (kept, foreign):
                container.remove()
