"""How soon the training job of a run stops once the run's process is told to end.

`ours_s` is the time from the signal that Dagster sends on "Terminate" to the job being Stopping or
Stopped. The reference is no measurement but the limit that the platform keeps.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from typing import Any

from benchmarks.harness import Benchmark, BenchmarkError, Stopwatch, run_side, side

_LIMIT_SECONDS = 15.0
_START_SECONDS = 120

BENCHMARKS = (
    Benchmark(
        name="cancel_training",
        reference_name="the limit: a training job stops within 15 s of the cancellation of its run",
        ours=side("cancel_training", "cancel"),
        reference=side("cancel_training", "limit"),
        rounds=3,
        tolerance=None,
        services=True,
    ),
)


def cancel() -> None:
    """Starts a run that trains for minutes, terminates it and waits for its job to stop."""
    import boto3

    name = f"cancel-{secrets.token_hex(5)}"
    rows = "\n".join(f"{n % 7},{n % 11}" for n in range(200))
    bucket = os.environ["PLATFORM_BUCKET"]
    boto3.client("s3").put_object(Bucket=bucket, Key="cancel/train.csv", Body=rows.encode())
    sagemaker: Any = boto3.client("sagemaker")

    def wait_for(*expected: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            jobs = sagemaker.list_training_jobs(NameContains=name)["TrainingJobSummaries"]
            if jobs and jobs[0]["TrainingJobStatus"] in expected:
                return
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{name} was not {' or '.join(expected)} in time")
            time.sleep(0.05)

    command = [sys.executable, "-m", "benchmarks.cancel_training", "train", name]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("InProgress")
        with Stopwatch() as watch:
            worker.send_signal(signal.SIGTERM)
            wait_for("Stopping", "Stopped")
    finally:
        worker.terminate()
        worker.wait()
    watch.report("stopped")


def train(name: str) -> None:
    """The run: one asset that trains on a job that goes on for minutes by itself."""
    import dagster as dg

    from resources.sagemaker import S3Channel, SageMakerResource, TrainingJobSpec, builtin_image_uri

    bucket = os.environ["PLATFORM_BUCKET"]
    spec = TrainingJobSpec(
        name=name,
        image=builtin_image_uri("kmeans", os.environ["AWS_DEFAULT_REGION"]),
        hyperparameters={"k": "2", "feature_dim": "2", "epochs": "1000000"},
        channels=[
            S3Channel(
                name="train",
                s3_uri=f"s3://{bucket}/cancel/",
                content_type="text/csv;label_size=0",
            )
        ],
        output_s3_uri=f"s3://{bucket}/cancel-models/",
    )

    @dg.asset
    def model(context: dg.AssetExecutionContext, sagemaker: SageMakerResource) -> None:
        sagemaker.train(spec, log=context.log)

    role = os.environ["PLATFORM_SAGEMAKER_ROLE_ARN"]
    dg.materialize([model], resources={"sagemaker": SageMakerResource(role_arn=role)})


def limit() -> None:
    """Reports the limit as the reference's time."""
    watch = Stopwatch()
    watch.seconds, watch.cpu_seconds = _LIMIT_SECONDS, 0.0
    watch.report("stopped")


if __name__ == "__main__":
    run_side(cancel, train, limit)
