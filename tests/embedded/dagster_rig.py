"""Dagster of a running stack as its tests see it: by GraphQL, as the UI does, and by the UI."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg2
from playwright.sync_api import Page, expect

from embedded.dagster_parts import ui_url
from embedded.graphql import days
from embedded.plan import make_plan
from tests.browser import screenshots_folder
from tests.conftest import clean_environ, free_port_base, temporary_home
from tests.embedded.test_stack import Stack

STATUSES = "... on TimePartitionStatuses { ranges { status startKey endKey } }"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}  # of a run
UNDER_WAY = {"REQUESTED", "FAILING", "CANCELING"}  # of a backfill
CHECK_STATUSES = "... on AssetCheckTimePartitionStatuses { ranges { status startKey endKey } }"

# To make a client takes longer than a query. A connection that is kept may be closed by the server
# in the very moment in which it is used again.
HTTP = httpx.Client(trust_env=False, timeout=120, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class Ui:
    """Dagster's webserver of the stack, and the table behind it."""

    url: str
    dsn: str

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The data that answer a GraphQL query."""
        asked = {"query": text, "variables": variables}
        answer = HTTP.post(f"{self.url}/graphql", json=asked).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    def launch(self, job: str, **params: Any) -> dict[str, Any]:
        """Launch a job and wait for its end; the run with its id, status and materialisations."""
        selector = {
            "repositoryLocationName": "platform_assets.definitions",
            "repositoryName": "__repository__",
            "jobName": job,
            **params.pop("selector", {}),
        }
        answer = self.query(
            """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
                 __typename ... on LaunchRunSuccess { run { runId } }
                 ... on PythonError { message } } }""",
            params={"selector": selector, "mode": "default", **params},
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return self.ended(answer["run"]["runId"])

    def ended(self, run_id: str) -> dict[str, Any]:
        """A run after its end."""
        status = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
        while self.query(status, id=run_id)["runOrError"]["status"] not in ENDED:
            time.sleep(0.5)
        return self.query(
            """query($id: ID!) { runOrError(runId: $id) { ... on Run {
                 id status
                 assetMaterializations { partition assetKey { path } }
                 eventConnection(limit: 10000) { events {
                   ... on AssetCheckEvaluationEvent { evaluation {
                     checkName partition success description assetKey { path } } } } } } } }""",
            id=run_id,
        )["runOrError"]

    def backfill(self, **params: Any) -> list[dict[str, Any]]:
        """Launch a backfill and wait for its end; its runs."""
        return self.backfilled(self.begin_backfill(**params))

    def begin_backfill(self, **params: Any) -> str:
        """Launch a backfill; its id."""
        answer = self.query(
            """mutation($params: LaunchBackfillParams!) {
                 launchPartitionBackfill(backfillParams: $params) {
                   __typename ... on LaunchBackfillSuccess { backfillId }
                   ... on PythonError { message } } }""",
            params=params,
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def backfilled(self, backfill_id: str) -> list[dict[str, Any]]:
        """The runs of a backfill after its end."""
        while (backfill := self.show_backfill(backfill_id))["status"] in UNDER_WAY:
            time.sleep(0.5)
        return [self.ended(run["runId"]) for run in backfill["runs"]]

    def show_backfill(self, backfill_id: str) -> dict[str, Any]:
        """A backfill's status and error, and its runs' ids and statuses."""
        return self.query(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
                 ... on PartitionBackfill {
                   status error { message } runs(limit: 100) { runId status } } } }""",
            id=backfill_id,
        )["partitionBackfillOrError"]

    def statuses(self, asset: str) -> dict[str, str]:
        """Date → status of an asset, as its Partitions tab has them."""
        answer = self.query(
            f"""query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{
                 ... on AssetNode {{ assetPartitionStatuses {{ {STATUSES} }} }} }} }}""",
            key={"path": ["airbnb", asset]},
        )["assetNodeOrError"]
        return _by_date(answer["assetPartitionStatuses"]["ranges"])

    def checks(self, asset: str) -> dict[str, dict[str, str]]:
        """Check → date → status, as the checks' Partitions tabs have them."""
        answer = self.query(
            f"""query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{
                 ... on AssetNode {{ assetChecksOrError {{ ... on AssetChecks {{ checks {{
                   name partitionStatuses {{ {CHECK_STATUSES} }} }} }} }} }} }} }}""",
            key={"path": ["airbnb", asset]},
        )["assetNodeOrError"]["assetChecksOrError"]["checks"]
        return {
            check["name"]: _by_date(check["partitionStatuses"]["ranges"])
            for check in answer
            if check["partitionStatuses"]
        }

    def set_price(self, date: str, price: float) -> None:
        """Change the price of the first listing of a date."""
        with closing(psycopg2.connect(self.dsn)) as opened, opened, opened.cursor() as cursor:
            cursor.execute(
                "UPDATE listings SET price = %s WHERE download_date = %s AND id = "
                "(SELECT min(id) FROM listings WHERE download_date = %s)",
                (price, date, date),
            )

    def set_neighbourhoods(self, date: str, names: Sequence[str]) -> None:
        """Change the neighbourhoods of a date's listings, each to one of these."""
        with closing(psycopg2.connect(self.dsn)) as opened, opened, opened.cursor() as cursor:
            for number, name in enumerate(names):
                cursor.execute(
                    "UPDATE listings SET neighbourhood = %s"
                    " WHERE download_date = %s AND id %% %s = %s",
                    (name, date, len(names), number),
                )


def launch_backfill(page: Page, first: str, last: str) -> str:
    """Launch one from an asset's Partitions tab, by the UI's own dialog; its id."""
    page.get_by_role("button", name="Materialize…").click()
    dialog = page.get_by_role("dialog")
    chosen = dialog.get_by_role("textbox").first
    chosen.fill(f"[{first}...{last}]")
    chosen.press("Enter")
    count = len(days(first, last))
    expect(dialog.get_by_text(f"{count} partitions", exact=True)).to_be_visible()
    page.screenshot(path=screenshots_folder() / "dagster-dialog.png")
    with page.expect_response(
        lambda answer: "launchPartitionBackfill" in (answer.request.post_data or "")
    ) as response:
        dialog.get_by_role("button", name="Launch backfill").click()
    return response.value.json()["data"]["launchPartitionBackfill"]["backfillId"]


@contextmanager
def running_stack(first_partition: str, **variables: str) -> Iterator[tuple[Stack, Ui]]:
    """A stack in a home of its own, without data, whose number cruncher is a process.

    Args:
        first_partition: The day on which its partitions begin.
        **variables: More of its environment.
    """
    with temporary_home() as root:
        environ = clean_environ(
            PLATFORM_HOME=str(root),
            PLATFORM_PORT_BASE=free_port_base(),
            PLATFORM_CRUNCHER="process",
            PLATFORM_FIRST_PARTITION=first_partition,
            **variables,
        )
        plan = make_plan(environ)
        stack = Stack(plan, environ)
        done = stack.run("up")
        assert done.returncode == 0, done.stderr
        yield stack, Ui(ui_url(plan), plan.environment["PLATFORM_POSTGRES_DSN"])


def _by_date(ranges: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {
        day: part["status"] for part in ranges for day in days(part["startKey"], part["endKey"])
    }
