"""Thirty kills at random moments: results are right, nothing is done twice or left behind."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import psutil
import pytest

from tests.conftest import Services
from tests.containers import engine
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    Server,
    processing_input,
    processing_job,
    transform_job,
    unique,
    wait_until_ended,
)
from tests.sagemaker_local.test_local_contract import registry
from tests.sagemaker_local.test_local_contract_serving import own_model
from tests.sagemaker_local.test_local_docker import built, containers_of, label
from tests.sagemaker_local.test_local_transform import outputs

pytestmark = pytest.mark.minutes

ROWS = {"a": b"1", "b": b"2", "c": b"3"}
RIGHT = {f"{name}.out": b"<" + rows + b">" for name, rows in ROWS.items()}
# As long as the jobs take on an idle machine, and some more. On a busy one more are cut off.
MOMENTS = (0.0, 1.0)
MOMENTS_OF_CONTAINERS = (0.0, 3.0)


def uploaded(server: Server, bucket: str, name: str) -> None:
    for key, rows in ROWS.items():
        server.s3.put_object(Bucket=bucket, Key=f"{name}/in/{key}", Body=rows)


def begin_processing(server: Server, bucket: str, *arguments: str, **changes: Any) -> str:
    name = unique("killed")
    uploaded(server, bucket, name)
    source = processing_input(f"s3://{bucket}/{name}/in/")
    request = processing_job(name, bucket, "work", *arguments, ProcessingInputs=[source], **changes)
    server.sagemaker.create_processing_job(**request)
    return name


def begin_transform(server: Server, bucket: str, model: str) -> str:
    name = unique("killed")
    uploaded(server, bucket, name)
    server.sagemaker.create_transform_job(
        **transform_job(name, bucket, model, output={"AssembleWith": "None"})
    )
    return name


def ended(server: Server, kind: str, name: str) -> dict[str, Any]:
    """Waits for the end of a job, and describes it."""
    describe = getattr(server.sagemaker, f"describe_{kind.lower()}_job")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        described = describe(**{f"{kind}JobName": name})
        if described[f"{kind}JobStatus"] != "InProgress":
            return described
        assert time.monotonic() < deadline, described
        time.sleep(0.05)


def hold_against_what_is_right(server: Server, bucket: str, kind: str, name: str) -> str:
    """A completed job has all outputs, a failed one a reason, and each that is there is whole."""
    described = ended(server, kind, name)
    written = outputs(server, bucket, name)
    status = described[f"{kind}JobStatus"]
    if status == "Completed":
        assert written == RIGHT
    else:
        assert status == "Failed"
        assert described["FailureReason"]
        assert written.items() <= RIGHT.items()
    return status


def listed(server: Server, kind: str) -> list[str]:
    pages = server.sagemaker.get_paginator(f"list_{kind.lower()}_jobs").paginate(MaxResults=7)
    return [job[f"{kind}JobName"] for page in pages for job in page[f"{kind}JobSummaries"]]


def family(server: Server) -> list[psutil.Process]:
    """All that a server has started."""
    assert server.process is not None
    return psutil.Process(server.process.pid).children(recursive=True)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def test_twenty_kills_of_the_server_and_of_its_jobs_processes(
    own_image_server: Server, store: str, tmp_path: Path
) -> None:
    chance = random.Random(20)
    server, temporary = own_image_server, tmp_path / "temporary"
    temporary.mkdir()
    server.extra = {**server.extra, "TMPDIR": str(temporary)}
    server.start()
    model = own_model(server, store, ECHO="1", PAUSE="0.1")
    victims = ["server", "process"] * 10
    chance.shuffle(victims)
    jobs: dict[str, list[str]] = {"Processing": [], "Transform": []}
    for number, victim in enumerate(victims):
        diary = tmp_path / f"diary-{number}"
        jobs["Processing"].append(
            begin_processing(server, store, str(diary), image=registry("process:1"))
        )
        jobs["Transform"].append(begin_transform(server, store, model))
        time.sleep(chance.uniform(*MOMENTS))
        if victim == "server":
            left = server.kill()
            assert wait_until_ended(left), "processes outlived the server"
            server.start()
        else:
            with contextlib.suppress(IndexError, psutil.NoSuchProcess):
                chance.choice(family(server)).kill()
        for kind, names in jobs.items():
            hold_against_what_is_right(server, store, kind, names[-1])
        assert wait_until_ended(family(server)), "processes outlived their jobs"
        assert not diary.exists() or diary.read_text() == "began\n"
        assert files_below(server.data_dir / "jobs") == files_below(temporary) == []
    # On a busy machine all of them may have been cut off: the server still does what it is for.
    jobs["Processing"].append(begin_processing(server, store, image=registry("process:1")))
    jobs["Transform"].append(begin_transform(server, store, model))
    for kind, names in jobs.items():
        assert hold_against_what_is_right(server, store, kind, names[-1]) == "Completed"
    for kind, names in jobs.items():
        assert sorted(listed(server, kind)) == sorted(names)


@pytest.fixture
def container_server(services: Services, tmp_path: Path) -> Iterator[Server]:
    """A server without a table of images, for one test, not started yet."""
    server = Server(tmp_path / "own", services.env, FAST)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine()
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client: docker.DockerClient) -> Iterator[str]:
    name = built(client)
    yield name
    client.images.remove(name, force=True)


@pytest.mark.docker
def test_ten_kills_of_the_server_and_of_its_containers(
    client: docker.DockerClient, container_server: Server, store: str, image: str
) -> None:
    chance = random.Random(10)
    server = container_server
    server.start()
    victims = ["server", "container"] * 5
    chance.shuffle(victims)
    application = {"ContainerEntrypoint": ["python3", "/opt/ml/code/describe.py"]}
    names: list[str] = []
    for victim in victims:
        names.append(begin_processing(server, store, image=image, application=application))
        time.sleep(chance.uniform(*MOMENTS_OF_CONTAINERS))
        if victim == "server":
            server.kill()
            server.start()
        else:
            with contextlib.suppress(docker.errors.APIError, IndexError):
                containers_of(client, server)[0].kill()
        hold_against_what_is_right(server, store, "Processing", names[-1])
        assert containers_of(client, server) == []
        assert files_below(server.data_dir / "jobs") == []
    names.append(begin_processing(server, store, image=image, application=application))
    assert hold_against_what_is_right(server, store, "Processing", names[-1]) == "Completed"
    assert sorted(listed(server, "Processing")) == sorted(names)
    server.stop()
    assert client.networks.list(filters={"label": label(server)}) == []
