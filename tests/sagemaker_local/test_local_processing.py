"""Processing jobs: what the code is given, what comes out, what is refused, and how they end."""

import json
import re
import time
from typing import Any

import psutil
import pytest
from botocore.exceptions import WaiterError

from tests.sagemaker_local.rig import (
    IMAGE,
    PATIENCE_SECONDS,
    Server,
    processing_input,
    processing_job,
    refusal,
    unique,
    wait_until_ended,
)
from tests.sagemaker_local.test_local_contract import registry
from tests.sagemaker_local.test_local_lists import with_faults
from tests.sagemaker_local.test_local_script_mode import IMAGE as SCRIPT_IMAGE
from tests.sagemaker_local.test_local_transform import outputs

GROUP = "/aws/sagemaker/ProcessingJobs"
OWN = registry("process:1")


def started(server: Server, bucket: str, *arguments: str, **changes: Any) -> str:
    """The name of a job of processing_image.py, which has begun."""
    name = unique("processing")
    request = processing_job(name, bucket, *arguments, **({"image": OWN} | changes))
    server.sagemaker.create_processing_job(**request)
    return name


def completed(server: Server, bucket: str, name: str) -> dict[str, bytes]:
    described = server.processed(name)
    assert described["ProcessingJobStatus"] == "Completed", described.get("FailureReason")
    assert described["ProcessingEndTime"] >= described["ProcessingStartTime"]
    return outputs(server, bucket, name)


def failed(server: Server, name: str) -> dict[str, Any]:
    with pytest.raises(WaiterError):
        server.processed(name)
    described = server.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert described["ProcessingJobStatus"] == "Failed"
    return described


def log(server: Server, name: str) -> list[str]:
    """The lines so far."""
    try:
        events = server.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    except server.logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events["events"]]


def process_of(server: Server, name: str) -> psutil.Process:
    """The process of a job that waits, once it does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (match := re.search(r"pid (\d+)", "\n".join(log(server, name)))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return psutil.Process(int(match[1]))


def test_the_code_gets_the_files_and_variables_that_aws_gives(
    image_server: Server, store: str
) -> None:
    """On two instances, which share one input; what the application manages itself is not moved."""
    folder = unique("in")
    for key in ("a/one.txt", "a/deep/two.txt", "b/three.txt"):
        image_server.s3.put_object(Bucket=store, Key=f"{folder}/{key}", Body=key.encode())
    manifest = json.dumps([{"prefix": f"s3://{store}/{folder}/"}, "b/three.txt"])
    image_server.s3.put_object(Bucket=store, Key=f"{folder}-manifest", Body=manifest.encode())
    named = {"S3DataType": "ManifestFile"}
    sharded = {"S3DataDistributionType": "ShardedByS3Key"}
    inputs = [
        processing_input(f"s3://{store}/{folder}/a", "all", "in/all"),
        processing_input(f"s3://{store}/{folder}-manifest", "named", "in/named", **named),
        processing_input(f"s3://{store}/{folder}/", "shared", "in/shared", **sharded),
        processing_input("s3://no-such-bucket/", "own", "in/own") | {"AppManaged": True},
    ]
    name = started(
        image_server,
        store,
        "describe",
        "--rows",
        "/opt/ml/processing/in",
        ProcessingInputs=inputs,
        Environment={"MINE": "1"},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
        cluster={"InstanceCount": 2},
    )
    written = completed(image_server, store, name)
    assert sorted(written) == ["deep/algo-1.json", "deep/algo-2.json"]
    first, second = (json.loads(written[key]) for key in sorted(written))
    everywhere = {
        "all/one.txt": "a/one.txt",
        "all/deep/two.txt": "a/deep/two.txt",
        "named/b/three.txt": "b/three.txt",
    }
    assert first["data"] == everywhere | {
        "shared/a/deep/two.txt": "a/deep/two.txt",
        "shared/b/three.txt": "b/three.txt",
    }
    assert second["data"] == everywhere | {"shared/a/one.txt": "a/one.txt"}

    described = image_server.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert described["ExitMessage"] == "described algo-1"
    assert "FailureReason" not in described
    config = second["config"]
    assert config["resourceconfig"] == {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}
    members = config["processingjobconfig"]
    assert members["ProcessingInputs"] == inputs
    assert members["ProcessingJobArn"] == described["ProcessingJobArn"]
    assert members == {key: described[key] for key in members}
    environment = second["environment"]
    base = environment["SAGEMAKER_BASE_DIR"]
    assert second["arguments"] == ["--rows", f"{base}/processing/in"]
    assert (environment["MINE"], environment["AWS_REGION"]) == ("1", "eu-west-1")
    assert environment["AWS_ENDPOINT_URL_S3"] == image_server.env["AWS_ENDPOINT_URL_S3"]
    assert sorted(log(image_server, name)) == [
        *["to standard error"] * 2,
        *["to standard output"] * 2,
    ]
    assert not (image_server.data_dir / "jobs" / f"processing-job-{name}").exists()


def test_with_network_isolation_the_code_has_no_keys(image_server: Server, store: str) -> None:
    name = started(image_server, store, "describe", NetworkConfig={"EnableNetworkIsolation": True})
    seen = json.loads(completed(image_server, store, name)["deep/algo-1.json"])
    assert "AWS_REGION" in seen["environment"]
    assert "AWS_SECRET_ACCESS_KEY" not in seen["environment"]


def test_a_failed_job_says_why_and_keeps_nothing(image_server: Server, store: str) -> None:
    name = started(image_server, store, "fail")
    described = failed(image_server, name)
    assert described["FailureReason"] == "AlgorithmError: , exit code: 3"
    assert described["ExitMessage"].startswith("the moon is full, the moon is full, ")
    assert len(described["ExitMessage"]) == 1024
    assert outputs(image_server, store, name) == {}


def test_a_link_to_a_file_of_the_machine_is_not_uploaded(image_server: Server, store: str) -> None:
    name = started(image_server, store, "link")
    assert failed(image_server, name)["FailureReason"].startswith(
        "ClientError: Unable to upload /opt/ml/processing/out: passwd is neither a file"
    )
    assert outputs(image_server, store, name) == {}


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ("job-failure", "AlgorithmError: failure on demand, exit code: 1"),
        ("capacity-error", "CapacityError: Unable to provision requested ML compute capacity."),
    ],
)
def test_jobs_fail_on_demand(image_server: Server, store: str, plan: str, reason: str) -> None:
    name = unique("processing")
    request = processing_job(name, store, "describe", image=OWN)
    with_faults(image_server, plan).create_processing_job(**request)
    assert failed(image_server, name)["FailureReason"].startswith(reason)


def test_a_stopped_job_leaves_neither_process_nor_output(image_server: Server, store: str) -> None:
    name = started(image_server, store, "wait")
    process = process_of(image_server, name)
    image_server.sagemaker.stop_processing_job(ProcessingJobName=name)
    described = image_server.processed(name)
    assert described["ProcessingJobStatus"] == "Stopped"
    assert "FailureReason" not in described
    assert wait_until_ended([process])
    assert outputs(image_server, store, name) == {}
    answer = refusal(lambda: image_server.sagemaker.stop_processing_job(ProcessingJobName=name))
    words = "The request was rejected because the processing job is in status Stopped."
    assert answer["Error"]["Message"] == words


def test_a_job_ends_at_its_time_limit(image_server: Server, store: str) -> None:
    name = started(image_server, store, "wait", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert image_server.processed(name)["ProcessingJobStatus"] == "Stopped"


def test_a_killed_server_fails_the_job_and_leaves_nothing(
    own_image_server: Server, store: str
) -> None:
    own_image_server.start()
    name = started(own_image_server, store, "wait")
    process = process_of(own_image_server, name)
    assert wait_until_ended([process, *own_image_server.kill()])
    own_image_server.start()
    described = failed(own_image_server, name)
    assert "restarted" in described["FailureReason"]
    assert described["ProcessingEndTime"]
    assert outputs(own_image_server, store, name) == {}
    assert not (own_image_server.data_dir / "jobs").exists()
    again = started(own_image_server, store, "describe")
    assert list(completed(own_image_server, store, again)) == ["deep/algo-1.json"]


def test_what_a_killed_supervisor_leaves_ends_with_its_job(
    image_server: Server, store: str
) -> None:
    name = started(image_server, store, "wait")
    process = process_of(image_server, name)
    supervisor = process.parent()
    assert supervisor is not None
    assert "sagemaker_local.supervisor" in supervisor.cmdline()
    supervisor.kill()
    assert failed(image_server, name)["FailureReason"].endswith("exit code: 137")
    assert wait_until_ended([process])


def test_jobs_are_listed_and_tagged(image_server: Server, store: str) -> None:
    client = image_server.sagemaker
    tags = [{"Key": "a", "Value": "b"}]
    name = started(image_server, store, "describe", Tags=tags)
    completed(image_server, store, name)
    described = client.describe_processing_job(ProcessingJobName=name)
    assert described["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}
    arn = described["ProcessingJobArn"]
    assert arn == f"arn:aws:sagemaker:eu-west-1:123456789012:processing-job/{name}"
    assert client.list_tags(ResourceArn=arn)["Tags"] == tags
    pages = client.get_paginator("list_processing_jobs").paginate(
        NameContains=name, StatusEquals="Completed"
    )
    (only,) = [job for page in pages for job in page["ProcessingJobSummaries"]]
    assert (only["ProcessingJobName"], only["ExitMessage"]) == (name, "described algo-1")
    taken = refusal(
        lambda: client.create_processing_job(**processing_job(name, store, "x", image=OWN))
    )
    assert taken["Error"]["Code"] == "ResourceInUse"
    assert taken["Error"]["Message"].startswith("Processing job names must be unique within")


def test_a_script_runs_by_the_python_of_the_table(image_server: Server, store: str) -> None:
    image_server.s3.put_object(
        Bucket=store,
        Key="code/my.py",
        Body=b"import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.executable)",
    )
    name = started(
        image_server,
        store,
        "/opt/ml/processing/out/it",
        image=SCRIPT_IMAGE,
        application={"ContainerEntrypoint": ["python3", "/opt/ml/processing/in/my.py"]},
        ProcessingInputs=[processing_input(f"s3://{store}/code/my.py")],
    )
    (written,) = completed(image_server, store, name).values()
    assert written.startswith(b"/")


IN = processing_input("s3://none-of-this-name/in")


def changed(item: dict[str, Any], member: str, **changes: Any) -> dict[str, Any]:
    """An input or output with another place."""
    return item | {member: item[member] | changes}


def out(**changes: Any) -> dict[str, Any]:
    """An output configuration."""
    place = {
        "S3Uri": "s3://bucket/x",
        "LocalPath": "/opt/ml/processing/out",
        "S3UploadMode": "EndOfJob",
    }
    return {"Outputs": [{"OutputName": "out", "S3Output": place | changes}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ProcessingInputs": [IN]}, 'No S3 objects found under S3 URL "s3://none-of-this-name'),
        ({"ProcessingInputs": [IN, IN]}, "Duplicate InputName in."),
        ({"ProcessingInputs": [{"InputName": "in"}]}, "ProcessingInput in: S3Input is required."),
        (
            {"ProcessingInputs": [changed(IN, "S3Input", S3InputMode="Pipe")]},
            "ProcessingInput in: the S3InputMode Pipe is not supported; use File.",
        ),
        (
            {"ProcessingInputs": [changed(IN, "S3Input", S3CompressionType="Gzip")]},
            "the S3CompressionType Gzip can only be used with the S3InputMode Pipe",
        ),
        (
            {"ProcessingInputs": [changed(IN, "S3Input", LocalPath="/data")]},
            "LocalPath is required and must begin with /opt/ml/processing/, not /data.",
        ),
        (
            {"ProcessingOutputConfig": out(LocalPath="/opt/ml/processing/../../../etc")},
            "ProcessingOutput out: LocalPath is required and must begin with",
        ),
        (
            {"ProcessingOutputConfig": out(S3UploadMode="Continuous")},
            "the S3UploadMode Continuous is not supported; use EndOfJob.",
        ),
        (
            {"ProcessingOutputConfig": {"Outputs": [{"OutputName": "out"}]}},
            "ProcessingOutput out: S3Output is required.",
        ),
        ({"ProcessingOutputConfig": out(S3Uri="https://host/x")}, "Invalid S3Uri: https://host/x."),
        ({"image": IMAGE}, "of the built-in k-means trains and serves, and runs no processing"),
        ({"image": registry("none:1")}, "Cannot find repository: none in registry"),
        (
            {"application": {"ContainerEntrypoint": ["sh"]}},
            "ContainerEntrypoint is not supported for images that run as processes",
        ),
        ({"image": SCRIPT_IMAGE}, "needs a ContainerEntrypoint of python3 and a script"),
        (
            {"image": SCRIPT_IMAGE, "application": {"ContainerEntrypoint": ["sh", "x"]}},
            "needs a ContainerEntrypoint of python3 and a script",
        ),
    ],
)
def test_what_aws_or_this_server_cannot_do_is_refused(
    image_server: Server, store: str, changes: dict[str, Any], words: str
) -> None:
    request = processing_job(unique(), store, "describe", **({"image": OWN} | changes))
    error = refusal(lambda: image_server.sagemaker.create_processing_job(**request))["Error"]
    assert error["Code"] == "ValidationException"
    assert words in error["Message"]


def test_a_job_that_never_was_is_not_found(server: Server) -> None:
    for call in (server.sagemaker.describe_processing_job, server.sagemaker.stop_processing_job):
        error = refusal(lambda call=call: call(ProcessingJobName="none"))["Error"]
        assert (error["Code"], error["Message"]) == (
            "ValidationException",
            "Requested resource not found.",
        )
