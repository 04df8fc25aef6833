"""Endpoints with any image, run as a process under AWS's contract with containers."""

import io
import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    ROLE,
    Server,
    refusal,
    unique,
    variant,
    wait_until_ended,
)
from tests.sagemaker_local.test_local_contract import registry
from tests.sagemaker_local.test_local_script_mode import archive, hostile

IMAGE = registry("server:1")


def own_model(server: Server, bucket: str, data: bytes | None = None, **environment: str) -> str:
    """A model of serving_image.py."""
    name = unique("own")
    container: dict[str, Any] = {"Image": IMAGE, "Environment": environment}
    if data is not None:
        server.s3.put_object(Bucket=bucket, Key=f"{name}/model.tar.gz", Body=data)
        container["ModelDataUrl"] = f"s3://{bucket}/{name}/model.tar.gz"
    server.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    return name


@pytest.fixture(scope="module")
def own_endpoint(image_server: Server, store: str) -> str:
    """An endpoint in service that tests only invoke."""
    return image_server.deploy(unique("c"), variant(own_model(image_server, store)))


def ask(server: Server, endpoint: str, do: str = "describe", **more: Any) -> str:
    """The text of an answer."""
    body = json.dumps({"do": do, **more})
    return server.runtime.invoke_endpoint(EndpointName=endpoint, Body=body)["Body"].read().decode()


def test_a_container_gets_the_files_variables_and_headers_that_aws_gives(
    image_server: Server, store: str
) -> None:
    data = archive(model__txt="a model", deep__txt="deeper")
    model = own_model(image_server, store, data, MINE="1")
    endpoint = image_server.deploy(unique("c"), variant(model))
    answer = image_server.runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=b"{}",
        ContentType="text/x-asked",
        Accept="text/x-wanted",
        CustomAttributes="yours",
    )
    assert (answer["ContentType"], answer["CustomAttributes"]) == ("text/x-own", "mine")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    seen = json.loads(answer["Body"].read())
    assert seen["arguments"] == ["serve"]
    assert seen["model"] == {"model.txt": "a model", "deep.txt": "deeper"}
    asked = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")
    assert [seen["headers"][name] for name in asked] == ["text/x-asked", "text/x-wanted", "yours"]
    environment = seen["environment"]
    assert environment["MINE"] == "1"
    assert environment["AWS_SECRET_ACCESS_KEY"] == image_server.env["AWS_SECRET_ACCESS_KEY"]
    assert not [name for name in environment if name.startswith("EMBEDDED_")]
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    events = image_server.logs.filter_log_events(logGroupName=group)["events"]
    assert "serving version 0" in [event["message"] for event in events]

    child = psutil.Process(int(ask(image_server, endpoint, "fork")))
    processes = [psutil.Process(seen["pid"]), child]
    image_server.sagemaker.delete_endpoint(EndpointName=endpoint)
    assert wait_until_ended(processes)


def test_a_containers_own_status_and_message_reach_the_caller(
    image_server: Server, own_endpoint: str
) -> None:
    for status, side in ((418, "client"), (507, "server")):
        answer = refusal(
            lambda status=status: ask(
                image_server, own_endpoint, "status", status=status, text="a teapot"
            )
        )
        assert answer["Error"]["Code"] == "ModelError"
        assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (status, "a teapot")
        expected = f'Received {side} error ({status}) from primary with message "a teapot". See '
        assert answer["Error"]["Message"].startswith(expected)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_an_answer_may_have_6_mib_and_no_more(image_server: Server, own_endpoint: str) -> None:
    assert len(ask(image_server, own_endpoint, "big", size=6_291_456)) == 6_291_456
    answer = refusal(lambda: ask(image_server, own_endpoint, "big", size=6_291_457))
    assert answer["Error"]["Code"] == "ModelError"
    assert "exceeded maximum allowed payload (6291456 bytes)" in answer["OriginalMessage"]


def test_requests_are_answered_side_by_side(image_server: Server, own_endpoint: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, image_server, own_endpoint, "meet") for _ in range(2)]
        assert [future.result() for future in asked] == ["met", "met"]


def test_a_container_that_dies_is_replaced(image_server: Server, own_endpoint: str) -> None:
    before = json.loads(ask(image_server, own_endpoint))["pid"]
    answer = refusal(lambda: ask(image_server, own_endpoint, "die"))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert json.loads(ask(image_server, own_endpoint))["pid"] != before
    # Killed between two requests, it is replaced without an error.
    psutil.Process(json.loads(ask(image_server, own_endpoint))["pid"]).kill()
    assert json.loads(ask(image_server, own_endpoint))["arguments"] == ["serve"]


def test_a_request_that_takes_too_long_is_an_error_and_the_container_goes_on(
    own_image_server: Server, store: str
) -> None:
    """As on AWS: its health check still succeeds."""
    limit = {"EMBEDDED_SAGEMAKER_INVOKE_SECONDS": "3"}
    own_image_server.extra = {**own_image_server.extra, **limit}
    own_image_server.start()
    endpoint = own_image_server.deploy("c", variant(own_model(own_image_server, store)))
    before = json.loads(ask(own_image_server, endpoint))["pid"]
    answer = refusal(lambda: ask(own_image_server, endpoint, "hang"))
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalMessage"].startswith("Your invocation timed out while waiting")
    assert json.loads(ask(own_image_server, endpoint))["pid"] == before


@pytest.mark.parametrize(
    ("data", "environment", "reason"),
    [
        (None, {"LEAVE": "1"}, "the container ended with exit code 5"),
        (hostile(tarfile.SYMTYPE, "model", "/etc"), {}, "is neither a file nor a folder"),
        (hostile(tarfile.REGTYPE, "../x"), {}, "would lie outside of the folder"),
        (b"no archive", {}, "it is no tar.gz archive"),
    ],
    ids=["ends", "link", "parent", "no archive"],
)
def test_an_endpoint_that_cannot_start_says_why(
    image_server: Server,
    store: str,
    data: bytes | None,
    environment: dict[str, str],
    reason: str,
) -> None:
    config = unique("c")
    model = own_model(image_server, store, data, **environment)
    client = image_server.sagemaker
    client.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant(model)])
    client.create_endpoint(EndpointName=config, EndpointConfigName=config)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (described := client.describe_endpoint(EndpointName=config))[
        "EndpointStatus"
    ] == "Creating":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert described["EndpointStatus"] == "Failed"
    assert reason in described["FailureReason"]
    if environment:
        # Once the endpoint has failed, the container's output is in the log.
        group = f"/aws/sagemaker/Endpoints/{config}"
        events = image_server.logs.filter_log_events(logGroupName=group)["events"]
        assert [event["message"] for event in events] == ["serving version 0"]


def test_under_an_update_with_a_canary_no_request_fails(image_server: Server, store: str) -> None:
    """During the update both versions answer, and after it the new one alone."""
    old, new = (own_model(image_server, store, VERSION=version) for version in ("1", "2"))
    endpoint = image_server.deploy(unique("c"), variant(old))
    seen = {json.loads(ask(image_server, endpoint))["environment"]["VERSION"]}
    config = unique("c")
    image_server.sagemaker.create_endpoint_config(
        EndpointConfigName=config, ProductionVariants=[variant(new)]
    )
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        # These tests' server waits a hundredth of it.
        "WaitIntervalInSeconds": 200,
    }
    image_server.sagemaker.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=config,
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
        },
    )
    status = "Updating"
    while status == "Updating":
        status = image_server.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"]
        seen.add(json.loads(ask(image_server, endpoint))["environment"]["VERSION"])
    assert status == "InService"
    assert seen == {"1", "2"}
    last = {json.loads(ask(image_server, endpoint))["environment"]["VERSION"] for _ in range(5)}
    assert last == {"2"}


def test_a_killed_server_serves_again_and_leaves_no_process(
    own_image_server: Server, store: str
) -> None:
    own_image_server.start()
    data = archive(model__txt="a model")
    endpoint = own_image_server.deploy("c", variant(own_model(own_image_server, store, data)))
    children = [psutil.Process(int(ask(own_image_server, endpoint, "fork")))]
    children += own_image_server.kill()
    assert len(children) >= 3
    assert wait_until_ended(children)
    # The server serves from its own copies of the artifacts.
    own_image_server.extra = {
        **own_image_server.extra,
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    }
    own_image_server.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            seen = json.loads(ask(own_image_server, endpoint))
            break
        except own_image_server.runtime.exceptions.ModelNotReadyException:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert seen["model"] == {"model.txt": "a model"}
    assert len(list((own_image_server.data_dir / "instances").iterdir())) == 1


SCRIPT = """
import numpy as np

class Doubler:
    def predict(self, rows):
        if rows.shape[-1] != 2:
            raise ValueError("two columns, please")
        return rows * 2

def model_fn(model_dir):
    return Doubler()
"""


@pytest.fixture(scope="module")
def script_endpoint(image_server: Server, store: str) -> str:
    """An endpoint of a script that has nothing but model_fn."""
    name = unique("script")
    image_server.s3.put_object(Bucket=store, Key=f"{name}/m.tar.gz", Body=archive())
    image_server.s3.put_object(
        Bucket=store, Key=f"{name}/s.tar.gz", Body=archive(inference__py=SCRIPT)
    )
    container = {
        "Image": registry("sagemaker-scikit-learn:1.2-1-cpu-py3"),
        "ModelDataUrl": f"s3://{store}/{name}/m.tar.gz",
        "Environment": {
            "SAGEMAKER_PROGRAM": "inference.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{store}/{name}/s.tar.gz",
        },
    }
    image_server.sagemaker.create_model(
        ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE
    )
    return image_server.deploy(name, variant(name))


def npy(rows: Any) -> bytes:
    import numpy as np

    packed = io.BytesIO()
    np.save(packed, np.array(rows, np.float64))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("kind", "body", "accept", "answer"),
    [
        ("application/json", b"[[1, 2]]", None, b"[[2.0, 4.0]]"),
        ("application/json", b"[[1, 2]]", "text/csv", b"2.0,4.0\n"),
        ("text/csv", b"1,2\n3,4\n", "application/json", b"[[2.0, 4.0], [6.0, 8.0]]"),
        ("application/x-npy", npy([[1, 2]]), "application/x-npy", npy([[2, 4]])),
    ],
)
def test_a_script_without_serving_functions_gets_those_of_the_toolkit(
    image_server: Server,
    script_endpoint: str,
    kind: str,
    body: bytes,
    accept: str | None,
    answer: bytes,
) -> None:
    more = {"Accept": accept} if accept else {}
    got = image_server.runtime.invoke_endpoint(
        EndpointName=script_endpoint, Body=body, ContentType=kind, **more
    )
    assert got["Body"].read() == answer
    assert got["ContentType"] == (accept or "application/json")


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("text/plain", b"1", 415, "Content type text/plain is not supported by this framework"),
        ("application/json", b"[[1]]", 500, "two columns, please"),
        ("application/x-npy", b"none", 500, ""),
    ],
)
def test_a_request_that_a_script_cannot_answer_is_a_model_error(
    image_server: Server, script_endpoint: str, kind: str, body: bytes, status: int, words: str
) -> None:
    answer = refusal(
        lambda: image_server.runtime.invoke_endpoint(
            EndpointName=script_endpoint, Body=body, ContentType=kind
        )
    )
    assert answer["OriginalStatusCode"] == status
    assert words in answer["OriginalMessage"]
