"""A Dagster run that is cancelled stops its training job, also where Python lost the signal.

A run that is killed is attached to by the next.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resources.sagemaker import SageMakerResource, TrainingJobSpec

pytestmark = pytest.mark.minutes

# What a run's worker does, on the spec that it gets as JSON.
WORKER = """
import sys
import dagster as dg
from resources.sagemaker import SageMakerResource, TrainingJobSpec

spec = TrainingJobSpec.model_validate_json(sys.argv[1])

@dg.asset
def model(context: dg.AssetExecutionContext, sagemaker: SageMakerResource):
    job = sagemaker.train(spec, log=context.log)
    return dg.MaterializeResult(metadata=job.metadata())

role = sys.argv[2]
result = dg.materialize(
    [model], resources={"sagemaker": SageMakerResource(role_arn=role, poll_seconds=0.2)}
)
sys.exit(0 if result.success else 1)
"""
# A run that is cancelled as Dagster does it, by its status and a signal, while Python destroys
# something: what the signal's handler raises there is printed at best.
LOSING_WORKER = """
import gc, io, os, signal, sys, weakref
import dagster as dg
from resources.sagemaker import SageMakerResource, TrainingJobSpec

spec = TrainingJobSpec.model_validate_json(sys.argv[1])
role, sent, way = sys.argv[2:]

def interrupt(*_):
    os.kill(os.getpid(), getattr(signal, sent))
    for _ in range(1000):  # Python calls the handler in here, at the latest
        pass

class Watched:
    pass

class Destroyed:
    __del__ = interrupt

class File(io.RawIOBase):
    closed = property(interrupt)

def in_a_cycle(garbage):
    garbage.itself = garbage
    return garbage

class Cancelling:
    def __init__(self, context):
        self.context = context

    def info(self, message):
        if message.endswith("Starting the training job"):
            self.context.instance.report_run_canceling(self.context.run)
            destroy()
            gc.collect()
            print("lost", flush=True)

    warning = info

def destroy():
    if way == "callback":
        watched = Watched(); kept = weakref.ref(watched, interrupt); del watched
    elif way == "callback in a collection":
        watched = in_a_cycle(Watched()); kept = weakref.ref(watched, interrupt); del watched
        gc.collect()
    elif way == "destructor":
        Destroyed()
    elif way == "destructor in a collection":
        in_a_cycle(Destroyed())
    elif way == "file in a collection":
        in_a_cycle(File())

@dg.asset
def model(context: dg.AssetExecutionContext, sagemaker: SageMakerResource):
    sagemaker.train(spec, log=Cancelling(context))

with dg.DagsterInstance.local_temp() as instance:
    try:
        dg.materialize(
            [model],
            instance=instance,
            resources={"sagemaker": SageMakerResource(role_arn=role, poll_seconds=15)},
        )
    except dg.DagsterExecutionInterruptedError:
        print("interrupted", flush=True)
    (run,) = instance.get_runs()
    print(run.status.value, flush=True)
"""
# A run that is interrupted when urllib3 has just locked its pool of connections.
LOCKED_WORKER = """
import os, signal, sys, threading
import dagster as dg
from resources.sagemaker import SageMakerResource, TrainingJobSpec

spec = TrainingJobSpec.model_validate_json(sys.argv[1])

def watch(frame, event, argument):
    if frame.f_code is threading.Condition.__enter__.__code__:
        if "urllib3" in frame.f_back.f_back.f_code.co_filename:
            return interrupt

def interrupt(frame, event, argument):
    if event == "return":
        sys.settrace(None)
        threading.settrace(None)
        print("locked", flush=True)
        os.kill(os.getpid(), signal.SIGINT)

class Watching:
    def info(self, message):
        if "started." in message:
            threading.settrace(watch)
            sys.settrace(watch)  # of frames that begin from now on

    warning = info

@dg.asset
def model(sagemaker: SageMakerResource):
    sagemaker.train(spec, log=Watching())

dg.materialize(
    [model], resources={"sagemaker": SageMakerResource(role_arn=sys.argv[2], poll_seconds=0.2)}
)
"""
# A run that is interrupted while the request that creates its job is on a slow way.
STARTING_WORKER = """
import os, signal, sys, time
import dagster as dg
from resources.sagemaker import SageMakerResource, TrainingJobSpec

spec = TrainingJobSpec.model_validate_json(sys.argv[1])

def delay(**_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(2)

@dg.asset
def model(context: dg.AssetExecutionContext, sagemaker: SageMakerResource):
    events = sagemaker.clients.control.meta.events
    events.register("before-send.sagemaker.CreateTrainingJob", delay)
    sagemaker.train(spec, log=context.log)

dg.materialize(
    [model], resources={"sagemaker": SageMakerResource(role_arn=sys.argv[2], poll_seconds=0.2)}
)
"""
CHECKOUT = Path(__file__).resolve().parents[3]
STOPPED_WITHIN_SECONDS = 15
PATIENCE_SECONDS = 120  # by themselves the jobs here would go on for longer


def start_worker(sagemaker: SageMakerResource, spec: TrainingJobSpec) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, spec.model_dump_json(), sagemaker.role_arn],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.DEVNULL,  # and its log to ours: a pipe that nobody reads would hold it up
    )


def status_of(sagemaker: SageMakerResource, name: str) -> str | None:
    answer = sagemaker.clients.control.list_training_jobs(NameContains=name)
    statuses = {
        job["TrainingJobName"]: job["TrainingJobStatus"] for job in answer["TrainingJobSummaries"]
    }
    return statuses.get(name)


def wait_for(sagemaker: SageMakerResource, name: str, status: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while (result := status_of(sagemaker, name)) != status:
        assert time.monotonic() < end, f"{name} is {result}, not {status}"
        time.sleep(0.1)


@pytest.mark.parametrize("cancel", [signal.SIGINT, signal.SIGTERM], ids=["interrupt", "terminate"])
def test_a_cancelled_run_stops_its_job(sagemaker, make_spec, unique, cancel) -> None:
    worker = start_worker(sagemaker, make_spec(hyperparameters=slow()))
    try:
        wait_for(sagemaker, unique, "InProgress")
        worker.send_signal(cancel)
        wait_for(sagemaker, unique, "Stopped")
        assert worker.wait(timeout=PATIENCE_SECONDS) != 0
    finally:
        worker.send_signal(signal.SIGABRT)  # has one that hangs tell where
        worker.wait()


@pytest.mark.parametrize(
    ("way", "sent"),
    [
        ("callback", "SIGINT"),
        ("callback in a collection", "SIGINT"),
        ("destructor", "SIGINT"),
        ("destructor in a collection", "SIGINT"),
        ("file in a collection", "SIGINT"),
        ("file in a collection", "SIGTERM"),
    ],
)
def test_a_cancelled_run_stops_its_job_although_python_lost_the_signal(
    sagemaker, make_spec, unique, way, sent
) -> None:
    spec = make_spec(hyperparameters=slow())
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LOSING_WORKER,
            spec.model_dump_json(),
            sagemaker.role_arn,
            sent,
            way,
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "lost\n", "the signal was not lost"
        lost_at = time.monotonic()
        wait_for(sagemaker, unique, "Stopped")
        assert time.monotonic() - lost_at < STOPPED_WITHIN_SECONDS
        rest, _ = worker.communicate(timeout=PATIENCE_SECONDS)
        assert rest.splitlines()[-1] == "CANCELED"
    finally:
        worker.kill()
        worker.wait()


def test_a_run_that_is_interrupted_while_connections_are_locked_stops_its_job_and_ends(
    sagemaker, make_spec, unique
) -> None:
    spec = make_spec(hyperparameters=slow())
    worker = subprocess.Popen(
        [sys.executable, "-c", LOCKED_WORKER, spec.model_dump_json(), sagemaker.role_arn],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "locked\n"
        wait_for(sagemaker, unique, "Stopped")
        assert worker.wait(timeout=PATIENCE_SECONDS) != 0
    finally:
        worker.kill()
        worker.wait()


def test_a_run_that_is_interrupted_while_its_job_is_being_created_stops_it(
    sagemaker, make_spec, unique
) -> None:
    spec = make_spec(hyperparameters=slow())
    command = [sys.executable, "-c", STARTING_WORKER, spec.model_dump_json(), sagemaker.role_arn]
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert status_of(sagemaker, unique) in {"Stopping", "Stopped"}, done.stderr


def test_after_a_killed_run_the_next_attaches_to_its_job(sagemaker, make_spec, unique) -> None:
    spec = make_spec(hyperparameters=slow())
    worker = start_worker(sagemaker, spec)
    wait_for(sagemaker, unique, "InProgress")
    worker.kill()
    worker.wait()
    assert status_of(sagemaker, unique) == "InProgress"

    with pytest.raises(KeyboardInterrupt):
        sagemaker.train(spec, log=StopsWhenAttached())
    wait_for(sagemaker, unique, "Stopped")


class StopsWhenAttached:
    """Ends the slow job as soon as the point of the test is made."""

    def info(self, msg: str, /) -> None:
        if msg.endswith("attached."):
            raise KeyboardInterrupt

    def warning(self, msg: str, /) -> None: ...


def slow() -> dict[str, str]:
    """Hyperparameters that keep the algorithm busy for minutes."""
    return {"k": "2", "feature_dim": "2", "epochs": "1000000"}
