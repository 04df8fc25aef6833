"""Any image as a container: trains and serves under AWS's contract, within walls, nothing left."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from botocore.exceptions import WaiterError

from numbercruncher.image import BASE_IMAGE
from tests.conftest import Services
from tests.containers import build_image, engine
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    ROLE,
    Server,
    channel,
    processing_input,
    processing_job,
    refusal,
    unique,
    variant,
)
from tests.sagemaker_local.test_local_contract import artifact, log, own_job, registry, until_logged
from tests.sagemaker_local.test_local_contract_serving import ask
from tests.sagemaker_local.test_local_script_mode import archive
from tests.sagemaker_local.test_local_sdk import run_processing
from tests.sagemaker_local.test_local_transform import completed, outputs, started
from tests.waiting import until

pytestmark = pytest.mark.docker

HERE = Path(__file__).parent
# The program lies in /opt/ml/code, as in AWS's own examples.
DOCKERFILE = """
FROM {base}
ENV SAGEMAKER_BASE_DIR=/opt/ml BIND_TO=0.0.0.0
COPY train.py serve.py describe.py /opt/ml/code/
{user}
ENTRYPOINT ["sh", "-c", "exec python3 /opt/ml/code/$1.py $1", "sh"]
"""


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine()
    yield client
    client.close()


def built(client: docker.DockerClient, user: str = "") -> str:
    """A new image of training_image.py, serving_image.py and processing_image.py."""
    base = os.environ.get("BASE_IMAGE") or BASE_IMAGE
    files = {
        "Dockerfile": DOCKERFILE.format(base=base, user=user).encode(),
        "train.py": (HERE / "training_image.py").read_bytes(),
        "serve.py": (HERE / "serving_image.py").read_bytes(),
        "describe.py": (HERE / "processing_image.py").read_bytes(),
    }
    return build_image(client, registry(f"embedded-test:{uuid.uuid4().hex[:12]}"), files)


@pytest.fixture(scope="module")
def image(client: docker.DockerClient) -> Iterator[str]:
    """An image whose user is root."""
    name = built(client)
    yield name
    client.images.remove(name, force=True)


@pytest.fixture(scope="module")
def image_of_a_user(client: docker.DockerClient) -> Iterator[str]:
    """An image whose user is nobody of this machine."""
    name = built(client, "USER 10001:10001")
    yield name
    client.images.remove(name, force=True)


@pytest.fixture(scope="module")
def docker_server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a table of images; the tests of this file share it."""
    new_server = Server(tmp_path_factory.mktemp("docker"), services.env, FAST)
    new_server.start()
    yield new_server
    new_server.stop()


def container_job(name: str, bucket: str, image: str, do: str, **changes: Any) -> dict[str, Any]:
    """A job of training_image.py in a container."""
    request = own_job(name, bucket, do, **changes)
    request["AlgorithmSpecification"]["TrainingImage"] = image
    return request


def container_model(
    server: Server, image: str, environment: dict[str, str] | None = None, **more: Any
) -> str:
    """A model of serving_image.py in a container."""
    name = unique("own")
    url = {"ModelDataUrl": more.pop("url")} if "url" in more else {}
    server.sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": image, "Environment": environment or {}, **url},
        ExecutionRoleArn=ROLE,
        **more,
    )
    return name


def label(server: Server) -> str:
    """What the engine knows a server's containers and networks by."""
    return f"embedded-sagemaker={server.data_dir.resolve()}"


def containers_of(client: docker.DockerClient, server: Server) -> list[Any]:
    """A server's containers, running or not."""
    return client.containers.list(all=True, ignore_removed=True, filters={"label": label(server)})


@pytest.mark.parametrize("which", ["image", "image_of_a_user"])
def test_a_container_trains_as_on_aws(
    client: docker.DockerClient,
    docker_server: Server,
    store: str,
    which: str,
    request: pytest.FixtureRequest,
) -> None:
    """Whatever its user is: what it leaves comes back, and what is on this machine goes."""
    docker_server.s3.put_object(Bucket=store, Key="docker/one.txt", Body=b"one")
    name = unique("docker")
    docker_server.sagemaker.create_training_job(
        **container_job(
            name,
            store,
            request.getfixturevalue(which),
            "describe",
            InputDataConfig=[channel("all", f"s3://{store}/docker/")],
            Environment={"MINE": "1"},
        )
    )
    described = docker_server.finished(name)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    assert [(m["MetricName"], m["Value"]) for m in described["FinalMetricDataList"]] == [
        ("loss", 0.5),
        ("accuracy", 0.75),
    ]
    assert sorted(log(docker_server, name)) == [
        "loss=0.5; accuracy=0.75;",
        "to standard error",
        "to standard output",
    ]
    seen = json.loads(artifact(docker_server, store, name)["algo-1.json"])
    assert artifact(docker_server, store, name, "output") == {"algo-1.txt": "beside the model"}
    assert seen["arguments"] == ["train"]
    assert seen["data"] == {"all/one.txt": "one"}
    resources = seen["config"]["resourceconfig"]
    assert (resources["current_host"], resources["network_interface_name"]) == ("algo-1", "eth0")
    environment = seen["environment"]
    assert (environment["HOSTNAME"], environment["MINE"]) == ("algo-1", "1")
    assert (environment["TRAINING_JOB_NAME"], environment["AWS_REGION"]) == (name, "eu-west-1")
    assert docker_server.env["AWS_SECRET_ACCESS_KEY"] not in json.dumps(environment)
    assert not containers_of(client, docker_server)
    assert not list((docker_server.data_dir / "jobs").iterdir())


def test_a_container_reaches_s3_and_no_port_of_this_machines_loopback(
    docker_server: Server, store: str, image: str
) -> None:
    name = unique("reach")
    parameters = {"do": "reach", "port": str(docker_server.port)}
    docker_server.sagemaker.create_training_job(
        **container_job(name, store, image, "", HyperParameters=parameters)
    )
    docker_server.finished(name)
    seen = json.loads(artifact(docker_server, store, name)["reach.json"])
    assert seen["s3"] is not None
    assert (seen["loopback"], seen["gateway"]) == (None, None)
    assert docker_server.env["AWS_SECRET_ACCESS_KEY"] in seen["credentials"]


def test_with_network_isolation_a_job_has_neither_network_nor_keys(
    docker_server: Server, store: str, image: str
) -> None:
    for do in ("alone", "describe"):
        name = unique("alone")
        docker_server.sagemaker.create_training_job(
            **container_job(name, store, image, do, EnableNetworkIsolation=True)
        )
        docker_server.finished(name)
        model = artifact(docker_server, store, name)
        if do == "alone":
            assert "eth0" not in json.loads(model["interfaces.json"])
        else:
            environment = json.loads(model["algo-1.json"])["environment"]
            assert "AWS_SHARED_CREDENTIALS_FILE" not in environment
            assert "AWS_ENDPOINT_URL_S3" not in environment


def test_a_job_that_is_stopped_may_save_its_model_and_shows_no_secret_before(
    client: docker.DockerClient, docker_server: Server, store: str, image: str
) -> None:
    name = unique("save")
    docker_server.sagemaker.create_training_job(**container_job(name, store, image, "save"))
    until_logged(docker_server, name, "ready")
    (container,) = containers_of(client, docker_server)
    shown = json.dumps(client.api.inspect_container(container.id))
    assert docker_server.env["AWS_SECRET_ACCESS_KEY"] not in shown
    assert docker_server.env["AWS_ACCESS_KEY_ID"] not in shown
    inspected = json.loads(shown)
    limits = inspected["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 2048 * 2**20
    assert limits["NanoCpus"] > 0
    assert limits["PidsLimit"] > 0
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert limits["CapDrop"] == ["ALL"]
    assert not limits["Privileged"]
    assert inspected["Mounts"] == []
    assert inspected["NetworkSettings"]["Ports"] == {}

    docker_server.sagemaker.stop_training_job(TrainingJobName=name)
    docker_server.until(name, "Stopped")
    assert artifact(docker_server, store, name) == {"half.txt": "half a model"}
    assert not containers_of(client, docker_server)


def test_a_job_that_does_not_stop_is_killed(
    client: docker.DockerClient, services: Services, store: str, image: str, tmp_path: Path
) -> None:
    settings = {**FAST, "EMBEDDED_SAGEMAKER_GRACE_SECONDS": "0.5"}
    server = Server(tmp_path / "own", services.env, settings)
    server.start()
    try:
        server.sagemaker.create_training_job(**container_job("j", store, image, "stubborn"))
        until_logged(server, "j", "ready")
        server.sagemaker.stop_training_job(TrainingJobName="j")
        server.until("j", "Stopped")
        assert not containers_of(client, server)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("fail", "AlgorithmError: the moon is full, the moon is full, "),
        ("leave", "AlgorithmError: , exit code: 4"),
        ("link", "ClientError: Unable to pack /opt/ml/model: passwd is neither a file"),
    ],
)
def test_the_failure_reason_is_the_codes_own_or_its_exit_code(
    client: docker.DockerClient,
    docker_server: Server,
    store: str,
    image: str,
    do: str,
    reason: str,
) -> None:
    name = unique("bad")
    docker_server.sagemaker.create_training_job(**container_job(name, store, image, do))
    described = docker_server.until(name, "Failed", "Completed")
    assert described["FailureReason"].startswith(reason)
    assert not containers_of(client, docker_server)


def test_100_megabytes_of_log_block_nothing(docker_server: Server, store: str, image: str) -> None:
    """The metric of the last line counts although the line is not kept."""
    name = unique("talk")
    docker_server.sagemaker.create_training_job(**container_job(name, store, image, "talk"))
    described = docker_server.finished(name)
    assert described["FinalMetricDataList"][0]["Value"] == 0.25


def test_the_memory_limit_counts_child_processes(
    client: docker.DockerClient, services: Services, store: str, image: str, tmp_path: Path
) -> None:
    settings = {**FAST, "EMBEDDED_SAGEMAKER_TRAINING_MEMORY_MB": "150"}
    server = Server(tmp_path / "own", services.env, settings)
    server.start()
    try:
        server.sagemaker.create_training_job(**container_job("fat", store, image, "eat"))
        described = server.until("fat", "Failed", "Completed")
        assert "use an instance type with more memory" in described["FailureReason"]
        assert not containers_of(client, server)
    finally:
        server.stop()


def test_a_request_may_name_another_entry_point(
    docker_server: Server, store: str, image: str
) -> None:
    """As the SDK v3 does where it brings the sources."""
    name = unique("entry")
    request = container_job(name, store, image, "")
    request["AlgorithmSpecification"] |= {
        "ContainerEntrypoint": ["sh", "-c"],
        "ContainerArguments": ["echo mine > /opt/ml/model/own.txt"],
    }
    docker_server.sagemaker.create_training_job(**request)
    docker_server.finished(name)
    assert artifact(docker_server, store, name) == {"own.txt": "mine\n"}


def test_a_container_serves_and_is_replaced_by_an_update(
    client: docker.DockerClient, docker_server: Server, store: str, image: str
) -> None:
    docker_server.s3.put_object(
        Bucket=store, Key="docker/m.tar.gz", Body=archive(model__txt="a model")
    )
    url = f"s3://{store}/docker/m.tar.gz"
    model = container_model(docker_server, image, {"VERSION": "1"}, url=url)
    endpoint = docker_server.deploy(unique("c"), variant(model))
    seen = json.loads(ask(docker_server, endpoint))
    assert (seen["arguments"], seen["model"]) == (["serve"], {"model.txt": "a model"})
    assert seen["environment"]["SAGEMAKER_BIND_TO_PORT"] == "8080"
    assert "AWS_SHARED_CREDENTIALS_FILE" in seen["environment"]
    (container,) = containers_of(client, docker_server)
    inspected = client.api.inspect_container(container.id)
    (place,) = inspected["NetworkSettings"]["Ports"]["8080/tcp"]
    assert place["HostIp"] == "127.0.0.1"
    assert docker_server.env["AWS_SECRET_ACCESS_KEY"] not in json.dumps(inspected)
    events = docker_server.logs.filter_log_events(
        logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}"
    )["events"]
    assert "serving version 1" in [event["message"] for event in events]

    assert "503" in str(refusal(lambda: ask(docker_server, endpoint, "die")))
    replaced = json.loads(ask(docker_server, endpoint))["environment"]["HOSTNAME"]
    assert replaced != seen["environment"]["HOSTNAME"]

    config = unique("c")
    docker_server.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[variant(container_model(docker_server, image, {"VERSION": "2"}))],
    )
    docker_server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    docker_server.in_service(endpoint)
    assert json.loads(ask(docker_server, endpoint))["environment"]["VERSION"] == "2"
    until(lambda: len(containers_of(client, docker_server)) == 1)

    docker_server.sagemaker.delete_endpoint(EndpointName=endpoint)
    docker_server.sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 0.2, "MaxAttempts": 5 * PATIENCE_SECONDS}
    )
    assert not containers_of(client, docker_server)
    assert not list((docker_server.data_dir / "instances").iterdir())


def test_an_isolated_model_serves_without_keys(docker_server: Server, image: str) -> None:
    model = container_model(docker_server, image, EnableNetworkIsolation=True)
    endpoint = docker_server.deploy(unique("c"), variant(model))
    environment = json.loads(ask(docker_server, endpoint))["environment"]
    assert "AWS_SHARED_CREDENTIALS_FILE" not in environment
    docker_server.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_a_container_answers_a_transform_job(docker_server: Server, store: str, image: str) -> None:
    model = container_model(docker_server, image, {"ECHO": "1"})
    name = started(docker_server, store, model, {"it": b"a\nb\n"}, BatchStrategy="SingleRecord")
    assert completed(docker_server, store, name) == {"it.out": b"<a\n>\n<b\n>\n"}


def processed(server: Server, bucket: str, image: str, do: str, **changes: Any) -> str:
    """The name of a job of processing_image.py in a container, which has begun."""
    name = unique("docker")
    request = processing_job(name, bucket, image=image, **changes)
    request["AppSpecification"] |= {
        "ContainerEntrypoint": ["python3", "/opt/ml/code/describe.py"],
        "ContainerArguments": [do, "/opt/ml/processing/in"],
    }
    server.sagemaker.create_processing_job(**request)
    return name


@pytest.mark.parametrize("which", ["image", "image_of_a_user"])
def test_a_container_processes_as_on_aws(
    client: docker.DockerClient,
    docker_server: Server,
    store: str,
    which: str,
    request: pytest.FixtureRequest,
) -> None:
    docker_server.s3.put_object(Bucket=store, Key="docker/in/one.txt", Body=b"one")
    name = processed(
        docker_server,
        store,
        request.getfixturevalue(which),
        "describe",
        ProcessingInputs=[processing_input(f"s3://{store}/docker/in/")],
    )
    described = docker_server.processed(name)
    assert described["ProcessingJobStatus"] == "Completed", described.get("FailureReason")
    assert described["ExitMessage"] == "described algo-1"
    seen = json.loads(outputs(docker_server, store, name)["deep/algo-1.json"])
    assert seen["arguments"] == ["/opt/ml/processing/in"]
    assert seen["data"] == {"one.txt": "one"}
    assert seen["config"]["processingjobconfig"]["ProcessingJobName"] == name
    assert docker_server.env["AWS_SECRET_ACCESS_KEY"] not in json.dumps(seen["environment"])
    assert not containers_of(client, docker_server)


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("fail", "AlgorithmError: , exit code: 3"),
        ("link", "ClientError: Unable to upload /opt/ml/processing/out: passwd is neither"),
    ],
)
def test_a_failed_processing_container_says_why_and_keeps_nothing(
    client: docker.DockerClient,
    docker_server: Server,
    store: str,
    image: str,
    do: str,
    reason: str,
) -> None:
    name = processed(docker_server, store, image, do)
    with pytest.raises(WaiterError):
        docker_server.processed(name)
    described = docker_server.sagemaker.describe_processing_job(ProcessingJobName=name)
    assert described["FailureReason"].startswith(reason)
    assert outputs(docker_server, store, name) == {}
    assert not containers_of(client, docker_server)


def test_without_another_entry_point_the_arguments_of_a_processing_job_are_for_the_images_own(
    docker_server: Server, store: str, image: str
) -> None:
    name = unique("docker")
    docker_server.sagemaker.create_processing_job(
        **processing_job(name, store, "describe", image=image)
    )
    assert docker_server.processed(name)["ExitMessage"] == "described algo-1"


def test_the_sdks_script_processor_runs_in_a_container(
    docker_server: Server, store: str, image: str, tmp_path: Path
) -> None:
    run_processing(docker_server, store, tmp_path, image)


def test_a_server_that_was_killed_removes_its_containers_at_the_next_start(
    client: docker.DockerClient, services: Services, store: str, image: str, tmp_path: Path
) -> None:
    """The endpoint gets a new container; a server that ends leaves neither one nor a network."""
    server = Server(tmp_path / "own", services.env, FAST)
    server.start()
    try:
        endpoint = server.deploy("c", variant(container_model(server, image)))
        server.sagemaker.create_training_job(**container_job("j", store, image, "save"))
        until_logged(server, "j", "ready")
        server.kill()
        left = {container.id for container in containers_of(client, server)}
        assert len(left) == 2

        server.start()
        assert not left & {container.id for container in containers_of(client, server)}
        described = server.sagemaker.describe_training_job(TrainingJobName="j")
        assert "restarted" in described["FailureReason"]

        def answers() -> bool:
            try:
                return json.loads(ask(server, endpoint))["arguments"] == ["serve"]
            except server.runtime.exceptions.ModelNotReadyException:
                return False

        until(answers)
        assert len(containers_of(client, server)) == 1
    finally:
        server.stop()
    assert not containers_of(client, server)
    assert not client.networks.list(filters={"label": label(server)})


def test_an_image_that_the_engine_does_not_have_is_refused_and_none_is_pulled(
    docker_server: Server, store: str
) -> None:
    image = registry("none-of-this-name:1")
    request = container_job("x", store, image, "describe")
    error = refusal(lambda: docker_server.sagemaker.create_training_job(**request))["Error"]
    assert error["Message"].startswith("Cannot find repository: none-of-this-name")
    assert f"the Docker Engine has no image {image}; docker pull, build or tag" in error["Message"]


def test_an_image_that_is_gone_fails_the_endpoint_with_the_reason(
    client: docker.DockerClient, docker_server: Server, image: str
) -> None:
    short_lived = registry(f"embedded-test:{uuid.uuid4().hex[:12]}")
    client.images.get(image).tag(short_lived)
    model = container_model(docker_server, short_lived)
    client.images.remove(short_lived)
    config = unique("c")
    docker_server.sagemaker.create_endpoint_config(
        EndpointConfigName=config, ProductionVariants=[variant(model)]
    )
    docker_server.sagemaker.create_endpoint(EndpointName=config, EndpointConfigName=config)
    describe = docker_server.sagemaker.describe_endpoint
    until(lambda: describe(EndpointName=config)["EndpointStatus"] == "Failed")
    reason = describe(EndpointName=config)["FailureReason"]
    assert f"cannot run as a container: the Docker Engine has no image {short_lived}" in reason
