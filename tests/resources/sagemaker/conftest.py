"""What the tests of the SageMaker resource share: a resource, data to train on, faults."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import boto3
import numpy as np
import pytest

from resources.sagemaker import (
    EndpointSpec,
    ModelContainer,
    S3Channel,
    SageMakerResource,
    TrainedJob,
    TrainingJobSpec,
    builtin_image_uri,
)

# Understood by the embedded SageMaker for the one request that wears it.
FAULTS_HEADER = "x-embedded-sagemaker-faults"

Faults = Callable[..., AbstractContextManager[None]]
MakeSpec = Callable[..., TrainingJobSpec]
MakeVersion = Callable[..., EndpointSpec]


class RecordingLog:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, msg: str, /) -> None:
        self.lines.append(msg)

    def warning(self, msg: str, /) -> None:
        self.lines.append(msg)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


@pytest.fixture
def sagemaker(environment: Mapping[str, str]) -> SageMakerResource:
    """The resource on the embedded SageMaker, in a hurry."""
    return SageMakerResource(
        role_arn=environment["PLATFORM_SAGEMAKER_ROLE_ARN"],
        poll_seconds=0.05,
        patience_seconds=20,
        tags={"pipeline": "tests"},
        price_per_hour={"ml.m5.large": 0.115},
    )


@pytest.fixture
def faults() -> Faults:
    """A context in which a resource's requests for one operation meet faults."""

    @contextmanager
    def context(resource: SageMakerResource, plan: str, *, operation: str) -> Iterator[None]:
        event = f"before-call.sagemaker.{operation}"

        def add_header(params: dict[str, Any], **_: Any) -> None:
            params["headers"][FAULTS_HEADER] = plan

        events = resource.clients.control.meta.events
        events.register(event, add_header)
        try:
            yield
        finally:
            events.unregister(event, add_header)

    return context


@pytest.fixture
def unique() -> str:
    """A name that no other test has."""
    return f"t{secrets.token_hex(5)}"


def points() -> bytes:
    """Points in the plane, around (0, 0) and (10, 10), as CSV."""
    rows = np.random.default_rng(1).normal(size=(200, 2)) * 0.1
    rows[100:] += 10
    return "\n".join(f"{x:.4f},{y:.4f}" for x, y in rows).encode()


def kmeans(name: str, training_uri: str, output_uri: str, **changes: Any) -> TrainingJobSpec:
    """A k-means job on these points."""
    fields: dict[str, Any] = {
        "name": name,
        "image": builtin_image_uri("kmeans", "eu-west-1"),
        "hyperparameters": {"k": "2", "feature_dim": "2"},
        "channels": [
            S3Channel(name="train", s3_uri=training_uri, content_type="text/csv;label_size=0")
        ],
        "output_s3_uri": output_uri,
        **changes,
    }
    return TrainingJobSpec(**fields)


@pytest.fixture
def training_uri(environment: Mapping[str, str], bucket: str) -> str:
    """Where the points are in S3."""
    boto3.client("s3").put_object(Bucket=bucket, Key="points/train.csv", Body=points())
    return f"s3://{bucket}/points/"


@pytest.fixture
def make_spec(training_uri: str, bucket: str, unique: str) -> MakeSpec:
    """Specs of k-means jobs, the same each time but for what is said."""

    def make(name: str = unique, **changes: Any) -> TrainingJobSpec:
        return kmeans(name, training_uri, f"s3://{bucket}/models", **changes)

    return make


@pytest.fixture(scope="session")
def trained(services: Any) -> TrainedJob:
    """A completed job, for all endpoints to serve."""
    name = f"m{secrets.token_hex(5)}"
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in services.env.items():
            patch.setenv(variable, value)
        boto3.client("s3").create_bucket(Bucket=name)
        boto3.client("s3").put_object(Bucket=name, Key="points/train.csv", Body=points())
        resource = SageMakerResource(
            role_arn=services.env["PLATFORM_SAGEMAKER_ROLE_ARN"], poll_seconds=0.1
        )
        return resource.train(kmeans(name, f"s3://{name}/points/", f"s3://{name}/models"))


@pytest.fixture
def endpoint(sagemaker: SageMakerResource, unique: str) -> Iterator[str]:
    """The name of an endpoint that is torn down afterwards, with all of its versions."""
    name = f"{unique}-e"
    yield name
    sagemaker.teardown(name, versions_too=True, deadline_seconds=120)


@pytest.fixture
def make_version(trained: TrainedJob, endpoint: str) -> MakeVersion:
    """Specs of an endpoint, by version."""

    def make(version: str, **changes: Any) -> EndpointSpec:
        container = ModelContainer(
            image=trained.image,
            model_data_url=trained.artifact_uri,
            environment={"VERSION": version},
        )
        fields: dict[str, Any] = {
            "endpoint_name": endpoint,
            "version": version,
            "container": container,
            "deadline_seconds": 120,
            **changes,
        }
        return EndpointSpec(**fields)

    return make
