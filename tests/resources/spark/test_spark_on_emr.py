"""Jobs on EMR Serverless: moto stands in for AWS, a process for its driver; S3 is a real one."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.emrserverless import models as emr

from resources.s3 import ObjectStore
from resources.spark import SparkNotSetUpError, SparkResource, SparkRunError
from sagemaker_local import service_model
from tests.deploy.conftest import REGION, moto_server
from tests.resources.tls_server import tls_server
from tests.s3_front import Answer, Front, Incoming

ROLE = f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/data-platform-spark"
DRIVER = """
import boto3
from dagster_pipes import PipesS3ContextLoader, PipesS3MessageWriter, open_dagster_pipes

client = boto3.client("s3")
loader, writer = PipesS3ContextLoader(client), PipesS3MessageWriter(client)
with open_dagster_pipes(context_loader=loader, message_writer=writer) as pipes:
    pipes.report_custom_message({"extras": pipes.extras})
"""


SETTINGS = {
    "spark.executor.memory": "4g",
    "spark.driver.extraJavaOptions": "-Da=1 --conf spark.b=2",
}


@pytest.fixture
def emr_serverless(
    environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Front]:
    """EMR Serverless, whose jobs wait to be run."""
    with moto_server() as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", front.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        monkeypatch.setattr(emr, "JOB_STATUS", "SCHEDULED")
        yield front


@pytest.fixture
def requests_sent(emr_serverless: Front) -> list[Mapping[str, Any]]:
    """What asks it to start a job."""
    sent: list[Mapping[str, Any]] = []
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register(
        "provide-client-params.emr-serverless.StartJobRun",
        lambda params, **_: sent.append(dict(params)),
    )
    return sent


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that reports what it finds in its context."""
    package = tmp_path / "probe_driver"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(DRIVER)
    monkeypatch.syspath_prepend(tmp_path)


def create_application() -> str:
    """An application of EMR Serverless, by its id."""
    client = boto3.client("emr-serverless")
    application = client.create_application(
        name="a", releaseLabel="emr-7.9.0", type="SPARK", clientToken="t"
    )
    return application["applicationId"]


def start(
    store: ObjectStore,
    when_sent: Callable[[dg.OpExecutionContext], None],
    application_id: str = "",
) -> Any:
    """Runs the probe as a job of an application; what the resource returned or raised."""
    spark = SparkResource(
        application_id=application_id or create_application(),
        role_arn=ROLE,
        environment="s3://bucket/environment.tar.gz",
        settings=SETTINGS,
        poll_seconds=0.2,
    )
    outcome: list[Any] = []

    @dg.op
    def crunch(context: dg.OpExecutionContext) -> None:
        threading.Thread(target=when_sent, args=(context,), daemon=True).start()
        try:
            outcome.append(
                spark.run(
                    context,
                    "probe_driver",
                    packages=["probe_driver"],
                    store=store,
                    scratch="airbnb/spark",
                    extras={"dates": ["2026-01-01"]},
                )
            )
        except BaseException as error:
            outcome.append(error)

    @dg.job
    def crunch_on_emr() -> None:
        crunch()

    crunch_on_emr.execute_in_process()
    return outcome[0]


def job_run() -> emr.JobRun | None:
    backend = emr.emrserverless_backends[DEFAULT_ACCOUNT_ID][REGION]
    return next((job for jobs in backend.job_runs.values() for job in jobs), None)


def await_job() -> emr.JobRun:
    deadline = time.monotonic() + 60
    while (job := job_run()) is None:
        assert time.monotonic() < deadline, "no job was started"
        threading.Event().wait(0.05)
    return job


def submit(store: ObjectStore, job: emr.JobRun, folder: Path) -> None:
    """What spark-submit does with the job: fetches its files, and runs the driver with them."""
    driver = (job.job_driver or {})["sparkSubmit"]
    parameters = str(driver["sparkSubmitParameters"])
    archive = re.findall(r"--py-files (\S+)", parameters)[0]
    for uri, name in ((str(driver["entryPoint"]), "driver.py"), (archive, "code.zip")):
        content = store.get_bytes(uri.removeprefix(f"s3://{store.bucket}/"), max_bytes=10**6)
        (folder / name).write_bytes(content)
    given = re.findall(r"--conf spark\.emr-serverless\.driverEnv\.(\w+)=(\S+)", parameters)
    variables = {name: value for name, value in given if name.startswith("DAGSTER_")}
    environment = {**os.environ, **variables, "PYTHONPATH": str(folder / "code.zip")}
    command = [sys.executable, folder / "driver.py", *driver["entryPointArguments"]]
    subprocess.run(command, env=environment, check=True, cwd=folder, timeout=120)


def test_a_job_has_its_code_and_its_context_from_s3_and_answers_there(
    requests_sent: list[Mapping[str, Any]], probe: None, bucket: str, tmp_path: Path
) -> None:
    store = ObjectStore(bucket=bucket)
    folder = tmp_path / "driver"
    folder.mkdir()

    def run_job(_: dg.OpExecutionContext) -> None:
        job = await_job()
        try:
            submit(store, job, folder)
        finally:
            job.state = "SUCCESS"

    run = start(store, run_job)
    ((message,), (request,)) = run.messages, requests_sent
    assert message["extras"]["dates"] == ["2026-01-01"]
    scratch = message["extras"]["spark"]["scratch"]
    assert scratch.startswith("airbnb/spark/")
    assert run.metadata["mode"] == "emr-serverless"
    assert not list(store.list()), "the context, the messages and the code are gone"

    # By AWS's own model, patterns included.
    model = ServiceModel(Loader().load_service_model("emr-serverless", "service-2"))
    service_model.check(model.operation_model("StartJobRun").input_shape, dict(request))  # pyright: ignore[reportArgumentType]
    assert str(request["name"]).startswith("probe_driver ")
    assert request["executionRoleArn"] == ROLE
    assert request["executionTimeoutMinutes"] == 60
    driver = request["jobDriver"]["sparkSubmit"]
    assert driver["entryPoint"] == f"s3://{bucket}/{scratch}/driver.py"
    (defaults,) = request["configurationOverrides"]["applicationConfiguration"]
    assert defaults["classification"] == "spark-defaults"
    python = "./environment/bin/python"
    assert defaults["properties"] == {
        **SETTINGS,
        "spark.archives": "s3://bucket/environment.tar.gz#environment",
        "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON": python,
        "spark.emr-serverless.driverEnv.PYSPARK_PYTHON": python,
        "spark.executorEnv.PYSPARK_PYTHON": python,
    }
    given = re.findall(r"--conf (\S+)=", driver["sparkSubmitParameters"])
    assert [name for name in given if "driverEnv.DAGSTER_" not in name] == []
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert secret not in json.dumps([request, message], default=str)


@pytest.mark.parametrize("answers", [True, False])
def test_a_job_that_does_not_end_well_is_cancelled_and_what_it_reported_is_kept(
    emr_serverless: Front,
    probe: None,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    answers: bool,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = ObjectStore(bucket=bucket)
    busy = {"x-amzn-errortype": "InternalServerException"}
    refusals: list[Answer] = [(500, b'{"message": "busy"}', busy)] * 2

    def refuse(request: Incoming) -> Answer | None:
        """Fails to say how the job is, and then to cancel it, once each."""
        return refusals.pop() if "/jobruns/" in request.path and refusals else None

    def run_job(_: dg.OpExecutionContext) -> None:
        job = await_job()
        submit(store, job, tmp_path)
        if answers:
            job.state = "FAILED"
        else:
            emr_serverless.refuse = refuse

    error = start(store, run_job)
    assert isinstance(error, SparkRunError)
    assert error.transient is not answers
    (message,) = error.messages
    assert message["extras"]["dates"] == ["2026-01-01"]
    assert await_job().state == "CANCELLED"
    assert not list(store.list())


def test_a_job_that_is_refused_says_so(emr_serverless: Front, probe: None, bucket: str) -> None:
    denied = (403, b'{"message": "not you"}', {"x-amzn-errortype": "AccessDeniedException"})
    emr_serverless.refuse = lambda request: denied if request.path.endswith("/jobruns") else None
    error = start(ObjectStore(bucket=bucket), lambda _: None)
    assert isinstance(error, SparkRunError)
    assert not error.transient
    assert "AccessDeniedException" in str(error)


def test_a_certificate_that_is_not_trusted_is_named(
    environment: Mapping[str, str],
    probe: None,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with tls_server(tmp_path) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EMR_SERVERLESS", url)
        error = start(ObjectStore(bucket=bucket), lambda _: None, application_id="a")
    assert isinstance(error, SparkRunError)
    assert not error.transient
    assert f"the certificate of {url} is not trusted (" in str(error)
    assert "Set AWS_CA_BUNDLE" in str(error)


def test_a_cancelled_run_cancels_its_job_and_leaves_nothing(
    requests_sent: list[Mapping[str, Any]], probe: None, bucket: str
) -> None:
    store = ObjectStore(bucket=bucket)

    def cancel(context: dg.OpExecutionContext) -> None:
        await_job()
        context.instance.report_run_canceling(context.run)

    outcome = start(store, cancel)
    assert isinstance(outcome, dg.DagsterExecutionInterruptedError)
    assert await_job().state == "CANCELLED"
    assert not list(store.list())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "set PLATFORM_SPARK_MASTER, or PLATFORM_SPARK_APPLICATION_ID"),
        ({"master": "spark://a:1", "application_id": "b"}, "and not both"),
        ({"application_id": "b"}, "needs a role"),
        ({"master": "spark://a:1"}, "pyspark is not installed"),
    ],
)
def test_what_is_not_set_up_says_what_to_set(
    settings: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    run: Any = SparkResource(**settings).run
    with pytest.raises(SparkNotSetUpError, match=sentence):
        run(dg.build_op_context(), "module", packages=[], store=None, scratch="", extras={})


@pytest.mark.parametrize(
    ("resource", "size", "taken"),
    [
        (SparkResource(always=True), 0, True),
        (SparkResource(), 10**12, False),
        (SparkResource(above_bytes=100), 100, False),
        (SparkResource(above_bytes=100), 101, True),
    ],
)
def test_spark_takes_what_is_larger_than_its_threshold(
    resource: SparkResource, size: int, taken: bool
) -> None:
    assert resource.should_run(lambda: size) == taken
