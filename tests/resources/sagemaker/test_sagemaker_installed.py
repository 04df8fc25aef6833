"""SageMaker for Dagster, installed alone, in a project that has nothing else of ours."""

import ast
import os
import re
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import boto3
import pytest

from resources import sagemaker
from tests.conftest import CHECKOUT
from tests.installed import build_wheel, install_alone

FOLDER = CHECKOUT / "dagster_sagemaker"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(FOLDER, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that has the wheel and what it asks for."""
    return install_alone(wheel, tmp_path_factory.mktemp("environment"), [])


def test_the_wheel_holds_one_package_with_the_types_of_its_code(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dagster_sagemaker"}
    assert "dagster_sagemaker/py.typed" in names


def test_all_that_is_public_can_be_had_from_its_front(installed: Path, tmp_path: Path) -> None:
    program = "from dagster_sagemaker import *; print(sorted(globals()))"
    done = subprocess.run(
        [installed / "python", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(sagemaker.__all__) <= set(ast.literal_eval(done.stdout))


def test_the_readmes_asset_trains_in_a_bare_project_and_is_not_paid_twice(
    installed: Path,
    environment: Mapping[str, str],
    training_uri: str,
    bucket: str,
    unique: str,
    tmp_path: Path,
) -> None:
    """By Dagster's own command line."""
    text = (FOLDER / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for theirs, ours in {
        "s3://my-bucket/train/": training_uri,
        "s3://my-bucket/": f"s3://{bucket}/",
        "points-by-kmeans": unique,
        "arn:aws:iam::123456789012:role/sagemaker": environment["PLATFORM_SAGEMAKER_ROLE_ARN"],
        "role_arn=role": "role_arn=role, poll_seconds=0.1",
    }.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    (tmp_path / "definitions.py").write_text(code)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST_"))}
    command = [installed / "python", "-m", "dagster", "asset", "materialize"]

    for number in (1, 2):
        done = subprocess.run(
            [*command, "--select", "model", "-f", "definitions.py"],
            cwd=tmp_path,
            env={**kept, "DAGSTER_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "RUN_SUCCESS" in done.stderr + done.stdout
        assert ("reused" in done.stderr + done.stdout) == (number == 2)
    jobs = boto3.client("sagemaker").list_training_jobs(NameContains=unique)
    assert [job["TrainingJobName"] for job in jobs["TrainingJobSummaries"]] == [unique]
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix="models/")
    assert len(listed.get("Contents", [])) == 1
