"""The number cruncher on a real cluster of Spark: a master and two workers."""

import importlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil
import pytest
import requests

from resources.docker import ModuleRun
from resources.s3 import ObjectStore
from resources.spark import SparkResource
from resources.spark.scratch import scratch_folder
from tests.local_servers import free_port
from tests.numbercruncher.conftest import Crunch
from tests.numbercruncher.listings import Objects, days, market, outputs, put_snapshot, remove
from tests.spark_cluster import SPARK, Cluster, spark_cluster

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCRATCH = "airbnb/spark"
DATES = days("2026-01-01", 60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster, two applications of which are the most that this file can afford."""
    with spark_cluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture
def spark(
    cluster: Cluster, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> SparkResource:
    """The resource for that cluster."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(SPARK)
    settings = {
        "spark.ui.enabled": "true",
        "spark.ui.port": str(free_port()),
        "spark.executor.memory": "512m",
        "spark.driver.memory": "512m",
    }
    return SparkResource(master=cluster.master, settings=settings, deadline_seconds=600)


class Application:
    """A run of Dagster, in a thread, that crunches on Spark."""

    def __init__(self, spark: SparkResource, bucket: str, dates: list[str]) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.context: dg.OpExecutionContext | None = None
        self.outcome: ModuleRun | BaseException | None = None

        @dg.op(name="crunch")
        def crunch(context: dg.OpExecutionContext) -> None:
            self.context = context
            try:
                self.outcome = spark.run(
                    context,
                    "numbercruncher.spark",
                    packages=("numbercruncher", "formats"),
                    store=ObjectStore(bucket=bucket),
                    scratch=SCRATCH,
                    extras={"bucket": bucket, "dates": dates, "code_version": "1"},
                )
            except BaseException as error:
                self.outcome = error
                raise

        @dg.job(name="crunch_on_spark")
        def job() -> None:
            crunch()

        def execute() -> None:
            with suppress(BaseException):
                job.execute_in_process(instance=self.instance)

        self._thread = threading.Thread(target=execute, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        assert self.context is not None
        self.instance.report_run_canceling(self.context.run)

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits for something that happens while it runs."""
        deadline = time.monotonic() + 300
        while not holds():
            assert self.outcome is None, f"it ended before {what}: {self.outcome!r}"
            assert time.monotonic() < deadline, what
            time.sleep(0.1)

    def end(self) -> ModuleRun | BaseException | None:
        self._thread.join(300)
        return self.outcome


def test_the_bytes_are_those_of_a_process_although_a_worker_is_killed(
    spark: SparkResource,
    cluster: Cluster,
    run: Crunch,
    client: "S3Client",
    bucket: str,
    objects: Objects,
    services: Any,
) -> None:
    market_ = market(DATES, 300)
    for number, (day, rows) in enumerate(market_.items()):
        format_ = ("csv", "csv.gz", "parquet")[number % 3]
        put_snapshot(client, bucket, day, rows, format_=format_)
    put_snapshot(client, bucket, DATES[20], [], manifest={"rows": 1})  # and one that fails
    expected_messages = run(*DATES)
    expected = outputs(objects)
    remove(client, bucket, expected)

    application = Application(spark, bucket, DATES)
    application.wait_until(lambda: has_written(client, bucket), "a task had written anything")
    shown = what_shows(cluster, spark)
    cluster.workers[0].kill()
    assert application.outcome is None
    result = application.end()
    assert isinstance(result, ModuleRun), result

    created = outputs(objects)
    assert created.keys() == expected.keys()
    assert [key for key in created if created[key] != expected[key]] == []
    assert [m for m in result.messages if "date" in m] == list(expected_messages.values())
    assert not objects(f"{SCRATCH}/")
    shown |= {str(path): path.read_bytes() for path in cluster.folder.rglob("*") if path.is_file()}
    assert any("events" in name for name in shown)
    secret = services.env["AWS_SECRET_ACCESS_KEY"].encode()
    assert [name for name, text in shown.items() if secret in text] == []


def has_written(client: "S3Client", bucket: str) -> bool:
    """Whether a task has put something into its scratch folder."""
    answer = client.list_objects_v2(Bucket=bucket, Prefix=f"{SCRATCH}/", MaxKeys=1)
    return bool(answer.get("Contents"))


def what_shows(cluster: Cluster, spark: SparkResource) -> dict[str, bytes]:
    """Pages of the running application and of its master, and all command lines."""
    ui = f"http://127.0.0.1:{spark.settings['spark.ui.port']}"
    (application,) = requests.get(f"{ui}/api/v1/applications", timeout=60).json()
    api = f"{ui}/api/v1/applications/{application['id']}"
    pages = [f"{ui}/environment/", f"{ui}/stages/", f"{api}/environment", f"{api}/stages"]
    pages += [cluster.web, f"{cluster.web}/json/"]
    shown = {page: requests.get(page, timeout=60) for page in pages}
    assert {page for page, answer in shown.items() if not answer.ok} == set()
    assert "spark.authenticate" in shown[pages[0]].text
    lines = {}
    for process in [*cluster.processes(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            lines[f"process {process.pid}"] = " ".join(process.cmdline()).encode()
    return {page: answer.content for page, answer in shown.items()} | lines


@pytest.mark.parametrize(
    ("master", "missing", "refused"),
    [
        ("spark://10.0.0.1:7077", "", False),
        ("spark://10.0.0.1:7077", "spark.authenticate", True),
        ("spark://10.0.0.1:7077", "spark.network.crypto.enabled", True),
        ("spark://10.0.0.1:7077", "spark.io.encryption.enabled", True),
        ("spark://127.0.0.1:7077", "spark.io.encryption.enabled", False),
    ],
)
def test_other_machines_get_credentials_only_where_all_is_encrypted(
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    master: str,
    missing: str,
    refused: bool,
) -> None:
    monkeypatch.syspath_prepend(SPARK)
    pyspark: Any = pytest.importorskip("pyspark")
    cluster: Any = importlib.import_module("numbercruncher.spark.cluster")
    settings = pyspark.SparkConf(loadDefaults=False)
    for name in (
        "spark.authenticate",
        "spark.network.crypto.enabled",
        "spark.io.encryption.enabled",
    ):
        settings.set(name, "false" if name == missing else "true")
    context = SimpleNamespace(master=master, getConf=lambda: settings)
    session = SimpleNamespace(sparkContext=context)
    with ExitStack() as stack:
        if refused:
            stack.enter_context(pytest.raises(cluster.ClusterRefusedError, match=missing))
        variables = cluster.find_variables(session, forward_credentials=True)
        assert variables["AWS_ACCESS_KEY_ID"] == environment["AWS_ACCESS_KEY_ID"]


def test_a_cancelled_run_takes_its_application_with_it_and_leaves_nothing(
    spark: SparkResource, cluster: Cluster, client: "S3Client", bucket: str, objects: Objects
) -> None:
    for day, rows in market(DATES, 300).items():
        put_snapshot(client, bucket, day, rows)
    application = Application(spark, bucket, DATES)
    application.wait_until(lambda: has_written(client, bucket), "a task had written anything")
    assert cluster.executors()
    application.cancel()
    assert isinstance(application.end(), dg.DagsterExecutionInterruptedError)

    deadline = time.monotonic() + 60
    while left := [*cluster.active(), *cluster.executors()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    # What a task has written while it was ended, the next run removes.
    assert application.context is not None
    with scratch_folder(application.context, ObjectStore(bucket=bucket), SCRATCH):
        assert not list(objects(f"{SCRATCH}/"))
    assert not [key for key in outputs(objects) if key.endswith("manifest.json")]
