"""Production over several hosts, for tests: a control host with Redis and Dagster, and workers.

Hosts are network namespaces. Redis speaks TLS, and keeps all that it was ever told in a file.
"""

import base64
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from embedded import postgres
from embedded.graphql import LOCATION, Dagster, DagsterError
from tests.certificates import make_authority, write_server_files
from tests.conftest import CHECKOUT, Services, clean_environ, fresh_database, point_to
from tests.deploy.conftest import variables_of
from tests.network_namespaces import GATEWAY, Host, Network, network
from tests.waiting import until

REDIS_PORT, UI_PORT = 6379, 3000
_START = CHECKOUT / "deploy" / "celery" / "start"
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
_LOCATIONS = """query { workspaceOrError { ... on Workspace { locationEntries {
  locationOrLoadError { __typename } } } } }"""
_TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""


@dataclass
class Cluster:
    """What a test drives.

    Attributes:
        network: Of the hosts.
        env: Of a host's processes.
        instance: Dagster's records, from outside.
        folder: With logs, Redis's file and Dagster's home.
        secrets: What may be nowhere.
        workers: Celery's processes by the links of their hosts.
    """

    network: Network
    env: Mapping[str, str]
    instance: dg.DagsterInstance
    folder: Path
    secrets: set[str]
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ui: Dagster | None = None
    _redis: subprocess.Popen[bytes] | None = None

    @property
    def ui(self) -> Dagster:
        """Dagster as the control host's web server shows it."""
        if self._ui is None:
            self._ui = Dagster(f"http://127.0.0.1:{self.network.let_out(UI_PORT)}")
        return self._ui

    def launch(
        self,
        job: str,
        tags: Mapping[str, str],
        assets: list[str],
        config: Mapping[str, Any] | None = None,
    ) -> str:
        """Launch a run of some assets of a job; returns its id."""
        params = {
            "selector": {
                "repositoryLocationName": LOCATION,
                "repositoryName": "__repository__",
                "jobName": job,
                "assetSelection": [{"path": key.split("/")} for key in assets],
                "assetCheckSelection": None,
            },
            "mode": "default",
            "runConfigData": dict(config or {}),
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in tags.items()]
            },
        }
        answer = self.ui.query(_LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def terminate(self, run_id: str) -> None:
        """Cancel a run, as the UI's button does."""
        answer = self.ui.query(_TERMINATE, id=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def start(self, host: Host, *command: str | Path, name: str) -> subprocess.Popen[bytes]:
        """Start a program on a host, with a log of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return host.start([str(part) for part in command], self.env, log)

    def start_redis(self) -> None:
        """Start Redis on the control host; one that runs there is killed."""
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()
        command = ("redis-server", self.folder / "redis.conf")
        self._redis = self.start(self.network.gateway, *command, name="redis")

    def start_worker(self, host: Host) -> None:
        """What a host of runs has."""
        self.workers[host.link] = self.start(host, _START, "worker", name=host.link)

    def require_workers(self) -> None:
        """Wait until all that were started take runs; one that has ended fails with its log."""
        for link, worker in self.workers.items():
            log = self.folder / f"{link}.log"
            until(
                lambda log=log, worker=worker: (
                    b" ready." in log.read_bytes() or worker.poll() is not None
                )
            )
            assert worker.poll() is None, log.read_text()

    def start_control(self) -> None:
        """What the control host has."""
        for name in ("code-server", "webserver", "daemon"):
            self.start(self.network.gateway, _START, name, name=name)
            if name == "webserver":
                # By then the code server answers, which the daemon needs.
                until(self._ui_answers, "the web server does not answer")

    def _ui_answers(self) -> bool:
        with suppress(DagsterError):
            entries = self.ui.query(_LOCATIONS)["workspaceOrError"]["locationEntries"]
            loaded = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries]
            return loaded == ["RepositoryLocation"]
        return False

    def written(self) -> dict[str, bytes]:
        """Where it stands → all that is logged, recorded or was told to Redis."""
        files = {path.name: path.read_bytes() for path in self.folder.rglob("*.log")}
        (told,) = self.folder.rglob("*.incr.aof")
        messages = re.findall(rb'"body": "([A-Za-z0-9+/=]+)"', told.read_bytes())
        assert messages, "Redis was told of no run"
        return {
            **files,
            "Redis": told.read_bytes(),
            "messages": b"".join(map(base64.b64decode, messages)),
            "records": self._records(),
        }

    def _records(self) -> bytes:
        command = [postgres.program("pg_dump"), "--data-only"]
        names = {"HOST": "DAGSTER_POSTGRES_HOST", "PORT": "DAGSTER_POSTGRES_PORT"} | {
            "USER": "POSTGRES_USER",
            "PASSWORD": "POSTGRES_PASSWORD",
            "DATABASE": "POSTGRES_DB",
        }
        env = {f"PG{short}": os.environ[name] for short, name in names.items()}
        return subprocess.run(
            command, env={**clean_environ(), **env}, check=True, capture_output=True
        ).stdout


@contextmanager
def cluster(
    services: Services, bucket: str, dsn: str, folder: Path, hosts: int
) -> Iterator[Cluster]:
    """A control host on which Redis runs, and hosts on which nothing runs yet.

    All have the same environment, and so has this process.
    """
    own = {
        "DAGSTER_HOME": str(folder / "home"),
        "PLATFORM_BUCKET": bucket,
        "PLATFORM_AIRBNB_BUCKET": bucket,
        "PLATFORM_KMS_KEY_ID": "",
        "PLATFORM_CRUNCHER": "process",
        "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.3",
        "WORKER_PROCESSES": "1",
        "PLATFORM_PSEUDONYMISE": '["host_id"]',
        "PLATFORM_PSEUDONYM_KEY": f"planted-{secrets.token_hex(8)}",
    }
    redis_password = f"redis-{secrets.token_hex(16)}"
    with (
        fresh_database(services) as records,
        network(hosts) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        _write_redis(folder, redis_password)
        env = {
            **services.env,
            **own,
            **variables_of(records),
            "PLATFORM_POSTGRES_DSN": dsn,
            "CELERY_BROKER_URL": f"rediss://:{redis_password}@{GATEWAY}:{REDIS_PORT}/0"
            f"?ssl_cert_reqs=required&ssl_ca_certs={folder}/authority.pem",
        }
        (folder / "home").mkdir()
        shutil.copy(CHECKOUT / "deploy" / "celery" / "dagster.yaml", folder / "home")
        for port in _loopback_ports(env):
            made.let_in(port)
        point_to(env, patch)
        with dg.DagsterInstance.get() as instance:
            planted = {
                own["PLATFORM_PSEUDONYM_KEY"],
                redis_password,
                env["POSTGRES_PASSWORD"],
                env["AWS_SECRET_ACCESS_KEY"],
            }
            running = Cluster(made, clean_environ(**env), instance, folder, planted)
            running.start_redis()
            yield running


def _loopback_ports(env: Mapping[str, str]) -> set[int]:
    urls = [urlsplit(value) for value in env.values() if "://" in value]
    return {url.port for url in urls if url.hostname == "127.0.0.1" and url.port}


def _write_redis(folder: Path, password: str) -> None:
    authority = make_authority("redis")
    (folder / "authority.pem").write_bytes(authority.pem)
    write_server_files(folder, authority, GATEWAY)
    settings = (CHECKOUT / "deploy" / "celery" / "redis.conf").read_text()
    for placeholder, value in {
        "ADDRESS": GATEWAY,
        "PASSWORD": password,
        "FOLDER": str(folder),
    }.items():
        settings = settings.replace(f"${{{placeholder}}}", value)
    path = folder / "redis.conf"
    path.touch(0o600)
    path.write_text(settings)
