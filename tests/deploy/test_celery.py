"""Runs over several hosts by Celery: a lost host, a cancelled training, secrets, and a lease."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import boto3
import dagster as dg
import psycopg2
import pytest

from embedded import seed_listings
from platform_assets.definitions import build_defs
from platform_assets.mnist import dataset
from resources.s3 import ObjectStore
from tests.conftest import Services, fresh_bucket, fresh_database
from tests.deploy.celery_hosts import Cluster, cluster
from tests.platform_assets import mnist_rig
from tests.platform_assets.conftest import RANGE_END, RANGE_START
from tests.waiting import PATIENCE_SECONDS, until

# Few for the suite's time; HOSTS_DATES=60 makes it sixty.
COUNT = int(os.environ.get("HOSTS_DATES", "12"))
DATES = [(date(2026, 3, 1) + timedelta(n)).isoformat() for n in range(COUNT)]
PLACES = int(os.environ.get("HOSTS_PLACES", "60"))
HOSTS = 3
SNAPSHOT, RESULTS = "airbnb/snapshot", ["airbnb/price_changes", "airbnb/neighbourhood_summary"]
LONG = {"ops": {"mnist__model": {"config": {"clusters": 60, "epochs": 100_000}}}}

pytestmark = [pytest.mark.minutes, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def hosts(
    services: Services, s3_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with (
        fresh_bucket(s3_client) as bucket,
        fresh_database(services) as dsn,
        cluster(services, bucket, dsn, tmp_path_factory.mktemp("hosts"), HOSTS) as running,
    ):
        for host in running.network.hosts:
            running.start_worker(host)
        running.start_control()
        running.require_workers()
        yield running


def status_of(hosts: Cluster, run_id: str) -> dg.DagsterRunStatus:
    run = hosts.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def records(hosts: Cluster, asset: str) -> Sequence[dg.EventLogRecord]:
    """All materialisations of an asset."""
    key = dg.AssetKey(asset.split("/"))
    return hosts.instance.fetch_materializations(key, limit=10_000).records


def materialised(hosts: Cluster, asset: str) -> Counter[str | None]:
    """Date → how often it was materialised."""
    return Counter(record.partition_key for record in records(hosts, asset))


def objects(bucket: str) -> dict[str, str]:
    return {item.key: item.etag for item in ObjectStore(bucket=bucket).list("airbnb/")}


def made_on_one_host(s3_client: Any) -> dict[str, str]:
    """The objects of a run over all dates in this process."""
    with fresh_bucket(s3_client) as bucket, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLATFORM_AIRBNB_BUCKET", bucket)
        with dg.DagsterInstance.ephemeral() as instance:
            job = build_defs().resolve_job_def("listings")
            tags = {RANGE_START: DATES[0], RANGE_END: DATES[-1]}
            assert job.execute_in_process(instance=instance, tags=tags).success
        return objects(bucket)


def require_no_secret(hosts: Cluster) -> None:
    """Nor in what runs printed, which is in S3."""
    store = ObjectStore(bucket=os.environ["PLATFORM_BUCKET"])
    printed = {
        item.key: store.get_bytes(item.key, max_bytes=2**24) for item in store.list("dagster/")
    }
    for place, content in {**hosts.written(), **printed}.items():
        for secret in hosts.secrets:
            assert secret.encode() not in content, place


# Postgres does not notice before its keepalives end that the lost host's is nobody's any more.
END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE relation = 'listings'::regclass AND pid <> pg_backend_pid()
"""


def test_the_dates_of_a_lost_host_are_made_by_the_others_and_none_twice(
    hosts: Cluster, s3_client: Any
) -> None:
    dsn = os.environ["PLATFORM_POSTGRES_DSN"]
    seed_listings.seed(dsn, DATES, places=PLACES)
    lost = hosts.network.hosts[-1]
    with closing(psycopg2.connect(dsn)) as blocker:
        # Every run that has begun waits for the table: each host has one.
        blocker.cursor().execute("LOCK TABLE listings IN ACCESS EXCLUSIVE MODE")
        for day in DATES:
            hosts.launch("listings", {"dagster/partition": day}, [SNAPSHOT])
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        until(lambda: hosts.instance.get_runs_count(started) == HOSTS, "not every host has a run")
        # No packet tells anybody of its end.
        hosts.network.unplug(lost)
        lost.kill()
        killed = time.time()
        # Those that run and those that wait outlive it.
        hosts.start_redis()
    until(lambda: materialised(hosts, SNAPSHOT).keys() == set(DATES), "dates are missing")
    (failed,) = hosts.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    days = {record.partition_key: record.timestamp - killed for record in records(hosts, SNAPSHOT)}
    own = days[failed.tags["dagster/partition"]]
    print(f"after the kill: its date {own:.0f} s, all {COUNT} {max(days.values()):.0f} s")
    halves = ((DATES[0], DATES[COUNT // 2 - 1]), (DATES[COUNT // 2], DATES[-1]))
    for first, last in halves:
        hosts.launch("listings", {RANGE_START: first, RANGE_END: last}, RESULTS)
    until(
        lambda: all(materialised(hosts, asset).keys() == set(DATES) for asset in RESULTS),
        "results are missing",
    )
    for asset in (SNAPSHOT, *RESULTS):
        assert materialised(hosts, asset) == Counter(DATES), asset
    assert objects(os.environ["PLATFORM_AIRBNB_BUCKET"]) == made_on_one_host(s3_client)
    assert any(ObjectStore(bucket=os.environ["PLATFORM_BUCKET"]).list("dagster/"))
    require_no_secret(hosts)


def test_a_cancelled_run_stops_its_training_from_another_host(hosts: Cluster) -> None:
    day = DATES[0]
    target = dataset.folder(ObjectStore(bucket=os.environ["PLATFORM_BUCKET"]), day)
    dataset.publish_channels(target, day, mnist_rig.real_digits(), inputs={})
    sagemaker: Any = boto3.client("sagemaker")

    def trains_as(status: str) -> bool:
        jobs = sagemaker.list_training_jobs(NameContains=f"mnist-{day}")["TrainingJobSummaries"]
        return [job["TrainingJobStatus"] for job in jobs] == [status]

    run = hosts.launch("digits", {"dagster/partition": day}, ["mnist/model"], LONG)
    until(lambda: trains_as("InProgress"), "nothing is trained")
    hosts.terminate(run)
    cancelled = time.monotonic()
    until(lambda: trains_as("Stopped"), "the training is not stopped")
    print(f"stopped after {time.monotonic() - cancelled:.1f} s")
    until(lambda: status_of(hosts, run) is dg.DagsterRunStatus.CANCELED, "the run is not cancelled")
    require_no_secret(hosts)


def test_a_worker_that_is_told_to_end_makes_its_run_first(hosts: Cluster) -> None:
    dsn = os.environ["PLATFORM_POSTGRES_DSN"]
    day = (date.fromisoformat(DATES[-1]) + timedelta(1)).isoformat()
    seed_listings.seed(dsn, [day], places=PLACES)
    with closing(psycopg2.connect(dsn)) as blocker:
        blocker.cursor().execute(END_SESSIONS)
        blocker.cursor().execute("LOCK TABLE listings IN ACCESS EXCLUSIVE MODE")
        run = hosts.launch("listings", {"dagster/partition": day}, [SNAPSHOT])
        until(lambda: status_of(hosts, run) is dg.DagsterRunStatus.STARTED, "the run is not begun")
        workers = [hosts.workers[host.link] for host in hosts.network.hosts]
        for worker in workers:
            worker.terminate()
    assert status_of(hosts, run) is dg.DagsterRunStatus.STARTED
    codes = [worker.wait(PATIENCE_SECONDS) for worker in workers]
    assert codes == [0, 0, -signal.SIGKILL]
    assert status_of(hosts, run) is dg.DagsterRunStatus.SUCCESS
