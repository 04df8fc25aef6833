"""The SageMaker SDK v2 against the embedded SageMaker, unchanged: record_set, fit, deploy, predict.

The SDK pins packages that the platform has newer, so it lives in an environment of its own: name
that environment's Python in EMBEDDED_SAGEMAKER_SDK_PYTHON (`pip install 'sagemaker<3'`).
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from formats import recordio
from platform_assets.mnist.model import KMeans
from tests.sagemaker_local.rig import ROLE, Server, as_sparse_recordio

VARIABLE = "EMBEDDED_SAGEMAKER_SDK_PYTHON"


# Writes a matrix's rows as the SDK does a SciPy matrix's; its environment has no SciPy.
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


def sdk_python() -> str:
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} does not name a Python that has 'sagemaker<3'")
    return python


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


def test_the_sdks_own_kmeans_trains_deploys_and_predicts(
    server: Server, store: str, tmp_path: Path
) -> None:
    python = sdk_python()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PYTHON"))}
    done = subprocess.run(
        [python, str(Path(__file__).with_name("sdk_v2_flow.py")), store, ROLE],
        env={**kept, **server.env, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(set(zip(answer["found"], answer["cluster"], strict=True))) == 3
    assert 0 < answer["farthest"] < 1
    # What the platform's own jobs say of it, too.
    assert answer["force_dense"] == KMeans().to_hyperparameters()["force_dense"]
    # logs=True: the job's own lines reached the SDK's output.
    assert "#quality_metric: host=algo-1, train msd" in done.stdout
