"""An application of Spark on EMR Serverless, by the Pipes client of dagster-aws."""

import math
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import boto3
import dagster as dg
from botocore.exceptions import BotoCoreError, ClientError
from dagster_aws.pipes import (
    PipesEMRServerlessClient,
    PipesS3ContextInjector,
    PipesS3MessageReader,
)
from dagster_pipes import PipesParams
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from resources.aws_failures import explain_untrusted, is_transient, is_untrusted
from resources.cancellation import Cancellation
from resources.s3 import ObjectStore
from resources.spark.errors import SparkRunError
from resources.spark.scratch import PACKED_PYTHON

if TYPE_CHECKING:
    from mypy_boto3_emr_serverless import EMRServerlessClient
    from mypy_boto3_emr_serverless.type_defs import StartJobRunRequestTypeDef

    from resources.spark.resource import SparkResource

DRIVER = 'import runpy\n\nrunpy.run_module({module!r}, run_name="__main__", alter_sys=True)\n'
STOP_SECONDS = 120
LEAST_MINUTES = 5
"""Shortest time limit that EMR Serverless takes."""
_AWS_ERRORS = (ClientError, BotoCoreError)


class _MessagesInFolder(PipesS3MessageReader):
    """Dagster's reader, which would keep its objects for ever in the bucket's root."""

    def __init__(self, store: ObjectStore, folder: str, interval: float) -> None:
        # The client's type is a function's name there.
        super().__init__(interval=interval, bucket=store.bucket, client=store.client)  # pyright: ignore[reportUnknownMemberType]
        self._folder = folder
        self._handler: dg.PipesMessageHandler | None = None

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """The custom messages that have arrived."""
        return list(self._handler.get_custom_messages()) if self._handler else []

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Generator[PipesParams]:
        """Dagster's hook: who gets the messages; of a job that failed it would not say."""
        self._handler = handler
        with super().read_messages(handler) as params:
            yield params

    @contextmanager
    def get_params(self) -> Generator[PipesParams]:
        """Dagster's hook: where the messages are written."""
        with super().get_params() as params:
            yield {**params, "key_prefix": f"{self._folder}/messages"}


def _job_request(spark: "SparkResource", name: str, uri: str) -> "StartJobRunRequestTypeDef":
    """The request that starts a job, without what Pipes adds to it.

    Args:
        uri: S3 address of the folder that has `driver.py` and `code.zip`.
    """
    settings = dict(spark.settings)
    if spark.environment:
        settings["spark.archives"] = f"{spark.environment}#environment"
        for variable in (
            "spark.emr-serverless.driverEnv.PYSPARK_DRIVER_PYTHON",
            "spark.emr-serverless.driverEnv.PYSPARK_PYTHON",
            "spark.executorEnv.PYSPARK_PYTHON",
        ):
            settings[variable] = PACKED_PYTHON
    return {
        "applicationId": spark.application_id,
        "clientToken": str(uuid.uuid4()),
        "executionRoleArn": spark.role_arn,
        "name": name,
        "executionTimeoutMinutes": max(LEAST_MINUTES, math.ceil(spark.deadline_seconds / 60)),
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": f"{uri}/driver.py",
                "entryPointArguments": ["--pipes-in-s3"],
                "sparkSubmitParameters": f"--py-files {uri}/code.zip",
            }
        },
        # Not as parameters, where a space would end a value and what follows be an option.
        "configurationOverrides": {
            "applicationConfiguration": [
                {"classification": "spark-defaults", "properties": settings}
            ]
        },
    }


def run_on_emr(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    spark: "SparkResource",
    name: str,
    store: ObjectStore,
    folder: str,
    extras: Mapping[str, Any],
) -> list[Mapping[str, Any]]:
    """Runs a job to its end; one that is not followed to its end is cancelled.

    Returns:
        Its custom messages.

    Raises:
        SparkRunError: the job failed, or AWS refused a request or did not answer.
        DagsterExecutionInterruptedError: the run of Dagster was cancelled.
    """
    client: EMRServerlessClient = boto3.client("emr-serverless")  # pyright: ignore[reportUnknownMemberType]
    cancellation = Cancellation(context.instance, context.run)
    job_runs: list[str] = []

    def check(**_: object) -> None:
        cancellation.check()

    def keep_id(parsed: Mapping[str, Any], **_: object) -> None:
        if "jobRunId" in parsed:  # else it was refused
            job_runs.append(parsed["jobRunId"])

    # Dagster's client waits by asking, and cancels where it is interrupted.
    client.meta.events.register("before-call.emr-serverless.GetJobRun", check)
    client.meta.events.register("after-call.emr-serverless.StartJobRun", keep_id)
    reader = _MessagesInFolder(store, folder, spark.poll_seconds)
    pipes = PipesEMRServerlessClient(
        client=client,
        context_injector=PipesS3ContextInjector(
            bucket=store.bucket, client=store.client, key_prefix=f"{folder}/"
        ),
        message_reader=reader,
        poll_interval=spark.poll_seconds,
    )
    try:
        request = _job_request(spark, name, store.uri(folder))
        pipes.run(context=context, start_job_run_params=request, extras=dict(extras))
    except BaseException as error:
        # Dagster's client cancels where it is interrupted only, and the job's folder goes next.
        client.meta.events.unregister("before-call.emr-serverless.GetJobRun", check)
        for job_run in job_runs:
            if not _cancel(client, spark, job_run):
                context.log.warning(
                    f"Whether the job run {job_run} of the application {spark.application_id} was"
                    " cancelled is not known: look at it, and cancel it where it still runs."
                )
        if isinstance(error, (RuntimeError, *_AWS_ERRORS)):
            raise _failure(spark, name, error, reader.messages) from error
        raise
    return reader.messages


def _cancel(client: "EMRServerlessClient", spark: "SparkResource", job_run: str) -> bool:
    """Cancels a job and waits, for a while, until it writes no more; whether it has ended."""

    def has_ended() -> bool:
        with suppress(*_AWS_ERRORS):  # it may have ended, or AWS not answer yet
            client.cancel_job_run(applicationId=spark.application_id, jobRunId=job_run)
        with suppress(*_AWS_ERRORS):
            answer = client.get_job_run(applicationId=spark.application_id, jobRunId=job_run)
            return answer["jobRun"]["state"] in ("SUCCESS", "FAILED", "CANCELLED")
        return False

    retrying = Retrying(
        retry=retry_if_result(lambda ended: not ended),
        stop=stop_after_delay(STOP_SECONDS),
        wait=wait_fixed(spark.poll_seconds),
        retry_error_callback=lambda _: False,
    )
    return retrying(has_ended)


def _failure(
    spark: "SparkResource", name: str, error: Exception, messages: list[Mapping[str, Any]]
) -> SparkRunError:
    if isinstance(error, RuntimeError):
        sentence = (
            f"The job {name} on EMR Serverless failed ({error}). Its log, in the application"
            f" {spark.application_id}, says why; dates that it has published stay."
        )
    else:
        reason = explain_untrusted(error) if is_untrusted(error) else error
        sentence = (
            f"The job {name} on EMR Serverless could not be started, or not be followed, and"
            f" was given up: {reason}. Dates that it has published stay."
        )
    return SparkRunError(sentence, messages=messages, transient=is_transient(error))
