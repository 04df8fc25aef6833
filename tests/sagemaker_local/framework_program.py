"""What a framework's image runs in tests: the toolkit's part of AWS's own images.

It brings the sources from S3, which the server does for processes, and goes on as script mode does.
It lies in the image beside the programs of script mode, and imports nothing of the project.
"""

import json
import os
import sys
import tarfile
from pathlib import Path

import boto3

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
PROGRAMS = {"train": "script_training.py", "serve": "script_serving.py"}


def main() -> None:
    """Takes the argument that SageMaker gives: `train` or `serve`."""
    (task,) = sys.argv[1:]
    place = os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    if task == "train":
        given = json.loads((BASE / "input" / "config" / "hyperparameters.json").read_text())
        place = json.loads(given["sagemaker_submit_directory"])
    if place.startswith("s3://"):
        bucket, _, key = place.removeprefix("s3://").partition("/")
        boto3.client("s3").download_file(bucket, key, "/tmp/sources.tar.gz")
        with tarfile.open("/tmp/sources.tar.gz") as sources:
            sources.extractall(BASE / "code")
    # One image is that of both frameworks here.
    framework = "xgboost" if "xgboost" in os.environ.get("SAGEMAKER_PROGRAM", "") else "sklearn"
    program = Path(__file__).with_name(PROGRAMS[task])
    os.execv(sys.executable, [sys.executable, str(program), framework])


if __name__ == "__main__":
    main()
