"""XGBoost (SDK v2) and scikit-learn (SDK v3) in containers: the code of users, unchanged."""

import importlib.metadata
import os
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from packaging.requirements import Requirement

from numbercruncher.image import BASE_IMAGE
from tests.conftest import Services
from tests.containers import engine
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import CHECKOUT, Server
from tests.sagemaker_local.test_local_contract import registry
from tests.sagemaker_local.test_local_docker import containers_of
from tests.sagemaker_local.test_local_sdk import run_scripts, run_source_code

pytestmark = [pytest.mark.docker, pytest.mark.minutes]

PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# The packages are this Python's own, since containers have no network to install any.
DOCKERFILE = f"""
FROM {{base}}
RUN python3 -m venv --without-pip /venv \\
    && (test -d /venv/lib/{PYTHON} || (echo "The image's Python is not {PYTHON}"; exit 1))
COPY packages /venv/lib/{PYTHON}/site-packages/
COPY app /app/
ENV PATH=/venv/bin:$PATH SAGEMAKER_BASE_DIR=/opt/ml
ENTRYPOINT ["python3", "/app/framework_program.py"]
"""
DISTRIBUTIONS = ("scikit-learn", "xgboost-cpu", "boto3", "pip")


def with_requirements(*names: str) -> dict[str, importlib.metadata.Distribution]:
    """Distributions of this environment with all that they need."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = list(names)
    while wanted:
        if (name := wanted.pop().lower()) not in found:
            found[name] = importlib.metadata.distribution(name)
            needed = map(Requirement, found[name].requires or [])
            wanted += [
                one.name for one in needed if not one.marker or one.marker.evaluate({"extra": ""})
            ]
    return found


def is_of_use(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out tests, and all services' descriptions but that of S3."""
    parts = Path(member.name).parts
    unused_service = "botocore/data/" in member.name and len(parts) == 4 and member.isdir()
    return None if "tests" in parts or (unused_service and parts[3] != "s3") else member


def write_context(tar: tarfile.TarFile, folder: Path) -> None:
    """The files of the image. They keep their times, by which compiled ones count."""
    base = os.environ.get("BASE_IMAGE") or BASE_IMAGE
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    tar.add(folder / "Dockerfile", "Dockerfile")
    tar.add(Path(__file__).with_name("framework_program.py"), "app/framework_program.py")
    for program in ("script_training.py", "script_serving.py"):
        # The engine does not bring requests to a container's loopback.
        text = (CHECKOUT / "sagemaker_local" / program).read_text()
        (folder / program).write_text(text.replace('"127.0.0.1"', '"0.0.0.0"'))
        tar.add(folder / program, f"app/{program}")
    for distribution in with_requirements(*DISTRIBUTIONS).values():
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            tar.add(str(distribution.locate_file(top)), f"packages/{top}", filter=is_of_use)


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = engine()
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of both frameworks."""
    name = registry(f"embedded-test:{uuid.uuid4().hex[:12]}")
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as tar:
            write_context(tar, tmp_path_factory.mktemp("framework"))
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True)
    yield name
    client.images.remove(name, force=True)


@pytest.fixture(scope="module")
def docker_server(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a table of images."""
    new_server = Server(tmp_path_factory.mktemp("docker"), services.env, FAST)
    new_server.start()
    yield new_server
    new_server.stop()


@pytest.fixture(scope="module")
def bucket(docker_server: Server) -> str:
    name = f"frameworks-{uuid.uuid4().hex[:12]}"
    docker_server.s3.create_bucket(Bucket=name)
    return name


def test_the_sdk_v2s_xgboost_trains_serves_updates_transforms_and_stops_in_containers(
    client: docker.DockerClient, docker_server: Server, bucket: str, image: str, tmp_path: Path
) -> None:
    run_scripts(docker_server, bucket, tmp_path, image)
    assert not [one for one in containers_of(client, docker_server) if one.status != "removing"]


def test_the_sdk_v3s_source_code_runs_in_a_container(
    docker_server: Server, bucket: str, image: str, tmp_path: Path
) -> None:
    run_source_code(docker_server, bucket, tmp_path, image)
