"""A disk without room for a training job's data, for a model, or for a single byte."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from formats import ndarray_file
from tests.conftest import Services
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import (
    DIMENSIONS,
    IMAGE,
    ROLE,
    Server,
    as_recordio,
    job,
    refusal,
    unique,
    variant,
)

ORIGIN = np.zeros((1, DIMENSIONS), np.float32)
FULL = "cannot write to its own disk"


@pytest.fixture
def small(services: Services, tmp_path: Path) -> Iterator[Server]:
    """A server whose data are on a disk of 4 MB, in memory; only root may mount it."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    server = Server(place, services.env, FAST)
    server.start()
    yield server
    server.stop()
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_job_whose_data_do_not_fit_fails_with_the_reason_and_smaller_jobs_train(
    small: Server, store: str
) -> None:
    large = unique("large")
    small.s3.create_bucket(Bucket=large)
    points = np.random.default_rng(0).normal(size=(80_000, 16)).astype(np.float32)
    small.s3.put_object(Bucket=large, Key="train/data.rec", Body=as_recordio(points))
    small.sagemaker.create_training_job(**job("large", large))

    description = small.until("large", "Failed", "Completed")
    assert description["TrainingJobStatus"] == "Failed"
    assert "No space left on device" in description["FailureReason"]

    small.sagemaker.create_training_job(**job("fits", store))
    assert small.finished("fits")["TrainingJobStatus"] == "Completed"


@contextmanager
def full(server: Server) -> Iterator[None]:
    """The server's disk is full while the block runs."""
    filler = server.data_dir / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    yield
    filler.unlink()


@pytest.fixture
def bucket(small: Server) -> str:
    name = unique("models")
    small.s3.create_bucket(Bucket=name)
    return name


def config(server: Server, bucket: str, artifact: bytes) -> str:
    """An endpoint configuration that serves this artifact."""
    name = unique("config")
    server.s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=artifact)
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant(name)]
    )
    return name


def nearest(number: int) -> bytes:
    """An artifact whose centroid with this number is the nearest one to the origin."""
    centroids = np.full((3, DIMENSIONS), 1000, np.float32)
    centroids[number] = 0
    return ndarray_file.pack_model(centroids)


def endpoint(server: Server, configured: str) -> str:
    name = unique("endpoint")
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=configured)
    server.in_service(name)
    return name


def test_a_model_that_does_not_fit_is_refused_with_the_reason_and_smaller_ones_are_deployed(
    small: Server, bucket: str
) -> None:
    first, large = config(small, bucket, nearest(1)), config(small, bucket, os.urandom(5_000_000))
    name, never = endpoint(small, first), unique("endpoint")
    small.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=large)
    small.sagemaker.create_endpoint(EndpointName=never, EndpointConfigName=large)

    state = small.in_service(name)
    assert state["EndpointConfigName"] == first
    assert "No space left on device" in state["FailureReason"]
    assert small.predict(name, ORIGIN) == [1]
    while (failed := small.sagemaker.describe_endpoint(EndpointName=never))[
        "EndpointStatus"
    ] == "Creating":
        time.sleep(0.05)
    assert failed["EndpointStatus"] == "Failed"
    assert "No space left on device" in failed["FailureReason"]

    second = config(small, bucket, nearest(2))
    small.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=second)
    state = small.in_service(name)
    assert state["EndpointConfigName"] == second
    assert "FailureReason" not in state
    assert small.predict(name, ORIGIN) == [2]


def test_a_deployment_on_a_full_disk_is_refused_with_the_reason(small: Server, bucket: str) -> None:
    first, second = (config(small, bucket, nearest(number)) for number in (1, 2))
    name = endpoint(small, first)
    calls = [
        partial(small.sagemaker.update_endpoint, EndpointName=name),
        partial(small.sagemaker.create_endpoint, EndpointName=unique("endpoint")),
    ]
    with full(small):
        for call in calls:
            error = refusal(partial(call, EndpointConfigName=second))["Error"]
            assert error["Code"] == "ResourceLimitExceeded"
            assert FULL in error["Message"]
        assert small.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "InService"
        assert small.predict(name, ORIGIN) == [1]
    assert len(small.sagemaker.list_endpoints()["Endpoints"]) == 1


def test_the_old_model_goes_on_serving_where_the_disk_fills_up_during_a_deployment(
    small: Server, bucket: str
) -> None:
    first, second = (config(small, bucket, nearest(number)) for number in (1, 2))
    name = endpoint(small, first)
    canary = {
        "TrafficRoutingConfiguration": {
            "Type": "CANARY",
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            "WaitIntervalInSeconds": 2000,  # 20 seconds on this server
        }
    }
    small.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=second,
        DeploymentConfig={"BlueGreenUpdatePolicy": canary},
    )
    while small.predict(name, ORIGIN) != [2]:
        pass
    with full(small):
        assert small.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
        while len(serving(small)) > 1:
            time.sleep(0.05)
        assert {small.predict(name, ORIGIN)[0] for _ in range(20)} == {1}

    state = small.in_service(name)
    assert state["EndpointConfigName"] == first
    assert FULL in state["FailureReason"]
    small.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=second)
    state = small.in_service(name)
    assert state["EndpointConfigName"] == second
    assert "FailureReason" not in state
    assert small.predict(name, ORIGIN) == [2]


def serving(server: Server) -> list[psutil.Process]:
    assert server.process is not None
    return psutil.Process(server.process.pid).children()
