"""Servers of sagemaker_local for these tests, which kill them and inject faults."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from formats import ndarray_file
from tests.conftest import Services
from tests.sagemaker_local.rig import CHECKOUT, IMAGE, ROLE, Server, as_recordio, blobs, job, unique

FAST = {
    "EMBEDDED_SAGEMAKER_STARTING_SECONDS": "0.05",
    "EMBEDDED_SAGEMAKER_STOPPING_SECONDS": "0.05",
    "EMBEDDED_SAGEMAKER_ENDPOINT_SECONDS": "0.05",
}


@pytest.fixture(scope="session")
def server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share; they must not stop it."""
    new_server = Server(tmp_path_factory.mktemp("sagemaker"), services.env, FAST)
    new_server.start()
    yield new_server
    new_server.stop()


@pytest.fixture
def own_server(services: Services, tmp_path: Path) -> Iterator[Server]:
    """A server for one test, not started yet."""
    new_server = Server(tmp_path / "own", services.env, FAST)
    yield new_server
    new_server.stop()


@pytest.fixture(scope="session")
def with_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of a server that runs any image as a process, by AWS's contract."""
    table = tmp_path_factory.mktemp("images") / "images.toml"
    folder = CHECKOUT / "tests" / "sagemaker_local"
    table.write_text(
        f"""
        ["*/contract:*"]
        command = ["{sys.executable}", "{folder}/training_image.py"]

        ["*/server:*"]
        command = ["{sys.executable}", "{folder}/serving_image.py"]

        ["*/process:*"]
        command = ["{sys.executable}", "{folder}/processing_image.py"]

        ["*/any-image:*"]
        command = ["sh", "{folder}/any_image.sh"]

        ["*/lost:1"]
        command = ["/no/such/program"]

        ["*/sagemaker-scikit-learn:*"]
        script_mode = true

        ["*/sagemaker-xgboost:*"]
        script_mode = "xgboost"
        """
    )
    return {**FAST, "EMBEDDED_SAGEMAKER_IMAGES": str(table)}


@pytest.fixture(scope="session")
def image_server(
    services: Services, with_images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that runs any image; all tests share it and must not stop it."""
    new_server = Server(tmp_path_factory.mktemp("images"), services.env, with_images)
    new_server.start()
    yield new_server
    new_server.stop()


@pytest.fixture
def own_image_server(
    services: Services, with_images: dict[str, str], tmp_path: Path
) -> Iterator[Server]:
    """A server that runs any image, for one test, not started yet."""
    new_server = Server(tmp_path / "own", services.env, with_images)
    yield new_server
    new_server.stop()


@pytest.fixture(scope="session")
def store(server: Server) -> str:
    """A bucket with the blobs as training data."""
    name = unique("blobs")
    server.s3.create_bucket(Bucket=name)
    points, _ = blobs()
    server.s3.put_object(Bucket=name, Key="train/data.rec", Body=as_recordio(points))
    return name


@pytest.fixture(scope="session")
def trained(server: Server, store: str) -> str:
    """The S3 address of the artifact of a finished training job."""
    name = unique("trained")
    server.sagemaker.create_training_job(**job(name, store))
    return server.finished(name)["ModelArtifacts"]["S3ModelArtifacts"]


@pytest.fixture(scope="session")
def model(server: Server, trained: str) -> str:
    """A model that serves the trained artifact."""
    name = unique("model")
    container = {"Image": IMAGE, "ModelDataUrl": trained}
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


@pytest.fixture(scope="session")
def flipped(server: Server, store: str) -> str:
    """A model of two centroids that answers 1 near the origin, unlike the trained model."""
    name = unique("flipped")
    centroids = np.array([[1000.0] * 16, [0.0] * 16], np.float32)
    server.s3.put_object(
        Bucket=store, Key="flipped/model.tar.gz", Body=ndarray_file.pack_model(centroids)
    )
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{store}/flipped/model.tar.gz"}
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


@pytest.fixture(scope="session")
def endpoint(server: Server, model: str) -> str:
    """An endpoint in service that tests only invoke."""
    return server.deploy(
        unique("config"), {"VariantName": "AllTraffic", "ModelName": model, **_instance()}
    )


def _instance() -> dict[str, object]:
    return {"InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
