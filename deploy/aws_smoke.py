"""`make aws-smoke`: both chains once, from nothing to an answer, and all of it removed again.

    python -m deploy.aws_smoke [--clean] [FOLDER]

For an account that the platform is to be used in. It costs what one training job and some minutes
of an endpoint cost, and says how much. It works in the configured buckets and with the configured
endpoint: nothing may be there under `mnist/`, `airbnb/` and the endpoint's name. `--clean` removes
what one that was cut off has left. The settings are read as `deploy.preflight` reads them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy import preflight
from platform_assets.definitions import build_defs
from platform_assets.errors import EXPECTED
from platform_assets.mnist import deployed
from platform_assets.mnist.endpoint import Proof
from platform_assets.models.endpoint import Endpoint
from platform_assets.partitions import DAILY
from platform_assets.settings import Settings, resources
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource

# What is there while a smoke test is under way, and says what is its own.
MARKER = "mnist/smoke-test"
MODEL = dg.AssetKey(["mnist", "model"])


class SmokeError(Exception):
    """The smoke test could not begin, or a stage of it failed; the message says what to do."""


@dataclass(frozen=True)
class Account:
    """What of an account the platform works with.

    Attributes:
        prices: Of an instance's hour, by instance type.
    """

    digits: ObjectStore
    listings: ObjectStore
    sagemaker: SageMakerResource
    endpoint: Endpoint
    prices: dict[str, float]

    @property
    def folders(self) -> list[tuple[ObjectStore, str]]:
        """What the platform writes to."""
        return [(self.digits, "mnist/"), (self.listings, "airbnb/")]

    @property
    def place(self) -> dict[str, str]:
        """What a smoke test makes and removes."""
        return {
            "endpoint": self.endpoint.name,
            "digits": self.digits.bucket,
            "listings": self.listings.bucket,
        }

    def require_nothing(self) -> None:
        """Look whether the places are free.

        Raises:
            SmokeError: Something is there.
        """
        if self.digits.exists(MARKER):
            raise SmokeError(
                f"A smoke test is under way, or was cut off: {self.digits.uri(MARKER)}. What is "
                "under mnist/ and airbnb/, and the endpoint, are its own then, if nobody has used "
                "them since: `make aws-smoke CLEAN=1` removes them."
            )
        taken = [
            store.uri(item.key)
            for store, folder in self.folders
            for item in islice(store.list(folder), 1)
        ]
        if self.sagemaker.describe_endpoint(self.endpoint.name):
            taken.append(f"the endpoint {self.endpoint.name}")
        if taken:
            raise SmokeError(
                f"There is {' and '.join(taken)} already, and the smoke test removes all that is "
                "under mnist/ and airbnb/, and the endpoint. Use other buckets (PLATFORM_BUCKET, "
                "PLATFORM_AIRBNB_BUCKET) and another PLATFORM_ENDPOINT_NAME."
            )

    def clean_up_after(self) -> None:
        """Remove what a smoke test that was cut off has left.

        Raises:
            SmokeError: There was none in these buckets and with this endpoint.
        """
        if not self.digits.exists(MARKER):
            raise SmokeError(f"No smoke test was cut off: there is no {self.digits.uri(MARKER)}.")
        place = json.loads(self.digits.get_bytes(MARKER, max_bytes=10_000))
        if place != self.place:
            raise SmokeError(
                f"The smoke test that was cut off worked in other places: {place}. Use these."
            )
        self.clean()

    def clean(self) -> None:
        """Remove the endpoint with its versions, and all objects; the marker last."""
        self.sagemaker.teardown(self.endpoint.name, versions_too=True)
        for store, folder in self.folders:
            store.delete_prefix(folder, ours=lambda key: key != MARKER)
        self.digits.delete(MARKER)

    def cost(self, instance_type: str, seconds: float, instances: int = 1) -> str:
        """What instances cost for this long."""
        used = f"{seconds:.0f} s of {instances} {instance_type}"
        price = self.prices.get(instance_type)
        return used if price is None else f"{used}: {seconds * instances * price / 3600:.4f}"


@contextmanager
def open_account(settings: Settings) -> Iterator[Account]:
    """The account that the settings name."""
    keys = ("digits_store", "listings_store", "sagemaker", "endpoint")
    configured = resources(settings)
    with dg.build_resources({key: configured[key] for key in keys}) as opened:
        yield Account(
            opened.digits_store,
            opened.listings_store,
            opened.sagemaker,
            opened.endpoint,
            settings.price_per_hour,
        )


@dataclass
class Smoke:
    """The stages, one after the other.

    Attributes:
        rows: What came of each stage: its name, seconds, result, cost.
    """

    account: Account
    date: str
    console: Console
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def run(self, *, with_listings: bool) -> None:
        """All stages.

        Raises:
            SmokeError: One failed. What it has made is removed all the same.
        """
        self.account.require_nothing()
        self.account.digits.put_bytes(MARKER, json.dumps(self.account.place).encode())
        served_since = time.monotonic()
        try:
            with (
                tempfile.TemporaryDirectory() as home,
                dg.DagsterInstance.local_temp(home) as instance,
            ):
                self.stage("digits", partial(self.make_digits, instance))
                served_since = time.monotonic()
                self.stage("answers", self.ask)
                if with_listings:
                    self.stage("listings", partial(self.make_listings, instance))
        finally:
            self.stage("clean-up", self.remove)
        self.rows.append(self.serving(time.monotonic() - served_since))

    def stage(self, name: str, do: Callable[[], tuple[str, str]]) -> None:
        """One stage, timed."""
        self.console.print(f"[bold]{name}[/bold] …")
        begun = time.monotonic()
        try:
            result, cost = do()
        except EXPECTED as error:
            raise SmokeError(f"{name}: {error}") from error
        self.rows.append((name, f"{time.monotonic() - begun:.0f}", result, cost))

    def make_digits(self, instance: dg.DagsterInstance) -> tuple[str, str]:
        """The public file → an endpoint in service."""
        self.make("digits", instance)
        trained = instance.get_latest_materialization_event(MODEL)
        metadata = trained.asset_materialization.metadata if trained else {}
        seconds, instance_type, instances = (
            metadata[name].value if name in metadata else None
            for name in ("billable_seconds", "instance_type", "instance_count")
        )
        cost = "unknown"
        if isinstance(seconds, int) and isinstance(instances, int):
            cost = self.account.cost(str(instance_type), seconds, instances)
        return f"{self.account.endpoint.name} is in service", f"training: {cost}"

    def ask(self) -> tuple[str, str]:
        """Test digits, as the API sends them."""
        account = self.account
        live = deployed.find_live(account.digits, account.sagemaker, account.endpoint.name)
        if live is None:
            raise SmokeError(f"The endpoint {account.endpoint.name} serves nothing.")
        proof = Proof.read(live)
        proof.require(partial(account.sagemaker.invoke, account.endpoint.name))
        return f"{len(proof.digits)} test digits are read as the classifier reads them", ""

    def make_listings(self, instance: dg.DagsterInstance) -> tuple[str, str]:
        """The table → the results of a day."""
        self.make("listings", instance)
        objects = sum(1 for _ in self.account.listings.list("airbnb/"))
        return f"{objects} objects of {self.date}", ""

    def make(self, job: str, instance: dg.DagsterInstance) -> None:
        """Run a job of the platform in this process; Dagster's log goes to the terminal."""
        result = (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(instance=instance, partition_key=self.date, raise_on_error=False)
        )
        if not result.success:
            raise SmokeError(f"The job {job} failed: its log above says why.")

    def remove(self) -> tuple[str, str]:
        """All that was made, but the records of training jobs: SageMaker keeps them."""
        self.account.clean()
        return "nothing is left but the training job's record and logs", ""

    def serving(self, seconds: float) -> tuple[str, str, str, str]:
        """What the endpoint has cost."""
        cost = self.account.cost(self.account.endpoint.instance_type, seconds)
        return "endpoint", f"{seconds:.0f}", "in service", f"serving: {cost}"


def show(smoke: Smoke) -> None:
    """The stages as a table."""
    table = Table("stage", "seconds", "result", "cost, in the currency of PLATFORM_PRICE_PER_HOUR")
    for row in smoke.rows:
        table.add_row(*map(escape, row))
    smoke.console.print(table)


def main(arguments: list[str]) -> int:
    """Preflight, then the stages; or, with `--clean`, what one that was cut off has left."""
    folders = [argument for argument in arguments if argument != "--clean"]
    if preflight.main(folders):
        return 1
    settings = Settings()
    console = Console()
    date = DAILY.get_last_partition_key()
    if date is None:
        console.print("No day has ended since PLATFORM_FIRST_PARTITION: set an earlier one.")
        return 1
    with open_account(settings) as account:
        smoke = Smoke(account, date, console)
        try:
            if "--clean" in arguments:
                account.clean_up_after()
            else:
                smoke.run(with_listings=bool(os.environ.get("PLATFORM_POSTGRES_DSN")))
        except (SmokeError, *EXPECTED) as error:
            console.print(f"[red]{escape(str(error))}")
            return 1
        finally:
            if smoke.rows:
                show(smoke)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
