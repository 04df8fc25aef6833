"""A server process of sagemaker_local for tests, its clients, and data to train on."""

import json
import os
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import httpx
import numpy as np
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.validate import ParamValidator
from numpy.typing import NDArray

from formats import recordio
from tests.local_servers import free_port

ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"
CHECKOUT = Path(__file__).resolve().parents[2]
DIMENSIONS, CLUSTERS = 16, 5
# Long, since a busy machine may be slow.
PATIENCE_SECONDS = 120
URLS = (
    "AWS_ENDPOINT_URL_SAGEMAKER",
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
    "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "AWS_ENDPOINT_URL_CLOUDWATCH",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_STS",
)


def blobs(count: int = 600, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Points of five well separated clusters in 16 dimensions, and which cluster each is of."""
    rng = np.random.default_rng(7)
    centres = rng.normal(0, 10, (CLUSTERS, DIMENSIONS))
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, CLUSTERS, count)
    points = centres[cluster] + rng.normal(0, 0.5, (count, DIMENSIONS))
    return points.astype(np.float32), cluster


def as_recordio(points: NDArray[np.float32], labels: NDArray[np.float32] | None = None) -> bytes:
    """RecordIO-protobuf bytes."""
    return b"".join(recordio.encode(points, labels))


def as_sparse_recordio(points: NDArray[np.float32]) -> bytes:
    """RecordIO-protobuf bytes of sparse records, as AWS's SDK writes those of a SciPy matrix."""
    records: list[bytes] = []
    for row in points:
        (keys,) = np.nonzero(row)
        values, packed = row[keys].astype("<f4").tobytes(), b"".join(map(varint, keys.tolist()))
        filled = nested(1, values) + nested(2, packed) if keys.size else b""
        tensor = filled + nested(3, varint(len(row)))
        record = nested(1, nested(1, b"values") + nested(2, nested(2, tensor)))
        head = struct.pack("<II", recordio.MAGIC, len(record))
        records.append(head + record + bytes(-len(record) % 4))
    return b"".join(records)


def nested(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def as_csv(points: NDArray[np.float32]) -> bytes:
    """CSV without header or label, with all digits of a float32."""
    return "\n".join(",".join(repr(float(v)) for v in row) for row in points).encode()


def job(name: str, bucket: str, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request for the blobs in `bucket`; None removes a member."""
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {
            "k": str(CLUSTERS),
            "feature_dim": str(DIMENSIONS),
            "mini_batch_size": "200",
        },
        "InputDataConfig": [channel("train", f"s3://{bucket}/train/")],
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
    }
    merged = request | changes
    return {key: value for key, value in merged.items() if value is not None}


def transform_job(name: str, bucket: str, model: str, **changes: Any) -> dict[str, Any]:
    """A CreateTransformJob request for what lies in `name/in/`; its output goes to `name/out`."""
    request: dict[str, Any] = {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{name}/in/"}
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
            **changes.pop("input", {}),
        },
        "TransformOutput": {
            "S3OutputPath": f"s3://{bucket}/{name}/out",
            "Accept": "text/csv",
            "AssembleWith": "Line",
            **changes.pop("output", {}),
        },
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    return request | changes


def processing_job(
    name: str, bucket: str, *arguments: str, image: str, **changes: Any
) -> dict[str, Any]:
    """A CreateProcessingJob request whose output goes to `name/out`; None removes a member."""
    place = {"S3Uri": f"s3://{bucket}/{name}/out", "LocalPath": "/opt/ml/processing/out"}
    application = {"ImageUri": image, "ContainerArguments": list(arguments)}
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5}
    request: dict[str, Any] = {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": application | changes.pop("application", {}),
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "out", "S3Output": {**place, "S3UploadMode": "EndOfJob"}}]
        },
        "ProcessingResources": {"ClusterConfig": cluster | changes.pop("cluster", {})},
    }
    merged = request | changes
    return {key: value for key, value in merged.items() if value is not None}


def processing_input(
    uri: str, name: str = "in", place: str = "in", **source: Any
) -> dict[str, Any]:
    """An input of a processing job, which lies below /opt/ml/processing."""
    s3_input = {
        "S3Uri": uri,
        "LocalPath": f"/opt/ml/processing/{place}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    return {"InputName": name, "S3Input": s3_input | source}


def channel(name: str, uri: str, kind: str = "S3Prefix", **more: Any) -> dict[str, Any]:
    """An input channel."""
    source = {"S3DataType": kind, "S3Uri": uri, **more.pop("source", {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **more}


def variant(model: str, name: str = "AllTraffic", weight: float = 1.0) -> dict[str, Any]:
    """A production variant."""
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": weight,
    }


def alarm(name: str, metric: str, **changes: Any) -> dict[str, Any]:
    """A PutMetricAlarm request: more than 0 of a metric of `Tests` in an hour."""
    request: dict[str, Any] = {
        "AlarmName": name,
        "Namespace": "Tests",
        "MetricName": metric,
        "Statistic": "Sum",
        "Period": 3600,
        "EvaluationPeriods": 1,
        "Threshold": 0.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    merged = request | changes
    return {key: value for key, value in merged.items() if value is not None}


def unique(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{secrets.token_hex(5)}"


@dataclass
class Server:
    """One server process, which may be killed and started again on the same data."""

    data_dir: Path
    s3_env: Mapping[str, str]
    extra: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def env(self) -> dict[str, str]:
        """What clients need."""
        own = dict.fromkeys(URLS, self.url)
        wanted = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        kept = {name: self.s3_env[name] for name in (*wanted, "AWS_ENDPOINT_URL_S3")}
        return kept | own

    def start(self) -> None:
        """Starts the process and waits until it answers."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.data_dir.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self.port), "--data-dir", str(self.data_dir)]
        with (self.data_dir / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sagemaker_local", *options],
                env={**inherited, **self.env, **self.extra},
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        with httpx.Client(timeout=5) as client:
            while time.monotonic() < deadline:
                try:
                    if client.get(f"{self.url}/healthz").status_code == 200:
                        return
                except httpx.HTTPError:
                    time.sleep(0.05)
                assert self.process.poll() is None, (self.data_dir / "server.log").read_text()
        raise AssertionError("the server does not answer")

    def kill(self) -> list[psutil.Process]:
        """Kills the process by SIGKILL; returns its children."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        return children

    def stop(self) -> None:
        """Ends the process by SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE_SECONDS)

    def client(self, service: str, **changes: Any) -> Any:
        """A boto3 client of any service that is offered, or of `s3`."""
        env = self.env | changes
        url = env["AWS_ENDPOINT_URL_S3"] if service == "s3" else self.url
        core = botocore.session.Session()
        # Further models of services, as the variable of this name has them.
        core.set_config_variable("data_path", env.get("AWS_DATA_PATH"))
        session: Any = boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name=env["AWS_DEFAULT_REGION"],
        )
        client = session.client(
            service,
            endpoint_url=url,
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"}, parameter_validation=False
            ),
        )
        client.meta.events.register("after-call.*.*", check_answer)
        return client

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @cached_property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @cached_property
    def logs(self) -> Any:
        return self.client("logs")

    @cached_property
    def cloudwatch(self) -> Any:
        return self.client("cloudwatch")

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    def finished(self, name: str) -> dict[str, Any]:
        """Waits for a training job, and describes it."""
        self._wait("training_job_completed_or_stopped", TrainingJobName=name)
        return self.sagemaker.describe_training_job(TrainingJobName=name)

    def transformed(self, name: str) -> dict[str, Any]:
        """Waits for a transform job, and describes it."""
        self._wait("transform_job_completed_or_stopped", TransformJobName=name)
        return self.sagemaker.describe_transform_job(TransformJobName=name)

    def processed(self, name: str) -> dict[str, Any]:
        """Waits for a processing job, and describes it."""
        self._wait("processing_job_completed_or_stopped", ProcessingJobName=name)
        return self.sagemaker.describe_processing_job(ProcessingJobName=name)

    def in_service(self, name: str) -> dict[str, Any]:
        """Waits for an endpoint, and describes it."""
        self._wait("endpoint_in_service", EndpointName=name)
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def _wait(self, waiter: str, **named: str) -> None:
        """Waits as boto3's own waiter does, but looks more often."""
        often = {"Delay": 0.1, "MaxAttempts": 10 * PATIENCE_SECONDS}
        self.sagemaker.get_waiter(waiter).wait(**named, WaiterConfig=often)

    def until(self, name: str, *statuses: str) -> dict[str, Any]:
        """Waits until a training job has a status or secondary status, and describes it."""

        def look() -> tuple[dict[str, Any], bool]:
            job = self.sagemaker.describe_training_job(TrainingJobName=name)
            return job, not {job["TrainingJobStatus"], job["SecondaryStatus"]}.isdisjoint(statuses)

        return _poll(look)

    def until_alarm(self, name: str, state: str) -> dict[str, Any]:
        """Waits until an alarm has a state, and describes it."""

        def look() -> tuple[dict[str, Any], bool]:
            (alarm,) = self.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
            return alarm, alarm["StateValue"] == state

        return _poll(look)

    def deploy(self, config: str, *variants: dict[str, Any], endpoint: str | None = None) -> str:
        """Makes a config and an endpoint of it, waits for it, and returns the endpoint's name."""
        name = endpoint or unique("ep")
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=config, ProductionVariants=list(variants)
        )
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        self.in_service(name)
        return name

    def predict(self, endpoint: str, points: NDArray[np.float32], **more: Any) -> list[int]:
        """Nearest clusters, by way of JSON."""
        body = json.dumps({"instances": [{"features": row.tolist()} for row in points]})
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=body, **more
        )
        rows = json.loads(answer["Body"].read())["predictions"]
        return [int(row["closest_cluster"]) for row in rows]


def _poll(look: Callable[[], tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    """Looks until what is seen is what is waited for; returns that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        seen, done = look()
        if done:
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.03)


# AWS leaves these members out, although its service model requires them: the one while there are no
# artifacts, the other of a version in the model registry.
_AS_AWS_DOES = {
    'Missing required parameter in input: "ModelArtifacts"',
    'Missing required parameter in input: "ModelPackageName"',
}


def check_answer(
    http_response: Any, parsed: dict[str, Any], model: OperationModel, **_: Any
) -> None:
    """Checks each answer of any test against AWS's service model: no member lacks or is unknown."""
    if http_response.status_code >= 300 or model.service_model.service_name == "s3":
        return
    answer = {key: value for key, value in parsed.items() if key != "ResponseMetadata"}
    if model.output_shape is None:
        assert not answer
        return
    report = ParamValidator().validate(answer, model.output_shape)
    wrong = set(report.generate_report().splitlines()) - _AS_AWS_DOES
    assert not wrong, f"{model.name}: {wrong}"
    strange = list(unknown_members(model.output_shape, answer, model.name))
    if model.service_model.protocol == "json":
        # botocore drops unknown members, so the raw body is checked as well.
        strange += unknown_members(
            model.output_shape, json.loads(http_response.content), model.name
        )
    assert not strange, strange


def unknown_members(shape: Any, value: Any, at: str) -> Iterator[str]:
    """A sentence for each member or enum value that the shape does not know."""
    if isinstance(value, dict):
        for key, member in value.items():
            if shape.type_name == "map":
                yield from unknown_members(shape.value, member, f"{at}.{key}")
            elif key in shape.members:
                yield from unknown_members(shape.members[key], member, f"{at}.{key}")
            else:
                yield f"{at}.{key} is not in the model"
    elif isinstance(value, list):
        for element in value:
            yield from unknown_members(shape.member, element, f"{at}[]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{at} is {value!r}, not one of {shape.enum}"


def refusal(call: Callable[[], object]) -> Any:
    """The error answer that a call must get."""
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response


def wait_until_ended(processes: list[psutil.Process]) -> bool:
    """Waits for all of these processes to end; whether they did."""
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
