"""Alerts of the endpoint: it does not answer, or serves a version that it was rolled back to."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal

import dagster as dg
import numpy as np

from monitoring.findings import Finding, Problem, Resolved, Unknown
from platform_assets.alert_settings import AlertSettings
from platform_assets.mnist.deployed import JOBS
from platform_assets.mnist.endpoint import WrongAnswersError, ask, mnist_endpoint
from resources.sagemaker import SageMakerError, SageMakerResource

ANSWER_SECONDS = 5
"""How long SageMaker may take for an answer: a digit takes it milliseconds."""

MOST_SILENT_PROBES = 2
"""An endpoint is down after so many silent probes in a row: a single one may be a busy moment.

Probes are 30 seconds apart and wait for two answers at most, so that an outage is told within two
minutes.
"""

_ENDPOINT = "endpoint"
_ROLLBACK = "rollback "
# How many materialisations of the endpoint are read, newest first.
_MOST_DEPLOYMENTS = 100


@dataclass(frozen=True)
class EndpointProbe:
    """What came of asking the endpoint.

    Attributes:
        state: `well`: it answered. `changing`: it is being made or changed. `down`: SageMaker says
            that it does not serve. `silent`: it, or SageMaker, gave no answer. `unwanted`: it was
            never deployed, or torn down.
        reason: Why it is down or silent.
        details: More of it, which may differ from probe to probe.
    """

    state: Literal["well", "changing", "down", "silent", "unwanted"]
    reason: str = ""
    details: str = ""


def probe_endpoint(
    instance: dg.DagsterInstance, sagemaker: SageMakerResource, name: str
) -> EndpointProbe:
    """Ask SageMaker for the endpoint's state, and the endpoint for a digit.

    Args:
        sagemaker: Is asked; one that is in a hurry.
    """
    if not is_expected(instance):
        return EndpointProbe("unwanted")
    try:
        state = sagemaker.describe_endpoint(name)
    except SageMakerError as error:
        return EndpointProbe("silent", "SageMaker cannot be asked about it.", str(error))
    if state is None:
        return EndpointProbe(
            "down", "It does not exist, although it was deployed and not torn down."
        )
    if state.changing:
        return EndpointProbe("changing")
    if not state.in_service:
        return EndpointProbe("down", f"Its status is {state.status}.", state.failure_reason or "")
    try:
        measure_latency(sagemaker, name)
    except (SageMakerError, WrongAnswersError) as error:
        return EndpointProbe("silent", "It is in service, and a request to it fails.", str(error))
    return EndpointProbe("well")


def count_silent_probes(probe: EndpointProbe, before: int) -> int:
    """How many probes in a row, this one included, had no answer; no more than those that count."""
    return min(before + 1, MOST_SILENT_PROBES) if probe.state == "silent" else 0


def endpoint_findings(
    probe: EndpointProbe, silent_probes: int, settings: AlertSettings, name: str
) -> Iterator[Finding]:
    """A problem where the endpoint should answer and does not."""
    if probe.state == "well":
        yield Resolved(_ENDPOINT)
    elif probe.state == "down" or silent_probes >= MOST_SILENT_PROBES:
        yield Problem(
            key=_ENDPOINT,
            title=f"The endpoint {name} does not answer",
            assets=["mnist/endpoint"],
            reason=probe.reason,
            figures=probe.details,
            to_do="Look at its logs in SageMaker. Running digits makes a failed endpoint anew.",
            link=settings.link("assets/mnist/endpoint"),
        )
    elif probe.state != "unwanted":
        yield Unknown(_ENDPOINT)


def is_expected(instance: dg.DagsterInstance) -> bool:
    """Whether the endpoint was deployed, and since then neither deleted nor about to be."""
    deployed = instance.fetch_materializations(mnist_endpoint.key, limit=1).records
    if not deployed:
        return False
    failed = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    teardowns = instance.get_run_records(dg.RunsFilter(job_name=JOBS.tear_down), limit=1)
    return all(
        teardown.dagster_run.status in failed
        or teardown.update_timestamp.timestamp() < deployed[0].timestamp
        for teardown in teardowns
    )


def measure_latency(sagemaker: SageMakerResource, name: str) -> float:
    """Seconds that the endpoint takes to say which digit an empty picture is.

    Raises:
        SageMakerError: It could not be asked, or refuses.
        WrongAnswersError: Its answer holds no digit.
    """
    picture = np.zeros((1, 784), np.float32)
    began = time.perf_counter()
    ask(partial(sagemaker.invoke, name), picture)
    return time.perf_counter() - began


def rollback_findings(
    instance: dg.DagsterInstance,
    settings: AlertSettings,
    now: datetime,
    *,
    reported: Iterable[str],
) -> Iterator[Finding]:
    """A problem where what is live was put back, and nothing else has come since."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=mnist_endpoint.key, after_timestamp=settings.since(now).timestamp()
        ),
        limit=_MOST_DEPLOYMENTS,
    ).records
    live: list[dg.EventLogRecord] = []
    for record in records:
        if _version(record) != _version(records[0]):
            break
        live.append(record)
    if not live:
        return
    key = f"{_ROLLBACK}{_version(live[0])}"
    runs = dg.RunsFilter(run_ids=[record.run_id for record in live], job_name=JOBS.roll_back)
    if instance.get_run_records(runs, limit=1):
        yield Problem(
            key=key,
            title="The endpoint was rolled back",
            assets=["mnist/endpoint"],
            reason=f"Version {_version(live[0])} was put back into service by {JOBS.roll_back}.",
            to_do="Newer versions are not deployed again by themselves; the next better one is.",
            link=settings.link("assets/mnist/endpoint"),
        )
    else:
        # Another version serves, and nobody put that one back.
        yield from (
            Resolved(before)
            for before in reported
            if before.startswith(_ROLLBACK) and before != key
        )


def _version(record: dg.EventLogRecord) -> object:
    materialization = record.asset_materialization
    value = materialization.metadata.get("version") if materialization else None
    return value.value if value else None
