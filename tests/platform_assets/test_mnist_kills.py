"""`kill -9` of the run's process, of SageMaker's server and of a trainer, at random moments.

Three kills; KILLS=30 makes it thirty, KILLS_SEED another series. Each is printed, and the seed too.
"""

import contextlib
import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from formats.mnist_pickle import MnistDataset, Split
from platform_assets.mnist import dataset, deployed
from platform_assets.mnist.endpoint import Proof
from platform_assets.models.endpoint import Endpoint
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource
from tests.conftest import Services
from tests.platform_assets.mnist_rig import real_digits
from tests.sagemaker_local.rig import Server, wait_until_ended

KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("KILLS_SEED", "1"))
VICTIMS = ("run", "server", "trainer")
ASSETS = ("model", "classifier", "endpoint")
ENDPOINT = "digits"
FIRST = date(2026, 1, 1)
# Long enough for a kill in the middle of it, short enough for thirty.
EPOCHS = 40
RUN_SECONDS = 900
# Runs are forked from a process that has imported all already: that is their slow part.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["platform_assets.definitions", __name__])


def materialise(env: Mapping[str, str], partition: str, clusters: int) -> None:
    """What a run's process does."""
    os.environ.update(env)
    # Imported here: in the process that is killed.
    import dagster as dg

    from platform_assets.definitions import build_defs

    few = {"clusters": clusters, "epochs": EPOCHS, "mini_batch_size": 100}
    result = (
        build_defs()
        .resolve_job_def("digits")
        .execute_in_process(
            instance=dg.DagsterInstance.get(),
            tags={"dagster/partition": partition},
            asset_selection=[dg.AssetKey(["mnist", name]) for name in ASSETS],
            run_config={
                "ops": {
                    "mnist__model": {"config": few},
                    "mnist__classifier": {"config": {"min_accuracy": 0, "max_drop": 1}},
                }
            },
            raise_on_error=False,
        )
    )
    raise SystemExit(0 if result.success else 1)


@dataclass
class Rig:
    """A SageMaker that may be killed, and runs that may be.

    Attributes:
        server: The embedded SageMaker, restarted after a kill as supervisord does.
        env: The environment of a run.
        store: The bucket of the digits.
        left: Processes that must not outlive the one that they belonged to.
    """

    server: Server
    env: Mapping[str, str]
    store: ObjectStore
    left: list[psutil.Process] = field(default_factory=list)

    def start(self, number: int) -> BaseProcess:
        """Start the run of the date of that number; each date has work of its own."""
        target = dataset.folder(self.store, day(number))
        dataset.publish_channels(target, day(number), tiny(), inputs={})
        run = CONTEXT.Process(target=materialise, args=(self.env, day(number), 20 + number))
        run.start()
        return run

    def succeeds(self, number: int) -> bool:
        """Run a date to its end."""
        run = self.start(number)
        run.join(RUN_SECONDS)
        assert run.exitcode is not None, f"the run of {day(number)} hangs"
        return run.exitcode == 0

    def kill(self, victim: str, run: BaseProcess, seconds: float) -> bool:
        """Kill after so many seconds; the trainer, so long after it has begun.

        Returns:
            Whether the victim was still there.
        """
        if victim == "trainer" and not self.wait_for_trainer(run):
            return False
        run.join(seconds)
        if run.exitcode is not None:
            return False
        if victim == "run":
            assert run.pid is not None
            self.left += psutil.Process(run.pid).children(recursive=True)
            run.kill()
            run.join()
        elif victim == "server":
            self.left += self.server.kill()
            self.server.start()
        else:
            trainers = self.trainers()
            for trainer in trainers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    trainer.kill()
            return bool(trainers)
        return True

    def wait_for_trainer(self, run: BaseProcess) -> bool:
        while run.exitcode is None and not self.trainers():
            run.join(0.02)
        return run.exitcode is None

    def trainers(self) -> list[psutil.Process]:
        return [item for item in self.children() if "sagemaker_local.trainer" in command(item)]

    def children(self) -> list[psutil.Process]:
        assert self.server.process is not None
        return psutil.Process(self.server.process.pid).children(recursive=True)


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def day(number: int) -> str:
    return (FIRST + timedelta(number)).isoformat()


@cache
def tiny() -> MnistDataset:
    digits = real_digits()

    def some(split: Split, count: int) -> Split:
        return Split(split.images[:count], split.labels[:count])

    return MnistDataset(
        some(digits.train, 600), some(digits.validation, 300), some(digits.test, 150)
    )


@pytest.fixture
def rig(
    services: Services, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    server = Server(tmp_path / "sagemaker", services.env)
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    env = {
        **server.env,
        "DAGSTER_HOME": str(home),
        "PLATFORM_BUCKET": bucket,
        "PLATFORM_AIRBNB_BUCKET": bucket,
        "PLATFORM_POSTGRES_DSN": services.env["PLATFORM_POSTGRES_DSN"],
        "PLATFORM_SAGEMAKER_ROLE_ARN": services.env["PLATFORM_SAGEMAKER_ROLE_ARN"],
        "PLATFORM_ENDPOINT_NAME": ENDPOINT,
        "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.1",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore(bucket=bucket)
    server.start()
    warm = CONTEXT.Process(target=int)
    warm.start()
    warm.join()
    yield Rig(server, env, store)
    server.stop()


@pytest.mark.timeout(120 + 90 * KILLS)
def test_random_kills_cost_no_second_training_and_leave_the_right_version_live(
    rig: Rig,
) -> None:
    chance = random.Random(SEED)
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(KILLS)]
    chance.shuffle(victims)
    begun = time.monotonic()
    assert rig.succeeds(0)
    usual = time.monotonic() - begun
    print(f"seed {SEED}, {KILLS} kills, a run takes {usual:.1f} s")
    number = 1
    for _ in range(6 * KILLS):
        if not victims:
            break
        victim = victims[-1]
        moment = chance.uniform(0, usual / 4 if victim == "trainer" else usual)
        run = rig.start(number)
        if hit := rig.kill(victim, run, moment):
            victims.pop()
        run.join(RUN_SECONDS)
        assert run.exitcode is not None, f"the run of {day(number)} hangs"
        print(f"{day(number)}: {victim} after {moment:.2f} s, {hit=}, exit {run.exitcode}")
        # A date that has succeeded is done: a kill in its next run would disturb nothing.
        number += run.exitcode == 0
    assert not victims, f"{len(victims)} kills came too late each time, or a date does not recover"
    assert rig.succeeds(number), f"{day(number)} does not recover"
    print(f"{number + 1} dates in {time.monotonic() - begun:.0f} s")

    jobs = all_jobs(rig.server)
    for item in range(number + 1):
        statuses = [
            status for name, status in jobs.items() if name.startswith(f"mnist-{day(item)}-")
        ]
        assert statuses.count("Completed") == 1, (day(item), statuses)
        assert set(statuses) <= {"Completed", "Failed"}, (day(item), statuses)

    sagemaker = SageMakerResource(role_arn=rig.env["PLATFORM_SAGEMAKER_ROLE_ARN"])
    live = deployed.find_live(rig.store, sagemaker, ENDPOINT)
    assert live is not None
    assert live.date == day(number)
    state = sagemaker.describe_endpoint(ENDPOINT)
    assert state is not None
    assert state.in_service
    (version,) = [
        item for item in sagemaker.list_versions(ENDPOINT) if item.config_name == state.config_name
    ]
    assert version.version == Endpoint(name=ENDPOINT).version(live.sha256)
    assert version.verified_at
    proof = Proof.read(live)
    proof.require(lambda body, **more: sagemaker.invoke(ENDPOINT, body, **more))

    assert wait_until_ended(rig.left), "a child has outlived the process that it belonged to"
    assert rig.trainers() == []
    (serving,) = rig.children()
    assert "sagemaker_local.trainer" not in command(serving)


def all_jobs(server: Server) -> dict[str, Any]:
    return {
        item["TrainingJobName"]: item["TrainingJobStatus"]
        for page in server.sagemaker.get_paginator("list_training_jobs").paginate()
        for item in page["TrainingJobSummaries"]
    }
