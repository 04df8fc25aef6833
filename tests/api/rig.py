"""What the API's tests stand on: a classifier trained and deployed, and a server process."""

import base64
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from embedded import s3
from embedded.aws import aws_client
from formats import digit_confidence, ndarray_file, recordio
from formats.digit_features import VERSION
from formats.digit_images import prepare
from platform_assets.mnist import centroids
from tests.conftest import CHECKOUT, clean_environ
from tests.local_servers import free_port

ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"
SETTINGS = {
    "k": "256",
    "feature_dim": "794",
    "epochs": "3",
    "mini_batch_size": "5000",
    "extra_center_factor": "4",
    "local_lloyd_num_trials": "1",
}


Centroids = NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Digits, (n, 28, 28) uint8, and which they are, (n,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def prepared(self) -> NDArray[np.float32]:
        """(n, 784) float32, as training has them."""
        return prepare((self.pixels / 256).reshape(-1, 784))


@dataclass
class Deployment:
    """An endpoint, and the artifacts that it may serve.

    Attributes:
        endpoint: Its name.
        trained: (256, 794), the centroids as the training job left them, marked with digits.
        centroids: (10·m, 784), those it serves.
        validation: Digits by which it is told how sure it may be.
    """

    env: Mapping[str, str]
    bucket: str
    endpoint: str
    trained: Centroids
    centroids: Centroids
    validation: Split

    @classmethod
    @contextmanager
    def create(
        cls,
        env: Mapping[str, str],
        trained: Centroids,
        validation: Split,
        features: int = VERSION,
    ) -> Iterator[Self]:
        """Renumber, put into service; all is gone afterwards."""
        name = f"digits-{secrets.token_hex(4)}"
        with _bucket(env) as bucket:
            created = cls(env, bucket, name, trained, trained, validation)
            created.centroids = created.put(created.first, features=features)
            created.sagemaker().create_endpoint(EndpointName=name, EndpointConfigName=created.first)
            try:
                created.wait()
                yield created
            finally:
                created.sagemaker().delete_endpoint(EndpointName=name)

    @property
    def first(self) -> str:
        """The name of the configuration that it begins with."""
        return f"{self.endpoint}-first"

    def put(self, config: str, *, turn: int = 0, features: int = VERSION) -> Centroids:
        """An endpoint configuration for the trained centroids, renumbered.

        `turn` moves the order of each digit's centroids on, so that the numbers of two
        configurations differ wherever they can.
        """
        numbered = centroids.renumber(*centroids.unmarked(np.roll(self.trained, turn, 0)))
        prefix = f"mnist/classifiers/endpoint={self.endpoint}/{config}"
        reach = digit_confidence.reach(self.validation.prepared(), self.validation.labels, numbered)
        evaluation = json.dumps(
            {"features": features, "accuracy": 0.97, "test_digits": 500, "reach": reach.tolist()}
        )
        store = aws_client(self.env, "s3")
        packed = ndarray_file.pack_model(numbered)
        store.put_object(Bucket=self.bucket, Key=f"{prefix}/model.tar.gz", Body=packed)
        store.put_object(Bucket=self.bucket, Key=f"{prefix}/evaluation.json", Body=evaluation)
        data = f"s3://{self.bucket}/{prefix}/model.tar.gz"
        sagemaker = self.sagemaker()
        sagemaker.create_model(
            ModelName=config,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": data},
        )
        sagemaker.create_endpoint_config(
            EndpointConfigName=config,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": config,
                    "InitialInstanceCount": 1,
                    "InstanceType": "ml.m5.large",
                }
            ],
        )
        return numbered

    def wait(self) -> None:
        """Until the endpoint is in service."""
        self.sagemaker().get_waiter("endpoint_in_service").wait(
            EndpointName=self.endpoint, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )

    def sagemaker(self) -> Any:
        """A client of the control plane."""
        return aws_client(self.env, "sagemaker")


@contextmanager
def _bucket(env: Mapping[str, str]) -> Iterator[str]:
    store = aws_client(env, "s3")
    bucket = f"api-{secrets.token_hex(6)}"
    s3.ensure_bucket(store, bucket)
    try:
        yield bucket
    finally:
        for item in store.list_objects_v2(Bucket=bucket).get("Contents", []):
            store.delete_object(Bucket=bucket, Key=item["Key"])
        store.delete_bucket(Bucket=bucket)


def train(env: Mapping[str, str], digits: Split) -> Centroids:
    """(256, 794), by a training job."""
    with _bucket(env) as bucket:
        return _train(env, bucket, digits)


def _train(env: Mapping[str, str], bucket: str, digits: Split) -> Centroids:
    store = aws_client(env, "s3")
    name = f"digits-{secrets.token_hex(4)}"
    marked = centroids.marked(digits.prepared(), digits.labels)
    body = b"".join(recordio.encode(marked, digits.labels.astype(np.float32)))
    store.put_object(Bucket=bucket, Key="train/data.rec", Body=body)
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/train/"}
    sagemaker = aws_client(env, "sagemaker")
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        HyperParameters=SETTINGS,
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": source},
                "ContentType": "application/x-recordio-protobuf",
            }
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=name, WaiterConfig={"Delay": 0.3, "MaxAttempts": 1000}
    )
    key = f"models/{name}/output/model.tar.gz"
    return ndarray_file.unpack_model(store.get_object(Bucket=bucket, Key=key)["Body"].read())


@dataclass(frozen=True)
class Served:
    """A running local server."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self) -> httpx.Client:
        """A client that knows of no proxy."""
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)


def answers(api: httpx.Client, pictures: list[bytes]) -> list[dict[str, object]]:
    """The batch route's answers."""
    batch = {"images": [base64.b64encode(picture).decode() for picture in pictures]}
    response = api.post("/batch", json=batch)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def share_right(
    api: httpx.Client, pictures: list[bytes], labels: NDArray[np.int64] | list[int]
) -> float:
    """The share of pictures whose digit is told rightly; one without an answer is wrong."""
    few = [pictures[start : start + 25] for start in range(0, len(pictures), 25)]
    reply = [answer for item in few for answer in answers(api, item)]
    return float(np.mean([a.get("digit") == b for a, b in zip(reply, labels, strict=True)]))


@contextmanager
def serve(env: Mapping[str, str], folder: Path) -> Iterator[Served]:
    """`python -m api` on a free port, until the block ends."""
    port = free_port()
    log = folder / f"api-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api", "--port", str(port)],
            cwd=CHECKOUT,
            env=clean_environ(**env),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    served = Served(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + 120
        with served.client() as probe:
            while not _answers(probe):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield served
    finally:
        process.terminate()
        process.wait(120)


def _answers(probe: httpx.Client) -> bool:
    try:
        return probe.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False
