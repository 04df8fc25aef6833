"""The SageMaker SDKs v2 and v3 against the embedded SageMaker, unchanged but for endpoint URLs.

They need older packages than the platform, and exclude each other, so each is in an
environment of its own. Name their Pythons in EMBEDDED_SAGEMAKER_SDK_PYTHON
(`pip install 'sagemaker<3'`) and EMBEDDED_SAGEMAKER_SDK_V3_PYTHON
(`pip install 'sagemaker>=3,<4'`).
"""

import importlib.util
import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats import recordio
from platform_assets.mnist.model import KMeans
from tests.sagemaker_local.rig import ROLE, Server, as_sparse_recordio
from tests.sagemaker_local.test_local_contract import log

pytestmark = pytest.mark.minutes

VARIABLE = "EMBEDDED_SAGEMAKER_SDK_PYTHON"
V3_VARIABLE = "EMBEDDED_SAGEMAKER_SDK_V3_PYTHON"
# The SDK v3 reads this file by itself; without it, it reports each call to Amazon.
NO_TELEMETRY = """
SchemaVersion: "1.0"
SageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}
"""

# Writes rows as the SDK writes those of a SciPy matrix; its environment has no SciPy.
WRITE_SPARSE = """
import sys, types
import numpy as np

scipy = types.ModuleType("scipy")
scipy.sparse = types.SimpleNamespace(issparse=lambda matrix: True)
sys.modules["scipy"] = scipy
from sagemaker.amazon.common import write_spmatrix_to_sparse_tensor


class Matrix:
    def __init__(self, dense):
        self.dense, self.shape, self.dtype = dense, dense.shape, dense.dtype

    def tocsr(self):
        return self

    def getrow(self, number):
        row = self.dense[number]
        return types.SimpleNamespace(indices=row.nonzero()[0], data=row[row.nonzero()])


dense, labels, name, labelled = sys.argv[1:]
with open(name, "wb") as file:
    matrix = Matrix(np.load(dense))
    write_spmatrix_to_sparse_tensor(file, matrix, np.load(labels) if labelled == "yes" else None)
"""


def sdk_python(variable: str = VARIABLE) -> str:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} does not name a Python that has the SageMaker SDK")
    return python


def run_flow(
    variable: str, script: str, arguments: list[str], server: Server, home: Path, **more: str
) -> tuple[str, dict[str, Any]]:
    """What a script beside this file printed, and the JSON object in its last line."""
    python = sdk_python(variable)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    done = subprocess.run(
        [python, str(Path(__file__).with_name(script)), *arguments],
        env={**kept, **server.env, "HOME": str(home), **more},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=560,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_the_sdks_sparse_records_are_read_as_the_dense_matrix(
    dtype: type[np.generic], tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    dense = rng.integers(-300, 300, (60, 200)) * (rng.random((60, 200)) < 0.1)
    dense[5] = 0
    labels = np.arange(60, dtype=np.float32)
    names = [str(tmp_path / name) for name in ("dense.npy", "labels.npy", "out")]
    np.save(names[0], dense.astype(dtype))
    np.save(names[1], labels)

    def written(labelled: str) -> bytes:
        command = [sdk_python(), "-c", WRITE_SPARSE, *names, labelled]
        subprocess.run(command, check=True, timeout=280)
        return (tmp_path / "out").read_bytes()

    read, read_labels = recordio.decode(written("yes"))
    np.testing.assert_array_equal(read, dense)
    np.testing.assert_array_equal(read_labels, labels)  # type: ignore[arg-type]
    if dtype is np.float32:
        # The sparse records of the other tests are the SDK's, byte for byte.
        assert as_sparse_recordio(dense.astype(np.float32)) == written("no")


def test_the_sdks_own_kmeans_trains_deploys_predicts_registers_and_transforms(
    server: Server, store: str, tmp_path: Path
) -> None:
    stdout, answer = run_flow(VARIABLE, "sdk_v2_flow.py", [store, ROLE], server, tmp_path)
    assert len(set(zip(answer["closest"], answer["cluster"], strict=True))) == 3
    assert 0 < answer["farthest"] < 1
    assert answer["transformed"] == answer["registered"] == answer["closest"]
    assert (answer["version"], answer["approval"]) == (1, "Approved")
    # The platform's own jobs set the same value.
    assert answer["force_dense"] == KMeans().to_hyperparameters()["force_dense"]
    # logs=True: the SDK prints the job's log.
    assert "#quality_metric: host=algo-1, train msd" in stdout


def run_scripts(server: Server, bucket: str, home: Path, *image: str) -> None:
    """XGBoost by the SDK v2, without an image scikit-learn, too: all that there is to them."""
    scripts = [
        str(Path(__file__).with_name(f"{name}_script.py")) for name in ("sklearn", "xgboost")
    ]
    config = home / "config.yaml"
    config.write_text(NO_TELEMETRY)
    stdout, answers = run_flow(
        VARIABLE,
        "sdk_v2_scripts_flow.py",
        [bucket, ROLE, *scripts, *image],
        server,
        home,
        SAGEMAKER_USER_CONFIG_OVERRIDE=str(config),
    )
    assert stdout.count("depth=1;") == len(answers) == (1 if image else 2)
    for answer in answers.values():
        assert answer["before"] == answer["after"] == pytest.approx([0, 1], abs=1e-3)
        assert answer["served"] == [answer["model"]]
        key = f"{answer['answers'].removeprefix(f's3://{bucket}/')}/rows.csv.out"
        body = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert list(map(float, body.split())) == pytest.approx([0, 1], abs=1e-3)
        assert answer["stopped"] == "Stopped"
        listed = server.sagemaker.list_endpoints(NameContains=answer["endpoint"])["Endpoints"]
        assert not [endpoint for endpoint in listed if endpoint["EndpointStatus"] != "Deleting"]


def test_the_sdks_scikit_learn_and_xgboost_train_serve_update_transform_and_stop(
    image_server: Server, store: str, tmp_path: Path
) -> None:
    run_scripts(image_server, store, tmp_path)


def run_processing(server: Server, bucket: str, home: Path, *image: str) -> None:
    """A processing job by the SDK v2: what its script leaves is in S3, what it says is printed."""
    script = str(Path(__file__).with_name("processing_script.py"))
    config = home / "config.yaml"
    config.write_text(NO_TELEMETRY)
    stdout, answer = run_flow(
        VARIABLE,
        "sdk_v2_processing_flow.py",
        [bucket, ROLE, script, *image],
        server,
        home,
        SAGEMAKER_USER_CONFIG_OVERRIDE=str(config),
    )
    assert answer["status"] == "Completed"
    assert "rows=2;" in stdout
    key = answer["output"].removeprefix(f"s3://{bucket}/")
    body = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    assert body == b"0,0.1\n1,0.9\n"


def test_the_sdks_scikit_learn_processor_runs_its_script(
    image_server: Server, store: str, tmp_path: Path
) -> None:
    run_processing(image_server, store, tmp_path)


def test_the_sdk_v3_trains_and_deploys_with_its_model_trainer_and_model_builder(
    server: Server, store: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(NO_TELEMETRY)
    # The role by its name alone: the SDK asks IAM for the ARN, then whether it may do the work.
    _, answer = run_flow(
        V3_VARIABLE,
        "sdk_v3_flow.py",
        [store, ROLE.rsplit("/", 1)[1]],
        server,
        tmp_path,
        SAGEMAKER_USER_CONFIG_OVERRIDE=str(config),
    )
    assert answer["artifact"].startswith(f"s3://{store}/sdk-v3/sdk-v3-")
    assert len(answer["predictions"]) == 2
    assert all(row["distance_to_cluster"] > 0 for row in answer["predictions"])


def sources(folder: Path) -> Path:
    """What a user of the SDK v3 has: a script, and requirements that it cannot do without."""
    folder.mkdir()
    script = Path(__file__).with_name("sklearn_script.py")
    (folder / "train.py").write_text(script.read_text())
    (folder / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        described = "tiny-1.0.dist-info"
        wheel.writestr("tiny.py", "")
        wheel.writestr(f"{described}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{described}/RECORD", "")
    return folder


def run_source_code(server: Server, bucket: str, home: Path, *image: str) -> None:
    """Trains and serves own code by the SDK v3, which needs what its requirements name."""
    config = home / "config.yaml"
    config.write_text(NO_TELEMETRY)
    _, answer = run_flow(
        V3_VARIABLE,
        "sdk_v3_source_flow.py",
        [bucket, ROLE.rsplit("/", 1)[1], str(sources(home / "sources")), *image],
        server,
        home,
        SAGEMAKER_USER_CONFIG_OVERRIDE=str(config),
    )
    assert answer["predictions"] == [0.0, 1.0]
    lines = log(server, answer["job"])
    assert "depth=1;" in lines
    assert "Training Container Execution Completed" in lines


def test_the_sdk_v3_trains_and_serves_own_code_with_its_requirements(
    image_server: Server, store: str, tmp_path: Path
) -> None:
    """What is installed for a job is gone with it."""
    run_source_code(image_server, store, tmp_path)
    assert importlib.util.find_spec("tiny") is None
