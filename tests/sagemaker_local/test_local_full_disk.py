"""A disk that has no room for the data of a training job."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Services
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import Server, as_recordio, job, unique


@pytest.fixture
def small(services: Services, tmp_path: Path) -> Iterator[Server]:
    """A server whose data are on a disk of 4 MB, in memory: only root may mount it."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    server = Server(place, services.env, FAST)
    server.start()
    yield server
    server.stop()
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_job_whose_data_do_not_fit_fails_with_the_reason_and_others_train(
    small: Server, store: str
) -> None:
    large = unique("large")
    small.s3.create_bucket(Bucket=large)
    points = np.random.default_rng(0).normal(size=(80_000, 16)).astype(np.float32)
    small.s3.put_object(Bucket=large, Key="train/data.rec", Body=as_recordio(points))
    small.sagemaker.create_training_job(**job("large", large))

    found = small.until("large", "Failed", "Completed")
    assert found["TrainingJobStatus"] == "Failed"
    assert "No space left on device" in found["FailureReason"]

    small.sagemaker.create_training_job(**job("fits", store))
    assert small.finished("fits")["TrainingJobStatus"] == "Completed"
