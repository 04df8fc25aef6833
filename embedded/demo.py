"""The demo: starts everything, seeds it, runs both pipelines as a user would, shows what came out.

It launches runs through Dagster's API and reads the results with plain boto3 clients, as any user
could.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from embedded.aws import aws_client
from embedded.errors import StackError
from embedded.graphql import Dagster, Run, days
from embedded.stack import Running
from formats import recordio

DAYS = 14
LEAST_ACCURACY = 0.90
DIGITS_JOB, LISTINGS_JOB, SOURCES_JOB = "digits", "listings", "observe_sources"
RESULTS = (["airbnb", "price_changes"], ["airbnb", "neighbourhood_summary"])
# A chain is done when its last asset is materialised; the endpoint's state is asked of SageMaker.
CLASSIFIER = ["mnist", "classifier"]
SNAPSHOT = ["airbnb", "snapshot"]
# Number of steps for the progress bar. The listings are made by one step of unknown length.
_STEPS = {DIGITS_JOB: 13, LISTINGS_JOB: None, SOURCES_JOB: 2}
# What a request to an endpoint may hold is 6 MiB; a digit as CSV has up to 9 KB.
_DIGITS_AT_ONCE = 500


class DemoError(StackError):
    """The demo ran, but not everything came out as it must."""


@dataclass(frozen=True)
class Outcome:
    """The results, printed as JSON in the last line of standard output."""

    digit_accuracy: float | None
    endpoint: str
    endpoint_status: str
    partitions: int
    seconds: float
    ui: str

    def problems(self) -> list[str]:
        """A sentence for each result that is not as expected."""
        problems: list[str] = []
        if self.endpoint_status != "InService":
            problems.append(f"The endpoint {self.endpoint} is {self.endpoint_status}.")
        if self.digit_accuracy is None or self.digit_accuracy < LEAST_ACCURACY:
            problems.append(f"The digits' accuracy is {self.digit_accuracy}, not {LEAST_ACCURACY}.")
        if self.partitions != DAYS:
            problems.append(f"{self.partitions} of {DAYS} dates are materialised.")
        return problems


def run(start: Callable[[], Running], ui: str, console: Console) -> Outcome:
    """Run the demo from nothing, or from whatever an earlier one left.

    Raises:
        StackError: Something is in the way; the message says what.
        DemoError: A run failed, or not everything came out as it must.
    """
    started = time.monotonic()
    env = start().env
    shown = demo_dates()
    seed(env, shown, console)
    dagster = Dagster(ui)
    launched = {
        job: dagster.launch(job, missing[0], missing[-1])
        for job, missing in missing_dates(dagster, env, shown).items()
        if missing
    }
    # Two runs go on at a time: it begins when one of the chains is done.
    observing = {SOURCES_JOB: dagster.launch(SOURCES_JOB)} if launched else {}
    follow(dagster, launched, console)
    show(dagster, shown, console)
    digit_accuracy = accuracy(env, shown[-1])
    follow(dagster, observing, console)
    outcome = Outcome(
        digit_accuracy=digit_accuracy,
        endpoint=env["PLATFORM_ENDPOINT_NAME"],
        endpoint_status=endpoint_status(env),
        partitions=len(set(shown).intersection(*map(dagster.materialized_dates, RESULTS))),
        seconds=round(time.monotonic() - started, 1),
        ui=ui,
    )
    if problems := outcome.problems():
        raise DemoError(" ".join(problems))
    return outcome


def demo_dates() -> list[str]:
    """The days of the demo: those that have ended last, in UTC."""
    today = datetime.now(UTC).date()
    return days((today - timedelta(DAYS)).isoformat(), (today - timedelta(1)).isoformat())


def seed(env: Mapping[str, str], dates: Sequence[str], console: Console) -> None:
    """Put the public digits and the listings there; what is there already stays as it is."""
    # In a process of its own, which takes the memory that this needs with it when it ends.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        console.print(child.submit(_seed, dict(env), list(dates)).result())


def _seed(env: Mapping[str, str], dates: Sequence[str]) -> str:
    from embedded import seed_digits, seed_listings

    digits = seed_digits.seed(aws_client(env, "s3"))
    rows = seed_listings.seed(env["PLATFORM_POSTGRES_DSN"], dates)
    return f"Seeds: {digits}; {rows} new listings in {len(dates)} days."


def missing_dates(
    dagster: Dagster, env: Mapping[str, str], dates: Sequence[str]
) -> dict[str, list[str]]:
    """For each job the dates, in one piece, over which it has to run."""
    done = set(dates).intersection(*map(dagster.materialized_dates, RESULTS))
    # A day that its schedule came to before it was seeded is there, and empty.
    listings = [date for date in dates if date not in done or not _rows(dagster, date)]
    served = endpoint_status(env) == "InService"
    classified = dates[-1] in dagster.materialized_dates(CLASSIFIER)
    return {
        DIGITS_JOB: [] if served and classified else [dates[-1]],
        LISTINGS_JOB: days(listings[0], listings[-1]) if listings else [],
    }


def _rows(dagster: Dagster, date: str) -> int:
    return dagster.latest_metadata(SNAPSHOT, date).get("dagster/partition_row_count") or 0


def follow(dagster: Dagster, launched: Mapping[str, str], console: Console) -> None:
    """Show the runs' progress until all have ended.

    Raises:
        DemoError: One failed; the message is what its failed steps said.
    """
    bars = Progress(
        TextColumn("{task.fields[job]:>15}"),
        BarColumn(),
        TextColumn("{task.fields[now]}"),
        TimeElapsedColumn(),
        console=console,
    )
    with bars:
        tasks = {job: bars.add_task("", job=job, now="…", total=_STEPS[job]) for job in launched}
        ended: dict[str, Run] = {}
        while len(ended) < len(launched):
            for job in launched.keys() - ended.keys():
                run = dagster.run(launched[job])
                done = [step for step, status in run.steps.items() if status == "SUCCESS"]
                active = [step for step, status in run.steps.items() if status == "IN_PROGRESS"]
                now = ", ".join(active) or run.status.lower()
                bars.update(tasks[job], completed=len(done), now=now)
                if run.ended:
                    ended[job] = run
                    bars.update(tasks[job], total=max(len(done), 1), now=run.status.lower())
            time.sleep(0.3)
    for job, run in ended.items():
        if run.status != "SUCCESS":
            reasons = " ".join(run.failures)
            log = f"Its log is at {dagster.url}/runs/{run.run_id}"
            raise DemoError(f"The run of {job} ended in {run.status}. {reasons} {log}")
        console.print(f"{job}: done, run {run.run_id}")


def show(dagster: Dagster, dates: Sequence[str], console: Console) -> None:
    """A table of what there is for the last date."""
    table = Table(title=f"What came out ({dates[0]} … {dates[-1]}, shown for the last date)")
    table.add_column("asset")
    table.add_column("dates", justify="right")
    table.add_column("what")
    for asset, keys in COLUMNS.items():
        partition = None if asset == "mnist/endpoint" else dates[-1]
        metadata = dagster.latest_metadata(asset.split("/"), partition)
        covered = (
            ""
            if partition is None
            else str(len(set(dates) & dagster.materialized_dates(asset.split("/"))))
        )
        values = [
            f"{title} {_short(metadata[key])}" for key, title in keys.items() if key in metadata
        ]
        table.add_row(asset, covered, ", ".join(values))
    console.print(table)


COLUMNS: Mapping[str, Mapping[str, str]] = {
    "mnist/raw": {"bytes": "bytes", "source_etag": "ETag"},
    "mnist/dataset": {"dagster/partition_row_count": "digits"},
    "mnist/model": {"training_job": "job", "billable_seconds": "billable seconds"},
    "mnist/classifier": {"accuracy": "accuracy", "above_floor": "above the gate's floor"},
    "mnist/endpoint": {"version": "version", "status": "status"},
    "airbnb/snapshot": {"dagster/partition_row_count": "listings", "bytes": "bytes"},
    "airbnb/price_changes": {"dagster/partition_row_count": "listings", "mode": "by"},
    "airbnb/neighbourhood_summary": {"dagster/partition_row_count": "groups", "mode": "by"},
}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if type(value) is int else str(value)


def endpoint_status(env: Mapping[str, str]) -> str:
    """What SageMaker says of the endpoint; `Missing` where there is none."""
    try:
        answer = aws_client(env, "sagemaker").describe_endpoint(
            EndpointName=env["PLATFORM_ENDPOINT_NAME"]
        )
    except ClientError:
        return "Missing"
    return answer["EndpointStatus"]


def accuracy(env: Mapping[str, str], date: str) -> float | None:
    """The share of the test digits, which training never saw, that the live endpoint gets right.

    Asked over the wire with CSV, the way any client would; the digit is the answered cluster
    mod 10.
    """
    key = f"mnist/dataset/date={date}/test/data.rec"
    try:
        stored = aws_client(env, "s3").get_object(Bucket=env["PLATFORM_BUCKET"], Key=key)
        images, labels = recordio.decode(stored["Body"].read())
        runtime = aws_client(env, "sagemaker-runtime")
        answers: list[float] = []
        for start in range(0, len(images), _DIGITS_AT_ONCE):
            answer = runtime.invoke_endpoint(
                EndpointName=env["PLATFORM_ENDPOINT_NAME"],
                ContentType="text/csv",
                Accept="application/json",
                Body="\n".join(
                    ",".join(f"{value:.9g}" for value in image)
                    for image in images[start : start + _DIGITS_AT_ONCE].tolist()
                ),
            )
            predictions = json.loads(answer["Body"].read())["predictions"]
            answers += [prediction["closest_cluster"] for prediction in predictions]
    except (BotoCoreError, ClientError) as error:
        raise DemoError(f"The endpoint could not be asked: {error}") from error
    return round(float(np.mean(np.array(answers).astype(int) % 10 == labels)), 4)
