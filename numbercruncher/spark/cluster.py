"""Spark itself: the session, and the two shuffles between what tasks do.

What tasks do is in `tasks.py`, which snapshots are used in `engine.py`.
"""

import json
import math
import os
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import boto3

# pyspark has to be of the cluster's version, so it is not among the platform's packages.
from pyspark import StorageLevel  # pyright: ignore[reportMissingImports]
from pyspark.sql import DataFrame, SparkSession  # pyright: ignore[reportMissingImports]
from pyspark.sql.functions import col  # pyright: ignore[reportMissingImports]

from formats.proxies import LOOPBACK, proxy_variables
from numbercruncher.errors import CruncherError
from numbercruncher.spark.rows import READ_TYPES, STEP_TYPES, TABLES_TYPES, VALUE_TYPES
from numbercruncher.spark.tasks import (
    Places,
    Step,
    fold_listings,
    make_days,
    read_steps,
)

LISTINGS_A_TASK = 250_000
"""Rows that a task folds at a time: some 40 MB in Python."""

_PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception): ")
_REACH = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_SETTINGS = {
    # By their shares tasks are cut already; cutting them anew costs a job to look.
    "spark.sql.adaptive.enabled": "false",
    "spark.redaction.regex": "(?i)secret|password|passwd|token|credential|access[.]?key",
    "spark.ui.showConsoleProgress": "false",
}


class ClusterRefusedError(CruncherError):
    """The cluster, as it is set up, must not be given what the tasks need."""


class SparkFailedError(CruncherError):
    """Spark did not start, or gave a job up."""

    transient = True


@contextmanager
def open_session(name: str, settings: Mapping[str, str], code: str) -> Generator[SparkSession]:
    """A session of Spark, stopped at the end.

    Args:
        name: of the application.
        settings: by Spark's names; what is not in them is Spark's own business, or EMR's.
        code: archive of the packages that tasks import; empty where the hosts have it.

    Raises:
        SparkFailedError: it did not start.
    """
    builder = SparkSession.builder.appName(name)
    for setting, value in {**_SETTINGS, **settings}.items():
        builder = builder.config(setting, value)
    try:
        with _without_secrets():
            session = builder.getOrCreate()
    except Exception as error:
        raise SparkFailedError(
            f"Spark did not start on {settings.get('spark.master', 'its cluster')}:"
            f" {_last_error(error)}. Check that it runs and that pyspark is of its version."
        ) from error
    try:
        if code:
            session.sparkContext.addPyFile(code)
        yield session
    finally:
        session.stop()


@contextmanager
def _without_secrets() -> Generator[None]:
    """Spark would copy AWS's keys out of the environment into its Hadoop settings, which it shows.

    What the virtual machine is started without, it cannot show.
    """
    prefixes = ("AWS_", "DAGSTER_PIPES_", "DATA_PLATFORM_")
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(prefixes)}
    try:
        yield
    finally:
        os.environ.update({**kept, **os.environ})


def find_variables(session: SparkSession, *, forward_credentials: bool) -> dict[str, str]:
    """How AWS is reached, for tasks: just as this process does.

    Args:
        session: of the cluster that tasks run on.
        forward_credentials: whether they get this process's credentials; else those of their hosts.

    Raises:
        ClusterRefusedError: they would cross the network, or be on disks, unprotected.
    """
    aws = boto3.Session()
    variables = {name: os.environ[name] for name in _REACH if os.environ.get(name)}
    if region := aws.region_name or os.environ.get("AWS_REGION"):
        variables["AWS_DEFAULT_REGION"] = region
    variables |= proxy_variables(os.environ)
    credentials = aws.get_credentials() if forward_credentials else None
    if credentials is None:
        return variables
    _check_secrecy(session.sparkContext)
    frozen = credentials.get_frozen_credentials()
    named = {
        "AWS_ACCESS_KEY_ID": frozen.access_key,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
        "AWS_SESSION_TOKEN": frozen.token,
    }
    return variables | {name: value for name, value in named.items() if value}


def _check_secrecy(context: Any) -> None:
    settings = context.getConf()
    is_here = urlsplit(context.master).hostname in LOOPBACK or context.master.startswith("local")
    # The last is for what Spark keeps on disks: code is kept like any data.
    asked = ("spark.authenticate", "spark.network.crypto.enabled", "spark.io.encryption.enabled")
    if not is_here and any(settings.get(name, "false") != "true" for name in asked):
        raise ClusterRefusedError(
            f"The tasks on {context.master} would get the AWS credentials unencrypted. Set"
            f" {', '.join(asked)} there, or give its hosts a role of their own and set"
            " PLATFORM_SPARK_FORWARD_CREDENTIALS=false."
        )


def _last_error(error: Exception) -> str:
    """What a task's error says in its last line of Python, or else the first of its own."""
    lines = str(error).splitlines() or [type(error).__name__]
    of_python = [line for line in lines if _PYTHON_ERROR.match(line)]
    return (of_python or lines)[-1 if of_python else 0].strip().rstrip(".")


@contextmanager
def _job() -> Generator[None]:
    try:
        yield
    except Exception as error:
        raise SparkFailedError(f"Spark gave a job up: {_last_error(error)}.") from error


class Reading:
    """Steps that were read, on the workers' disks.

    Attributes:
        facts: what is known of each step, in their order.
    """

    def __init__(self, session: SparkSession, places: Places, steps: Sequence[Step]) -> None:
        self._session = session
        self._places = places
        # As data a task gets its own step only. In the code of all of them, beside the credentials,
        # they would be too much from some 1,000 on: Spark writes code beyond 1 MB to a file.
        rows = [(number, *astuple(step)) for number, step in enumerate(steps)]
        data = session.sparkContext.parallelize(rows, len(rows))
        self._rows = (
            session.createDataFrame(data, STEP_TYPES, verifySchema=False)
            .mapInArrow(partial(read_steps, places), READ_TYPES)
            .persist(StorageLevel.DISK_ONLY)
        )
        with _job():
            facts = self._rows.where("fact is not null").select("step", "fact").collect()
        self.facts: list[Mapping[str, Any]] = [
            json.loads(row.fact) for row in sorted(facts, key=lambda row: row.step)
        ]

    def make_days(
        self, steps: Mapping[int, tuple[str, bool]], *, numbers: bool, listings: int
    ) -> dict[int, str]:
        """Folds the prices of some steps, and makes the tables of the dates that are wanted.

        Args:
            steps: number → date, and whether its tables are wanted; in ascending order.
            numbers: whether ids are numbers.
            listings: about how many there are.

        Returns:
            Number of step → manifest of its tables. They wait to be published.
        """
        wanted = {number: day for number, (day, is_wanted) in steps.items() if is_wanted}
        cores = self._session.sparkContext.defaultParallelism
        values = ["first_day", "first_price", "last_day", "last_price"]
        id_column, id_type = ("id_number", "long") if numbers else ("id_text", "string")
        states: DataFrame = (
            self._rows.where(col("step").isin(list(steps)) & (col("fact").isNull() | col("failed")))
            .select("step", col(id_column).alias("id"), *values, "failed")
            .repartition(max(cores, math.ceil(listings / LISTINGS_A_TASK)), "id")
            .sortWithinPartitions("step")
            .mapInArrow(
                partial(fold_listings, dict(steps)), f"step int, id {id_type}, {VALUE_TYPES}"
            )
        )
        tables = (
            states.repartition(max(1, len(wanted)), "step")
            .sortWithinPartitions("step", "id")
            .mapInArrow(partial(make_days, self._places, wanted), TABLES_TYPES)
        )
        with _job():
            return {row.step: row.manifest for row in tables.collect()}

    def forget(self) -> None:
        """Frees the workers' disks."""
        self._rows.unpersist()
