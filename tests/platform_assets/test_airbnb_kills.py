"""Run workers of the listings, killed at random moments: what is left, and what a re-run makes."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest

from embedded import seed_listings
from embedded.aws import aws_client
from formats.manifest import NAME
from resources.docker import DockerResource
from resources.docker.container import labelled_runs
from resources.s3 import Folder, ObjectStore
from tests.containers import engine, number_cruncher_image
from tests.platform_assets.conftest import Platform

DATES = [(date(2026, 3, 1) + timedelta(n)).isoformat() for n in range(5)]
CHECKOUT = Path(__file__).resolve().parents[2]
# Few for the suite's time; KILLS=30 makes it thirty, KILLS_SEED another series.
KILLS = int(os.environ.get("KILLS", "4"))
SEED = int(os.environ.get("KILLS_SEED", "1"))


class Workers:
    """Forks run workers of the platform, one after the other.

    Attributes:
        runs: Ids of their runs.
    """

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self.runs: set[str] = set()
        with log.open("wb") as sink:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.platform_assets.run_worker"],
                cwd=CHECKOUT,
                env={**os.environ, **env},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
            )

    def start(self, job: str) -> int:
        """Start a run over all dates; returns the worker's process id."""
        assert self._server.stdin is not None
        run_id = str(uuid.uuid4())
        self.runs.add(run_id)
        self._server.stdin.write(f"{run_id} {job} {DATES[0]} {DATES[-1]}\n")
        self._server.stdin.flush()
        return self._line()

    def end(self) -> int:
        """Wait for the worker's end; returns its exit code."""
        return self._line()

    def close(self) -> None:
        self._server.communicate(timeout=60)

    def _line(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "process"])
def mode(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        number_cruncher_image()
    return request.param


@pytest.fixture
def workers(platform: Platform, mode: str, tmp_path: Path) -> Iterator[Workers]:
    own = {"PLATFORM_CRUNCHER": mode, "PLATFORM_CRUNCHER_NETWORK": "host"}
    opened = Workers({**platform.env, **own}, tmp_path / "workers.log")
    yield opened
    opened.close()


def objects(store: ObjectStore) -> dict[str, str]:
    return {item.key: item.etag for item in store.list("airbnb/")}


def half_published(store: ObjectStore) -> list[str]:
    """What is wrong with anything that counts as published."""
    prefixes = [key.removesuffix(f"/{NAME}") for key in objects(store) if key.endswith(f"/{NAME}")]
    published = [Folder(store, prefix).published() for prefix in prefixes]
    return [problem for one in published if one for problem in one.verify()]


def crunchers_of(bucket: str) -> list[int]:
    """Child processes that crunch the numbers of this test, by the environment they were given."""
    result: list[int] = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        if "numbercruncher" in command and bucket in str(process.info["environ"]):
            result.append(process.pid)
    return result


def gone(bucket: str) -> bool:
    end = time.monotonic() + 60
    while crunchers_of(bucket) and time.monotonic() < end:
        time.sleep(0.1)
    return not crunchers_of(bucket)


@pytest.mark.timeout(180 + 45 * KILLS)
def test_whatever_moment_a_run_worker_is_killed_at_a_rerun_gives_the_right_bytes(
    platform: Platform, workers: Workers, mode: str
) -> None:
    store = platform.store
    seed_listings.seed(platform.env["PLATFORM_POSTGRES_DSN"], DATES, places=300)
    usual = 0.0
    for _ in range(2):  # the first one is slow: it reads code that the later ones find in memory
        store.delete_prefix("airbnb/")
        began = time.monotonic()
        workers.start("listings")
        assert workers.end() == 0
        usual = time.monotonic() - began
    expected = objects(store)
    dice = random.Random(SEED)
    killed = tries = 0
    while killed < KILLS:
        tries += 1
        assert tries <= 3 * KILLS, f"only {killed} kills came in time (seed {SEED})"
        # Now and then the next run finds what the killed one left.
        store.delete_prefix(dice.choice(["airbnb/", "airbnb/", "airbnb/price_changes/"]))
        worker = workers.start("listings")
        time.sleep(dice.uniform(0, 0.8 * usual))
        with suppress(ProcessLookupError):  # it was faster
            os.kill(worker, signal.SIGKILL)
        killed += workers.end() == -signal.SIGKILL
        assert half_published(store) == []
        assert mode == "docker" or gone(store.bucket)
    if mode == "docker":
        # What the sensor does when it finds that these runs have ended.
        DockerResource(mode="docker").sweep(workers.runs.__contains__)
        with closing(engine()) as client:
            assert not workers.runs.intersection(labelled_runs(client).values())
    workers.start("listings")
    assert workers.end() == 0
    assert objects(store) == expected
    uploads = aws_client(platform.env, "s3").list_multipart_uploads(Bucket=store.bucket)
    assert not uploads.get("Uploads")
    assert gone(store.bucket)
