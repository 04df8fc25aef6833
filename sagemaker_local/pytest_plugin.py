"""Fixtures for tests of code that uses SageMaker: `embedded_sagemaker` starts one for the test run.

It needs an S3, which `embedded_sagemaker_s3` names: override that fixture in your conftest.py.
"""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_GRACE_SECONDS = 30
_OF_S3 = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
# The last that the server prints.
_LAST = "AWS_ENDPOINT_URL_STS"


@pytest.fixture(scope="session")
def embedded_sagemaker_s3() -> Mapping[str, str]:
    """The S3 to work on, in the environment's own names; override it.

    Returns:
        `AWS_ENDPOINT_URL_S3`, `AWS_DEFAULT_REGION` unless it is us-east-1, and
        `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` unless it takes any keys. This one takes
        them from the process's environment.
    """
    given = {name: os.environ[name] for name in _OF_S3 if os.environ.get(name)}
    if "AWS_ENDPOINT_URL_S3" not in given:
        pytest.fail(
            "The embedded SageMaker needs an S3: set AWS_ENDPOINT_URL_S3, or override the fixture "
            "embedded_sagemaker_s3."
        )
    return given


@pytest.fixture(scope="session")
def embedded_sagemaker(
    embedded_sagemaker_s3: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A SageMaker of this test run on a free port, with random keys where S3 has none of its own.

    Returns:
        The environment that its clients need: keys, region and endpoint URLs.
    """
    state = tmp_path_factory.mktemp("embedded-sagemaker")
    keys = {
        "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
    }
    given = keys | dict(embedded_sagemaker_s3)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "sagemaker_local", "--port", "0", "--data-dir", str(state)]
    with (
        (state / "server.log").open("w") as log,
        subprocess.Popen(
            command, env=inherited | given, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            yield given | _printed_environment(process, state / "server.log")
        finally:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _printed_environment(process: subprocess.Popen[str], log: Path) -> dict[str, str]:
    """What the server prints once it can be reached: lines of `export NAME=value`."""
    printed: dict[str, str] = {}
    for line in process.stdout or ():
        name, _, value = shlex.split(line)[1].partition("=")
        printed[name] = value
        if name == _LAST:
            return printed
    pytest.fail(f"The embedded SageMaker did not start: {log.read_text()[-2000:]}")
