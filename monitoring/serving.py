"""The endpoint: whether it answers, and whether it serves a version that it was rolled back to."""

import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial

import dagster as dg
import numpy as np

from monitoring.problems import Problem
from monitoring.watch import Watch
from platform_assets.mnist.deployed import Endpoint
from platform_assets.mnist.endpoint import ask, mnist_endpoint
from resources.sagemaker import SageMakerError, SageMakerResource

ANSWER_SECONDS = 5
"""How long SageMaker may take for an answer: a digit takes it milliseconds."""

# Of the versions that are in service, the ones that a look goes back.
_MOST_DEPLOYMENTS = 100


def endpoint_problems(
    instance: dg.DagsterInstance,
    watch: Watch,
    now: datetime,
    *,
    endpoint: Endpoint,
    sagemaker: SageMakerResource,
    teardown_job: str,
    rollback_job: str,
) -> Iterator[Problem]:
    """A problem where the endpoint should answer and does not, and one where it was rolled back.

    Args:
        instance: Dagster's records.
        watch: Settings.
        now: The time.
        endpoint: Which one.
        sagemaker: Is asked; one that is in a hurry.
        teardown_job: The job that deletes the endpoint, after which nothing is expected of it.
        rollback_job: The job that puts an earlier version back.
    """
    if not is_expected(instance, teardown_job):
        return
    link = watch.link("assets/mnist/endpoint")
    why, details = look(sagemaker, endpoint.name)
    if why:
        yield Problem(
            key="endpoint",
            title=f"The endpoint {endpoint.name} does not answer",
            assets=["mnist/endpoint"],
            reason=why,
            figures=details,
            to_do="Look at its logs in SageMaker. Running digits makes a failed endpoint anew.",
            link=link,
        )
    yield from _rolled_back(instance, watch, now, rollback_job, link)


def is_expected(instance: dg.DagsterInstance, teardown_job: str) -> bool:
    """Whether the endpoint was deployed, and since then neither deleted nor about to be."""
    deployed = instance.fetch_materializations(mnist_endpoint.key, limit=1).records
    if not deployed:
        return False
    failed = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    teardowns = instance.get_run_records(dg.RunsFilter(job_name=teardown_job), limit=1)
    return all(
        teardown.dagster_run.status in failed
        or teardown.update_timestamp.timestamp() < deployed[0].timestamp
        for teardown in teardowns
    )


def look(sagemaker: SageMakerResource, name: str) -> tuple[str, str]:
    """Why an endpoint does not answer, and the details; empty where it does, or is being changed.

    Details may differ from look to look.
    """
    try:
        state = sagemaker.describe_endpoint(name)
    except SageMakerError as error:
        return "SageMaker cannot be asked about it.", str(error)
    if state is None:
        return "It does not exist, although it was deployed and not torn down.", ""
    if state.changing:
        return "", ""
    if not state.in_service:
        return f"Its status is {state.status}.", state.failure_reason or ""
    try:
        measure_latency(sagemaker, name)
    except (SageMakerError, ValueError, LookupError) as error:
        return "It is in service, and a request to it fails.", str(error)
    return "", ""


def measure_latency(sagemaker: SageMakerResource, name: str) -> float:
    """Seconds that the endpoint takes to say which digit an empty picture is.

    Raises:
        SageMakerError: It could not be asked, or refuses.
        ValueError: Its answer is no JSON.
        LookupError: Its answer holds no digit.
    """
    picture = np.zeros((1, 784), np.float32)
    began = time.perf_counter()
    ask(partial(sagemaker.invoke, name), picture)
    return time.perf_counter() - began


def _rolled_back(
    instance: dg.DagsterInstance, watch: Watch, now: datetime, job: str, link: str
) -> Iterator[Problem]:
    """Whether what is live was put back by the rollback job, and nothing else has come since."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=mnist_endpoint.key, after_timestamp=watch.since(now).timestamp()
        ),
        limit=_MOST_DEPLOYMENTS,
    ).records
    live: list[dg.EventLogRecord] = []
    for record in records:
        if _version(record) != _version(records[0]):
            break
        live.append(record)
    runs = instance.get_run_records(
        dg.RunsFilter(run_ids=[record.run_id for record in live], job_name=job), limit=1
    )
    if live and runs:
        yield Problem(
            key="rollback",
            title="The endpoint was rolled back",
            assets=["mnist/endpoint"],
            reason=f"Version {_version(live[0])} was put back into service by {job}.",
            to_do="Newer versions are not deployed again by themselves; the next better one is.",
            link=link,
            since=runs[0].update_timestamp.timestamp(),
        )


def _version(record: dg.EventLogRecord) -> object:
    materialization = record.asset_materialization
    value = materialization.metadata.get("version") if materialization else None
    return value.value if value else None
