"""The SageMaker SDK v2 against the embedded SageMaker, unchanged: record_set, fit, deploy, predict.

The SDK pins packages that the platform has newer, so it lives in an environment of its own: name
that environment's Python in EMBEDDED_SAGEMAKER_SDK_PYTHON (`pip install 'sagemaker<3'`).
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.embedded.sagemaker.rig import ROLE, Server

VARIABLE = "EMBEDDED_SAGEMAKER_SDK_PYTHON"


def test_the_sdks_own_kmeans_trains_deploys_and_predicts(
    server: Server, store: str, tmp_path: Path
) -> None:
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(f"{VARIABLE} does not name a Python that has 'sagemaker<3'")
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
    # logs=True: the job's own lines reached the SDK's output.
    assert "#quality_metric: host=algo-1, train msd" in done.stdout
