"""After `kill -9` of the server or a child, what was acknowledged holds and no process is left."""

import random
import shutil
import time

import psutil
import pytest

from tests.sagemaker_local.rig import (
    IMAGE,
    PATIENCE_SECONDS,
    ROLE,
    Server,
    as_recordio,
    blobs,
    job,
    unique,
    variant,
    wait_until_ended,
)

pytestmark = pytest.mark.minutes


def endless(name: str, store: str) -> dict[str, object]:
    """A job that would run for minutes."""
    parameters = job(name, store)["HyperParameters"] | {"epochs": "1000000"}
    return job(name, store, HyperParameters=parameters)


def trainer(server: Server) -> psutil.Process:
    assert server.process is not None
    (process,) = [
        child
        for child in psutil.Process(server.process.pid).children()
        if "sagemaker_local.trainer" in child.cmdline()
    ]
    return process


def test_a_killed_server_serves_again_and_fails_what_it_was_training(
    own_server: Server, store: str, trained: str
) -> None:
    own_server.start()
    client = own_server.sagemaker
    client.create_model(
        ModelName="m",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": trained},
        ExecutionRoleArn=ROLE,
    )
    endpoint = own_server.deploy("c", variant("m"))
    before = once_ready(own_server, endpoint)
    client.create_training_job(**endless("running", store))
    own_server.until("running", "Training")
    client.create_training_job(**endless("stopping", store), Tags=[{"Key": "a", "Value": "b"}])
    own_server.until("stopping", "Training", "Downloading", "Starting")

    children = own_server.kill()
    assert len(children) >= 2
    assert wait_until_ended(children), "children outlived the server"

    own_server.start()
    description = client.describe_training_job(TrainingJobName="running")
    assert (description["TrainingJobStatus"], description["SecondaryStatus"]) == (
        "Failed",
        "Failed",
    )
    assert "restarted" in description["FailureReason"]
    assert description["TrainingEndTime"] >= description["TrainingStartTime"]
    tags = client.list_tags(
        ResourceArn=description["TrainingJobArn"].replace("running", "stopping")
    )
    assert tags["Tags"] == [{"Key": "a", "Value": "b"}]
    after = once_ready(own_server, endpoint)
    assert after == before
    assert client.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


def test_a_killed_trainer_fails_its_job_alone(server: Server, store: str) -> None:
    name = unique("killed")
    server.sagemaker.create_training_job(**endless(name, store))
    server.until(name, "Training")
    trainer(server).kill()
    description = server.until(name, "Failed")
    assert description["FailureReason"] == "AlgorithmError: , exit code: 137"
    assert description["TrainingJobStatus"] == "Failed"


def once_ready(server: Server, endpoint: str) -> list[int]:
    """Ten predictions, once the model is loaded: after a restart that takes a moment."""
    points, _ = blobs(10)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return server.predict(endpoint, points)
        except server.runtime.exceptions.ModelNotReadyException:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("restarted_with_s3", [True, False])
def test_an_endpoint_that_was_being_created_is_finished_after_a_kill(
    own_server: Server, trained: str, restarted_with_s3: bool
) -> None:
    """Also one that was in service serves again, even without S3."""
    slow = "EMBEDDED_SAGEMAKER_ENDPOINT_SECONDS"
    fast = own_server.extra
    if restarted_with_s3:
        own_server.extra = {**fast, slow: "600"}
    own_server.start()
    client = own_server.sagemaker
    client.create_model(
        ModelName="m",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": trained},
        ExecutionRoleArn=ROLE,
    )
    client.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant("m")])
    client.create_endpoint(EndpointName="e", EndpointConfigName="c")
    if not restarted_with_s3:
        own_server.in_service("e")
    children = own_server.kill()
    assert wait_until_ended(children)
    own_server.extra = fast
    if not restarted_with_s3:
        own_server.extra = {**fast, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    own_server.start()
    own_server.in_service("e")
    assert len(once_ready(own_server, "e")) == 10


def test_an_endpoint_whose_model_is_lost_says_so_and_can_be_deleted(
    own_server: Server, trained: str
) -> None:
    """After a restart without its copy of the model it waits for S3."""
    own_server.start()
    own_server.sagemaker.create_model(
        ModelName="m",
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": trained},
        ExecutionRoleArn=ROLE,
    )
    endpoint = own_server.deploy("c", variant("m"))
    own_server.kill()
    shutil.rmtree(own_server.data_dir / "endpoints")
    own_server.extra = {**own_server.extra, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    own_server.start()
    with pytest.raises(own_server.runtime.exceptions.ModelNotReadyException):
        own_server.predict(endpoint, blobs(1)[0])
    own_server.sagemaker.delete_endpoint(EndpointName=endpoint)
    own_server.sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 0.2, "MaxAttempts": 5 * PATIENCE_SECONDS}
    )


def test_random_kills_lose_nothing_that_was_acknowledged(own_server: Server, store: str) -> None:
    """Six kills at random moments while jobs are created: all acknowledged jobs are listed."""
    chance = random.Random(1)
    own_server.s3.put_object(Bucket=store, Key="small/a", Body=as_recordio(blobs(50)[0]))
    kept: set[str] = set()
    left: list[psutil.Process] = []
    own_server.start()
    for round_number in range(6):
        until = time.monotonic() + chance.uniform(0.1, 0.6)
        number = 0
        while time.monotonic() < until:
            name = f"job-{round_number}-{number}"
            own_server.sagemaker.create_training_job(**endless(name, store))
            kept.add(name)
            number += 1
            time.sleep(0.05)
        left += own_server.kill()
        own_server.start()
    assert wait_until_ended(left), "children outlived the server"
    listed = set()
    for page in own_server.sagemaker.get_paginator("list_training_jobs").paginate(MaxResults=7):
        for summary in page["TrainingJobSummaries"]:
            listed.add(summary["TrainingJobName"])
            assert summary["TrainingJobStatus"] == "Failed"
    assert listed == kept


def test_a_terminated_server_leaves_no_child(own_server: Server, store: str) -> None:
    own_server.start()
    own_server.sagemaker.create_training_job(**endless("j", store))
    own_server.until("j", "Training")
    assert own_server.process is not None
    children = psutil.Process(own_server.process.pid).children(recursive=True)
    own_server.stop()
    assert children
    assert wait_until_ended(children)


def test_a_trainer_stays_within_its_memory(own_server: Server, store: str) -> None:
    """The job fails with AWS's message, and the machine keeps its memory."""
    own_server.extra = {**own_server.extra, "EMBEDDED_SAGEMAKER_TRAINING_MEMORY_MB": "64"}
    own_server.start()
    own_server.sagemaker.create_training_job(**job("fat", store))
    description = own_server.until("fat", "Failed", "Completed")
    assert description["TrainingJobStatus"] == "Failed"
    assert "use an instance type with more memory" in description["FailureReason"]
