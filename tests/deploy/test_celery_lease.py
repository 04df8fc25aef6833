"""The lease of a run against a Redis that dies, hangs and forgets; and the files beside it."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest
import redis
import yaml
from celery.exceptions import Ignore

from deploy.celery.lease import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    RENEW_SECONDS,
    connect,
    lease_of,
)
from tests.conftest import CHECKOUT
from tests.local_servers import free_port

DEPLOY = CHECKOUT / "deploy"
TASK = "a-task"
LEASE, RENEW, PATIENCE = 12, 0.2, 5
HOLDER = f"""
import sys
from deploy.celery.lease import connect, hold, lease_of

lease = lease_of(connect(sys.argv[1]), "{TASK}", seconds={LEASE})
print(hold(lease, renew_seconds={RENEW}, patience_seconds={PATIENCE}), flush=True)
sys.stdin.read()
"""


class Server:
    """A Redis, by its process and a client of it."""

    def __init__(self, folder: Path) -> None:
        password, port = secrets.token_hex(16), free_port()
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        settings = folder / "redis.conf"
        settings.write_text(
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir {folder}\n'
        )
        self.process = subprocess.Popen(["redis-server", settings], stdout=subprocess.DEVNULL)
        self.client = connect(self.url)
        while not self._answers():
            assert self.process.poll() is None
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError):
            return bool(self.client.ping())
        return False

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def holder(server: Server) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of the task until it ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, server.url],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_host_leaves_a_run_alone_until_the_first_one_is_dead(
    server: Server, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", server.url)
    from deploy.celery.worker import LeasedRun

    with pytest.raises(Ignore):
        LeasedRun().before_start(TASK, (), {})
    holder.kill()
    lease = lease_of(server.client, TASK)
    assert lease.locked(), "a dead host keeps its lease for a while"
    assert lease.acquire(blocking_timeout=10 * LEASE)


def test_a_run_cut_off_from_redis_ends_before_its_lease_does(
    server: Server, holder: subprocess.Popen[str]
) -> None:
    server.process.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert holder.wait(10 * LEASE) == -signal.SIGKILL
    server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - stopped > PATIENCE - RENEW, "Redis may be away for a moment"


def test_a_run_whose_lease_is_gone_ends(server: Server, holder: subprocess.Popen[str]) -> None:
    server.client.delete(lease_of(server.client, TASK).name)
    assert holder.wait(10 * LEASE) == -signal.SIGKILL


def test_patience_ends_before_a_lease_however_slowly_redis_answers() -> None:
    assert PATIENCE_SECONDS + 2 * RENEW_SECONDS < LEASE_SECONDS


def test_the_instance_differs_from_that_of_one_host_in_how_runs_are_started_alone() -> None:
    files = (DEPLOY / "dagster.yaml", DEPLOY / "celery" / "dagster.yaml")
    one, many = (yaml.safe_load(path.read_text()) for path in files)
    assert many["run_launcher"]["config"]["broker"] == {"env": "CELERY_BROKER_URL"}
    for settings in (one, many):
        del settings["run_launcher"], settings["concurrency"]["runs"]
        for name in ("start_timeout_seconds", "poll_interval_seconds"):
            del settings["run_monitoring"][name]
    assert many == one


def test_a_lost_run_is_noticed_and_its_retry_comes_first(
    server: Server, holder: subprocess.Popen[str]
) -> None:
    """Looked at as Dagster's daemon does."""

    @dg.job
    def nothing() -> None:
        pass

    config = {"broker": server.url, "backend": server.url, "default_queue": "dagster"}
    launcher = {"module": "deploy.celery.launcher", "class": "LeasedRunLauncher", "config": config}
    with dg.DagsterInstance.local_temp(overrides={"run_launcher": launcher}) as instance:
        tags = {"dagster-celery/task_id": TASK}
        run = nothing.execute_in_process(instance=instance, tags=tags).dagster_run
        look = instance.run_launcher.check_run_worker_health
        assert look(run).status.value == "RUNNING"
        holder.kill()
        assert lease_of(server.client, TASK).acquire(blocking_timeout=10 * LEASE)
        server.client.delete(lease_of(server.client, TASK).name)
        assert look(run).status.value == "NOT_FOUND"
        kept = instance.get_run_by_id(run.run_id)
        assert kept is not None
        assert kept.tags["dagster/priority"] == "1"
