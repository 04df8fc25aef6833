"""What the tests of the SageMaker resource share: a resource, data to train on, faults on demand."""

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


@pytest.fixture
def training_uri(environment: Mapping[str, str], bucket: str) -> str:
    """Points in the plane, around (0, 0) and (10, 10), as CSV in S3."""
    points = np.random.default_rng(1).normal(size=(200, 2)) * 0.1
    points[100:] += 10
    body = "\n".join(f"{x:.4f},{y:.4f}" for x, y in points)
    boto3.client("s3").put_object(Bucket=bucket, Key="points/train.csv", Body=body.encode())
    return f"s3://{bucket}/points/"


@pytest.fixture
def make_spec(training_uri: str, bucket: str, unique: str) -> MakeSpec:
    """Specs of k-means jobs, the same each time but for what is said."""

    def make(**changes: Any) -> TrainingJobSpec:
        fields: dict[str, Any] = {
            "name": unique,
            "image": builtin_image_uri("kmeans", "eu-west-1"),
            "hyperparameters": {"k": "2", "feature_dim": "2"},
            "channels": [
                S3Channel(name="train", s3_uri=training_uri, content_type="text/csv;label_size=0")
            ],
            "output_s3_uri": f"s3://{bucket}/models",
            **changes,
        }
        return TrainingJobSpec(**fields)

    return make


@pytest.fixture
def trained(sagemaker: SageMakerResource, make_spec: MakeSpec, unique: str) -> TrainedJob:
    """A completed job, for endpoints to serve."""
    return sagemaker.train(make_spec(name=f"{unique}-model"))


@pytest.fixture
def endpoint(sagemaker: SageMakerResource, unique: str) -> Iterator[str]:
    """The name of an endpoint that is torn down afterwards, with all of its versions."""
    name = f"{unique}-e"
    yield name
    sagemaker.teardown(name, versions_too=True, deadline_seconds=60)


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
            "deadline_seconds": 60,
            **changes,
        }
        return EndpointSpec(**fields)

    return make
