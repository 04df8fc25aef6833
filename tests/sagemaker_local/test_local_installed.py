"""The embedded SageMaker as a distribution of its own, installed alone in an environment."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.installed import build_wheel, install_alone
from tests.sagemaker_local.rig import CHECKOUT, Server

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(CHECKOUT / "sagemaker_local", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that has the wheel and what it asks for."""
    return install_alone(wheel, tmp_path_factory.mktemp("environment"), ["boto3", "pytest"])


@pytest.fixture
def environ(services: Services) -> dict[str, str]:
    """The environment of somebody who has an S3 and its keys, and nothing of the platform."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON", "PYTEST_"))}
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    return kept | {name: services.env[name] for name in (*names, "AWS_ENDPOINT_URL_S3")}


def test_the_wheel_is_small_and_holds_one_package(wheel: Path) -> None:
    assert wheel.stat().st_size <= MEGABYTE
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sagemaker_local"}


def test_its_fixture_trains_and_serves_without_other_packages(
    installed: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    shutil.copy(Path(__file__).with_name("installed_flow.py"), tmp_path / "test_flow.py")
    command = [installed / "python", "-m", "pytest", "-q", "test_flow.py"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.fixture
def started(
    installed: Path, environ: dict[str, str], tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """The command as a user starts it, in a folder of the user's."""
    command = [installed / "embedded-sagemaker", "--port", "0"]
    with subprocess.Popen(
        command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.terminate()


def test_its_command_prints_what_clients_need_and_keeps_its_state_in_one_folder(
    started: subprocess.Popen[str], environ: dict[str, str], tmp_path: Path
) -> None:
    assert started.stdout is not None
    printed: dict[str, str] = {}
    while "AWS_ENDPOINT_URL_STS" not in printed:
        line = started.stdout.readline()
        assert line.startswith("export "), line
        name, _, value = line.removeprefix("export ").strip().partition("=")
        printed[name] = value
    assert set(printed) == {
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SAGEMAKER",
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        "AWS_ENDPOINT_URL_CLOUDWATCH",
        "AWS_ENDPOINT_URL_IAM",
        "AWS_ENDPOINT_URL_STS",
    }
    port = int(printed["AWS_ENDPOINT_URL_SAGEMAKER"].rsplit(":", 1)[1])
    client = Server(tmp_path, environ, port=port).sagemaker
    assert client.list_models()["Models"] == []
    assert [path.name for path in tmp_path.iterdir()] == [".embedded-sagemaker"]


def test_its_command_says_which_port_is_taken(
    started: subprocess.Popen[str], installed: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    assert started.stdout is not None
    lines = iter(started.stdout.readline, "")
    port = next(line for line in lines if "AWS_ENDPOINT_URL_STS" in line).strip().rsplit(":", 1)[1]
    command = [installed / "embedded-sagemaker", "--port", port, "--data-dir", "other"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"error: port {port} " in done.stderr
