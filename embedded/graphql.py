"""A small client of Dagster's GraphQL API, for the demo and for `up`.

It launches runs of jobs over a date or a range of dates, follows them, and reads which dates are
materialised. It knows nothing of what the platform's assets are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx

from embedded.errors import StackError

# The module, and the code location's name: so names it `dagster … -m`, too.
LOCATION = "platform_assets.definitions"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


class DagsterError(StackError):
    """Dagster refused what was asked, or cannot be reached."""


@dataclass(frozen=True)
class Run:
    """A run, as Dagster reports it.

    Attributes:
        status: Such as QUEUED, STARTED, SUCCESS, FAILURE.
        steps: The status of each step that has begun, by step key.
    """

    run_id: str
    status: str
    steps: Mapping[str, str]
    failures: Sequence[str]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen in it."""
        return self.status in ENDED


class Dagster:
    """Dagster as its webserver shows it at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def launch(self, job: str, first: str = "", last: str = "") -> str:
        """Launch one run of `job` over the dates from `first` to `last`; returns its id.

        Without dates, the run is of none.
        """
        tags: dict[str, str] = {}
        if first and first == last:
            tags = {"dagster/partition": first}
        elif first:
            tags = {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            }
        answer = self.query(
            """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
                 __typename
                 ... on LaunchRunSuccess { run { runId } }
                 ... on PythonError { message }
                 ... on RunConfigValidationInvalid { errors { message } }
                 ... on PipelineNotFoundError { message }
                 ... on InvalidSubsetError { message } } }""",
            params={
                "selector": {
                    "repositoryLocationName": LOCATION,
                    "repositoryName": "__repository__",
                    "jobName": job,
                },
                "mode": "default",
                "executionMetadata": {
                    "tags": [{"key": key, "value": value} for key, value in tags.items()]
                },
            },
        )["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise DagsterError(f"Dagster did not launch the job {job}: {answer}")
        return answer["run"]["runId"]

    def run(self, run_id: str) -> Run:
        """The state of a run."""
        answer = self.query(
            """query($id: ID!) { runOrError(runId: $id) {
                 ... on Run { status stepStats { stepKey status } }
                 ... on RunNotFoundError { message }
                 ... on PythonError { message } }
               logsForRun(runId: $id) { ... on EventConnection { events {
                 __typename
                 ... on ExecutionStepFailureEvent {
                   stepKey error { message } failureMetadata { description } }
                 ... on AssetCheckEvaluationEvent { evaluation {
                   success checkName description assetKey { path } } }
                 ... on RunFailureEvent { message error { message } } } } } }""",
            id=run_id,
        )
        run = answer["runOrError"]
        if "status" not in run:
            raise DagsterError(run.get("message", f"Dagster does not know the run {run_id}."))
        return Run(
            run_id=run_id,
            status=run["status"],
            steps={step["stepKey"]: step["status"] for step in run["stepStats"]},
            failures=_failures(answer["logsForRun"].get("events", [])),
        )

    def materialized_dates(self, asset: Sequence[str]) -> set[str]:
        """The dates of a daily-partitioned asset that are materialised, as `YYYY-MM-DD`."""
        answer = self.query(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
                 ... on AssetNode { assetPartitionStatuses {
                   ... on TimePartitionStatuses { ranges { status startKey endKey } } } }
                 ... on AssetNotFoundError { message } } }""",
            key={"path": list(asset)},
        )["assetNodeOrError"]
        if "assetPartitionStatuses" not in answer:
            raise DagsterError(answer["message"])
        return {
            day
            for covered in answer["assetPartitionStatuses"].get("ranges", [])
            if covered["status"] == "MATERIALIZED"
            for day in days(covered["startKey"], covered["endKey"])
        }

    def latest_metadata(self, asset: Sequence[str], partition: str | None = None) -> dict[str, Any]:
        """The metadata of the newest materialisation; empty where there is none."""
        answer = self.query(
            """query($key: AssetKeyInput!, $partitions: [String!]) {
                 assetOrError(assetKey: $key) { ... on Asset {
                   assetMaterializations(limit: 1, partitions: $partitions) { metadataEntries {
                     label
                     ... on TextMetadataEntry { text }
                     ... on IntMetadataEntry { intValue }
                     ... on FloatMetadataEntry { floatValue }
                     ... on UrlMetadataEntry { url }
                     ... on PathMetadataEntry { path }
                     ... on BoolMetadataEntry { boolValue } } } } } }""",
            key={"path": list(asset)},
            partitions=[partition] if partition else None,
        )["assetOrError"]
        newest = answer.get("assetMaterializations") or [{"metadataEntries": []}]
        return {
            entry["label"]: next((v for k, v in entry.items() if k != "label"), None)
            for entry in newest[0]["metadataEntries"]
        }

    def query(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data that answer a query or a mutation.

        Raises:
            DagsterError: Dagster does not answer or refuses.
        """
        try:
            response = self._http.post("/graphql", json={"query": query, "variables": variables})
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DagsterError(f"Dagster does not answer at {self.url}: {error}") from error
        if answer.get("errors"):
            raise DagsterError(f"Dagster refused the query: {answer['errors'][0]['message']}")
        return answer["data"]


def days(first: str, last: str) -> list[str]:
    """Every date from `first` to `last`, both among them."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(n)).isoformat() for n in range((end - start).days + 1)]


def _failures(events: Sequence[Mapping[str, Any]]) -> list[str]:
    failures: list[str] = []
    for event in events:
        checked: Mapping[str, Any] = event.get("evaluation") or {"success": True}
        if not checked["success"]:
            asset = "/".join(checked["assetKey"]["path"])
            failures.append(f"{asset} {checked['checkName']}: {checked['description']}")
        if event["__typename"] == "ExecutionStepFailureEvent":
            description = (event.get("failureMetadata") or {}).get("description")
            message = description or (event.get("error") or {}).get("message") or "no reason given"
            failures.append(f"{event['stepKey']}: {message.strip()}")
        elif event["__typename"] == "RunFailureEvent" and not failures:
            error = event.get("error") or {}
            failures.append(error.get("message") or event["message"])
    return failures
