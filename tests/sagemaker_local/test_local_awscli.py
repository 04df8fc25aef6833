"""AWS's command line, unchanged: train, deploy, invoke, transform, process, read logs, delete."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sagemaker_local.rig import (
    IMAGE,
    ROLE,
    Server,
    alarm,
    as_csv,
    blobs,
    job,
    processing_job,
    transform_job,
    unique,
    variant,
)
from tests.sagemaker_local.test_local_contract import registry

AWS = Path(sys.executable).with_name("aws")


def command_line(server: Server) -> Any:
    """A function that runs `aws …` and returns what it printed, read as JSON."""
    if not AWS.exists():
        pytest.skip("awscli is not installed beside this Python")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}

    def run(*arguments: str) -> Any:
        done = subprocess.run(
            [str(AWS), *arguments],
            env={**kept, **server.env, "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def test_train_deploy_invoke_transform_and_delete(
    server: Server, store: str, tmp_path: Path
) -> None:
    aws = command_line(server)
    name = unique("cli")
    aws("sagemaker", "create-training-job", "--cli-input-json", json.dumps(job(name, store)))
    server.finished(name)
    aws("sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", name)
    done = aws("sagemaker", "describe-training-job", "--training-job-name", name)
    artifact = done["ModelArtifacts"]["S3ModelArtifacts"]
    logs = aws("logs", "filter-log-events", "--log-group-name", "/aws/sagemaker/TrainingJobs")
    assert any("#quality_metric" in event["message"] for event in logs["events"])

    container = json.dumps({"Image": IMAGE, "ModelDataUrl": artifact})
    model = ("--model-name", name)
    aws(
        *("sagemaker", "create-model", *model, "--primary-container", container),
        *("--execution-role-arn", ROLE),
    )
    config = ("--endpoint-config-name", name)
    variants = json.dumps([variant(name)])
    aws("sagemaker", "create-endpoint-config", *config, "--production-variants", variants)
    endpoint = ("--endpoint-name", name)
    aws("sagemaker", "create-endpoint", *endpoint, *config)
    server.in_service(name)
    points, cluster = blobs(30, seed=4)
    body, answer = tmp_path / "points.csv", tmp_path / "answer.csv"
    body.write_bytes(as_csv(points))
    called = aws(
        *("sagemaker-runtime", "invoke-endpoint", *endpoint, "--content-type", "text/csv"),
        *("--accept", "text/csv", "--body", f"fileb://{body}", str(answer)),
    )
    assert called["InvokedProductionVariant"] == "AllTraffic"
    closest = [line.split(",")[0] for line in answer.read_text().splitlines()]
    assert len(set(zip(closest, cluster.tolist(), strict=True))) == len(set(cluster.tolist()))

    server.s3.put_object(Bucket=store, Key=f"{name}/in/points.csv", Body=as_csv(points))
    request = json.dumps(transform_job(name, store, name))
    aws("sagemaker", "create-transform-job", "--cli-input-json", request)
    # The command line itself looks once a minute.
    server.transformed(name)
    transform = ("--transform-job-name", name)
    aws("sagemaker", "wait", "transform-job-completed-or-stopped", *transform)
    done = aws("sagemaker", "describe-transform-job", *transform)
    assert done["TransformJobStatus"] == "Completed"
    out = f"{name}/out/points.csv.out"
    assert server.s3.get_object(Bucket=store, Key=out)["Body"].read() == answer.read_bytes()

    aws("sagemaker", "delete-endpoint", *endpoint)
    aws("sagemaker", "delete-endpoint-config", *config)
    aws("sagemaker", "delete-model", *model)
    models = aws("sagemaker", "list-models", "--name-contains", name)
    assert models["Models"] == []


def test_alarms_and_metrics(server: Server) -> None:
    aws = command_line(server)
    name = unique("cli")
    aws("cloudwatch", "put-metric-alarm", "--cli-input-json", json.dumps(alarm(name, name)))
    aws(
        *("cloudwatch", "put-metric-data", "--namespace", "Tests"),
        *("--metric-name", name, "--value", "3"),
    )
    server.until_alarm(name, "ALARM")
    # It holds for one period, which is 36 seconds on this server.
    aws(
        *("cloudwatch", "set-alarm-state", "--alarm-name", name),
        *("--state-value", "OK", "--state-reason", "a drill"),
    )
    (described,) = aws("cloudwatch", "describe-alarms", "--alarm-names", name)["MetricAlarms"]
    assert (described["StateValue"], described["StateReason"]) == ("OK", "a drill")
    aws("cloudwatch", "delete-alarms", "--alarm-names", name)
    assert aws("cloudwatch", "describe-alarms", "--alarm-names", name)["MetricAlarms"] == []


def test_process(image_server: Server, store: str) -> None:
    aws = command_line(image_server)
    name = unique("cli")
    request = processing_job(name, store, "describe", image=registry("process:1"))
    aws("sagemaker", "create-processing-job", "--cli-input-json", json.dumps(request))
    # The command line itself looks once a minute.
    image_server.processed(name)
    process = ("--processing-job-name", name)
    aws("sagemaker", "wait", "processing-job-completed-or-stopped", *process)
    done = aws("sagemaker", "describe-processing-job", *process)
    assert (done["ProcessingJobStatus"], done["ExitMessage"]) == ("Completed", "described algo-1")
