"""Processing jobs against the embedded SageMaker: what comes out, and that no work is done twice.

Their programs run by the table of images, which the stack's own SageMaker does not have: these
tests start one beside it, on the same S3.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from resources.sagemaker import (
    ProcessingError,
    ProcessingInput,
    ProcessingJobSpec,
    ProcessingOutput,
    SageMakerResource,
)
from tests.conftest import Services, point_to
from tests.resources.sagemaker.conftest import Faults, RecordingLog
from tests.sagemaker_local.conftest import FAST
from tests.sagemaker_local.rig import CHECKOUT, PATIENCE_SECONDS, Server, wait_until_ended
from tests.waiting import until

# Sums what it reads, once a file says that it may, and writes down there that it began.
PROGRAM = """
import os, pathlib, sys, time

rows, sums, diary = map(pathlib.Path, sys.argv[1:])
print(f"pid {os.getpid()}", flush=True)
with diary.open("a") as lines:
    lines.write("began\\n")
(sums / "half.txt").write_text("half")
while "go on" not in diary.read_text():
    time.sleep(0.02)
files = sorted(rows.iterdir())
message = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "output", "message")
message.write_text(f"{len(files)} files")
numbers = [int(line) for path in files for line in path.read_text().split()]
(sums / "sum.txt").write_text(str(sum(numbers)))
"""
# What a run's worker does, on the spec that it gets as JSON.
WORKER = """
import sys
import dagster as dg
from resources.sagemaker import ProcessingJobSpec, SageMakerResource

spec = ProcessingJobSpec.model_validate_json(sys.argv[1])

@dg.asset
def sums(context: dg.AssetExecutionContext, sagemaker: SageMakerResource):
    return dg.MaterializeResult(metadata=sagemaker.process(spec, log=context.log).metadata())

resource = SageMakerResource(role_arn=sys.argv[2], poll_seconds=0.2)
sys.exit(0 if dg.materialize([sums], resources={"sagemaker": resource}).success else 1)
"""
IMAGE = "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
FOLDER = "/opt/ml/processing"

MakeJob = Callable[..., ProcessingJobSpec]


@pytest.fixture(scope="module")
def processor(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A SageMaker whose processing jobs run scripts."""
    folder = tmp_path_factory.mktemp("processing")
    table = folder / "images.toml"
    table.write_text('["*/sagemaker-scikit-learn:*"]\nscript_mode = true\n')
    settings = {**FAST, "EMBEDDED_SAGEMAKER_IMAGES": str(table)}
    server = Server(folder / "sagemaker", services.env, settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(
    services: Services, processor: Server, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """As the folder's own, but with that SageMaker."""
    env = {**services.env, **processor.env}
    point_to(env, monkeypatch)
    return env


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """What the program reads before it goes on, and writes when it begins."""
    path = tmp_path / "diary.txt"
    path.write_text("go on\n")
    return path


@pytest.fixture
def make_job(environment: Mapping[str, str], bucket: str, unique: str, diary: Path) -> MakeJob:
    """Specs of the program's job, the same each time but for what is asked."""
    s3 = boto3.client("s3")
    s3.put_object(Bucket=bucket, Key="code/sums.py", Body=PROGRAM.encode())
    for name, rows in {"a": b"1\n2\n", "b": b"40\n"}.items():
        s3.put_object(Bucket=bucket, Key=f"rows/{name}.txt", Body=rows)

    def make(**changes: Any) -> ProcessingJobSpec:
        fields: dict[str, Any] = {
            "name": unique,
            "image": IMAGE,
            "entrypoint": ["python3", f"{FOLDER}/code/sums.py"],
            "arguments": [f"{FOLDER}/rows", f"{FOLDER}/sums", str(diary)],
            "inputs": [
                ProcessingInput(
                    name=name, s3_uri=f"s3://{bucket}/{name}/", local_path=f"{FOLDER}/{name}"
                )
                for name in ("code", "rows")
            ],
            "outputs": [
                ProcessingOutput(
                    name="sums", s3_uri=f"s3://{bucket}/sums", local_path=f"{FOLDER}/sums"
                )
            ],
            **changes,
        }
        return ProcessingJobSpec(**fields)

    return make


def written(bucket: str) -> dict[str, bytes]:
    """What jobs have left in their output."""
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket=bucket, Prefix="sums/").get("Contents", [])
    keys = [item.get("Key", "") for item in listed]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def statuses(sagemaker: SageMakerResource, name: str) -> dict[str, str]:
    """The jobs whose names begin so."""
    answer = sagemaker.clients.control.list_processing_jobs(NameContains=name)
    jobs = answer["ProcessingJobSummaries"]
    return {job["ProcessingJobName"]: job["ProcessingJobStatus"] for job in jobs}


def process_of(processor: Server, name: str) -> psutil.Process:
    """The process of a job that waits, by the first line that it prints."""

    def lines() -> str:
        try:
            events = processor.logs.filter_log_events(
                logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix=f"{name}/"
            )
        except processor.logs.exceptions.ResourceNotFoundException:
            return ""
        return "\n".join(event["message"] for event in events["events"])

    until(lambda: "pid" in lines())
    match = re.search(r"pid (\d+)", lines())
    assert match
    return psutil.Process(int(match[1]))


def start_worker(sagemaker: SageMakerResource, spec: ProcessingJobSpec) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, spec.model_dump_json(), sagemaker.role_arn],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.DEVNULL,
    )


def test_a_program_reads_its_inputs_and_its_outputs_are_in_s3(
    sagemaker: SageMakerResource, make_job: MakeJob, bucket: str, unique: str, log: RecordingLog
) -> None:
    data = sagemaker.process(make_job(), log=log, tags={"run": "1"})

    assert (data.name, data.origin) == (unique, "started")
    assert data.outputs == {"sums": f"s3://{bucket}/sums"}
    assert written(bucket) == {"sums/half.txt": b"half", "sums/sum.txt": b"43"}
    assert data.exit_message == data.metadata()["exit_message"] == "2 files"
    assert data.seconds is not None
    assert data.estimated_cost == pytest.approx(data.seconds * 0.115 / 3600)
    tags = sagemaker.clients.control.list_tags(ResourceArn=data.arn)["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"pipeline": "tests", "run": "1"}
    assert f"Processing job {unique} started" in log.text
    assert "pid " in log.text


def test_the_same_work_is_not_paid_twice(
    sagemaker: SageMakerResource, make_job: MakeJob, unique: str, diary: Path
) -> None:
    """Nor by two that want it at once: the slower one attaches."""
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: sagemaker.process(make_job()), range(2)))
    assert sorted(data.origin for data in both) in (["attached", "started"], ["reused", "started"])
    assert sagemaker.process(make_job()).origin == "reused"
    assert statuses(sagemaker, unique) == {unique: "Completed"}
    assert diary.read_text().count("began") == 1

    other = sagemaker.process(make_job(environment={"SEED": "1"}))
    assert (other.name, other.origin) == (f"{unique}-2", "started")
    gone_since = sagemaker.process(make_job(), usable=lambda data: data.name != unique)
    assert (gone_since.name, gone_since.origin) == (f"{unique}-3", "started")


def test_a_run_that_is_killed_leaves_its_job_to_the_next_which_attaches(
    sagemaker: SageMakerResource,
    processor: Server,
    make_job: MakeJob,
    bucket: str,
    unique: str,
    diary: Path,
) -> None:
    diary.write_text("")
    spec = make_job()
    worker = start_worker(sagemaker, spec)
    process = process_of(processor, unique)
    worker.kill()
    worker.wait()
    assert statuses(sagemaker, unique) == {unique: "InProgress"}

    class LettingItGoOn(RecordingLog):
        def info(self, msg: str, /) -> None:
            super().info(msg)
            if msg.endswith("attached."):
                diary.write_text(f"{diary.read_text()}go on\n")

    assert sagemaker.process(spec, log=LettingItGoOn()).origin == "attached"
    assert written(bucket)["sums/sum.txt"] == b"43"
    assert statuses(sagemaker, unique) == {unique: "Completed"}
    assert diary.read_text().count("began") == 1
    assert wait_until_ended([process])


def test_a_run_that_is_cancelled_stops_its_job_and_the_next_does_it_anew(
    sagemaker: SageMakerResource,
    processor: Server,
    make_job: MakeJob,
    bucket: str,
    unique: str,
    diary: Path,
) -> None:
    diary.write_text("")
    spec = make_job()
    worker = start_worker(sagemaker, spec)
    try:
        process = process_of(processor, unique)
        worker.send_signal(signal.SIGTERM)
        until(lambda: statuses(sagemaker, unique) == {unique: "Stopped"})
        assert worker.wait(PATIENCE_SECONDS) != 0
    finally:
        worker.send_signal(signal.SIGABRT)  # has one that hangs say where
        worker.wait()
    assert wait_until_ended([process])
    assert written(bucket) == {}

    diary.write_text("go on\n")
    again = sagemaker.process(spec)
    assert (again.name, again.origin) == (f"{unique}-2", "started")
    assert written(bucket)["sums/sum.txt"] == b"43"


def test_a_program_that_fails_says_why_in_its_own_words(
    sagemaker: SageMakerResource, make_job: MakeJob, bucket: str, unique: str, log: RecordingLog
) -> None:
    """Its message is in the error, what it printed in the run's log, and nothing of it in S3."""
    s3 = boto3.client("s3")
    spec = make_job()
    s3.put_object(Bucket=bucket, Key="rows/c.txt", Body=b"many\n")
    with pytest.raises(ProcessingError) as caught:
        sagemaker.process(spec, log=log)
    assert f"Processing job {unique} failed: AlgorithmError: " in str(caught.value)
    assert "exit code: 1" in str(caught.value)
    assert 'It said: "3 files"' in str(caught.value)
    assert not caught.value.transient
    assert "ValueError: invalid literal" in log.text
    assert written(bucket) == {}

    s3.delete_object(Bucket=bucket, Key="rows/c.txt")
    assert sagemaker.process(spec).name == f"{unique}-2"


def test_a_job_for_which_there_is_no_machine_may_be_tried_again(
    sagemaker: SageMakerResource, make_job: MakeJob, faults: Faults
) -> None:
    with (
        faults(sagemaker, "capacity-error", operation="CreateProcessingJob"),
        pytest.raises(ProcessingError, match="CapacityError") as caught,
    ):
        sagemaker.process(make_job())
    assert caught.value.transient


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_runtime_seconds": 1}, r"max_runtime_seconds \(1 s\): raise it"),
        ({"deadline_seconds": 0.5}, r"deadline of 0\.5 s\. It has been stopped"),
    ],
    ids=["SageMaker's limit", "our deadline"],
)
def test_one_that_takes_too_long_is_stopped_and_says_so(
    sagemaker: SageMakerResource,
    make_job: MakeJob,
    bucket: str,
    unique: str,
    diary: Path,
    limit: dict[str, Any],
    words: str,
) -> None:
    diary.write_text("")
    with pytest.raises(ProcessingError, match=words):
        sagemaker.process(make_job(**limit))
    assert statuses(sagemaker, unique) == {unique: "Stopped"}
    assert written(bucket) == {}
