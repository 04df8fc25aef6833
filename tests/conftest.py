"""Fixtures for tests against real services: S3, Postgres and SageMaker of the embedded stack.

Started once a test run, on first use, in a temporary home and on free ports.
"""

import gc
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import psutil
import psycopg2
import pytest
from botocore.loaders import JSONFileLoader, Loader
from hypothesis import HealthCheck, settings
from psycopg2 import sql

from embedded import ports, s3, stack
from embedded.aws import aws_client
from embedded.home import Home
from embedded.plan import make_plan
from embedded.programs import services as service_parts
from tests.strict_aws import Rule, Strict, StrictAws, strict_aws

CHECKOUT = Path(__file__).resolve().parent.parent
# How long an example takes, or is looked for, is a matter of the machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@dataclass(frozen=True)
class Services:
    """The running services of a test run.

    Attributes:
        home: Their PLATFORM_HOME.
        env: What clients need, by the names of the env file.
        admin_dsn: Postgres as its superuser.
    """

    home: Home
    env: Mapping[str, str]
    admin_dsn: str


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A session of boto3 that an earlier test left behind has the keys of that test."""
    boto3.DEFAULT_SESSION = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mix the folders, so that tests which wait run beside tests which compute.

    Files marked `minutes` come in the first half: the last of them would run alone at the end.
    """
    long = {item.path: None for item in items if item.get_closest_marker("minutes")}
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items if item.path not in long):
        folders.setdefault(path.parent, []).append(path)
    place = _spread([*long], 0.5)
    for files in folders.values():
        place |= _spread(files, 1)
    items.sort(key=lambda item: place[item.path])


def _spread(files: list[Path], end: float) -> dict[Path, float]:
    """File → its place in the run, evenly between 0 and the end, which is at most 1."""
    return {file: end * (n + 0.5) / len(files) for n, file in enumerate(files)}


@cache
def model_file(path: str) -> Any:
    """One of botocore's files, parsed."""
    return JSONFileLoader().load_file(path)


class SharedModels(JSONFileLoader):
    """Has each of botocore's files parsed once: by itself every new session parses them anew."""

    def load_file(self, file_path: str) -> Any:
        """What is in a file; None where there is none."""
        return model_file(file_path)


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is done over and over that a whole run needs but once."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("tests.iam_coverage")
    # Tests make hundreds of clients, each from a session of its own.
    Loader.FILE_LOADER_CLASS = SharedModels
    # A shell ignores SIGINT for what it runs in the background. Dagster's import would have SIGTERM
    # ignored as well, also by all processes that tests start and end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # For the workers, which start after this: the threads of one would wait for those of another.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})


def pytest_collection_finish() -> None:
    """What is imported stays: nobody looks for garbage in it over and over."""
    gc.collect()
    gc.freeze()


@contextmanager
def temporary_home(prefix: str = "platform-test-") -> Iterator[Path]:
    """A PLATFORM_HOME whose processes and files go away with the test run, even a killed one."""
    root = Path(tempfile.mkdtemp(prefix=prefix))
    me = psutil.Process()
    # The start time goes through repr(), which keeps every bit of it.
    leash = subprocess.Popen(
        [sys.executable, "-m", "tests.leash", str(me.pid), repr(me.create_time()), str(root)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        yield root
    finally:
        stack.down(Home(root))
        shutil.rmtree(root, ignore_errors=True)
        leash.kill()
        leash.wait()


def clean_environ(**extra: str) -> dict[str, str]:
    """This process's environment without anything that would point to other services."""
    foreign = ("AWS_", "PLATFORM_", "DAGSTER_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | extra


def _port_bases() -> Iterator[int]:
    """Each once, in any order, and none of another worker's: a stack that is down keeps its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    bases = range(11000, 22000, 20)[worker::workers]
    yield from random.sample(bases, len(bases))


_BASES = _port_bases()


def free_port_base() -> str:
    """A value of PLATFORM_PORT_BASE that no other stack of this test run has."""
    return str(ports.free_base(_BASES))


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """S3, Postgres and SageMaker, started once."""
    with temporary_home() as root:
        plan = make_plan(
            clean_environ(PLATFORM_HOME=str(root), PLATFORM_PORT_BASE=free_port_base())
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EMBEDDED_SAGEMAKER_IMAGES", str(_table_of_images(root)))
            running = stack.up(plan, service_parts(plan))
        yield Services(plan.home, running.env, plan.admin_dsn)


def _table_of_images(folder: Path) -> Path:
    """What SageMaker runs as processes, besides k-means."""
    table = folder / "images.toml"
    program = CHECKOUT / "tests" / "platform_assets" / "nearest_mean_image.py"
    table.write_text(f'["*/nearest-mean:*"]\ncommand = ["{sys.executable}", "{program}"]\n')
    return table


@pytest.fixture
def environment(services: Services, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The process's environment points to the services."""
    point_to(services.env, monkeypatch)
    return services.env


def point_to(env: Mapping[str, str], patch: pytest.MonkeyPatch) -> None:
    """Have the process's environment point to services, and to no others."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "PLATFORM_")) and name != "AWS_CA_BUNDLE":
            patch.delenv(name)
    for name, value in env.items():
        patch.setenv(name, value)


@pytest.fixture
def strict(
    environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Strict]:
    """Puts an AWS that insists on some rules in front of the services, and in the environment."""
    with ExitStack() as stack:

        def put_in_front(*rules: Rule) -> StrictAws:
            aws = stack.enter_context(strict_aws(environment, tmp_path, *rules))
            for name, value in aws.env.items():
                monkeypatch.setenv(name, value)
            return aws

        yield put_in_front


@pytest.fixture(scope="session")
def s3_client(services: Services) -> Any:
    """A client of the S3, to look into it from outside."""
    return aws_client(services.env, "s3")


@pytest.fixture
def bucket(s3_client: Any) -> Iterator[str]:
    """The name of a fresh empty bucket, which is removed afterwards."""
    with fresh_bucket(s3_client) as name:
        yield name


@contextmanager
def fresh_bucket(client: Any, name: str = "") -> Iterator[str]:
    """An empty bucket, which is removed afterwards; of any name if none is given."""
    name = name or f"test-{secrets.token_hex(6)}"
    s3.ensure_bucket(client, name)
    yield name
    for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
        client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        if result := [{"Key": item["Key"]} for item in page.get("Contents", [])]:
            client.delete_objects(Bucket=name, Delete={"Objects": result})
    client.delete_bucket(Bucket=name)


@pytest.fixture
def database(services: Services) -> Iterator[str]:
    """The DSN of a fresh database that its user owns; dropped afterwards, in use or not."""
    with fresh_database(services) as dsn:
        yield dsn


@contextmanager
def fresh_database(services: Services) -> Iterator[str]:
    """As `database`."""
    name = f"test_{secrets.token_hex(6)}"
    dsn = urlsplit(services.env["PLATFORM_POSTGRES_DSN"])
    create = sql.SQL("CREATE DATABASE {} OWNER {}")
    drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
    with closing(psycopg2.connect(services.admin_dsn)) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(create.format(sql.Identifier(name), sql.Identifier(str(dsn.username))))
            yield dsn._replace(path=f"/{name}").geturl()
            cursor.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped without it."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the folder of real data, {folder}, is not there")
    return folder


@pytest.fixture(scope="session")
def linters_of_aws() -> str:
    """A Python that has parliament and cfn-lint.

    Parliament wants an older setuptools than the platform has, so they live in an environment of
    their own: `pip install parliament cfn-lint 'setuptools<81'`.
    """
    python = os.environ.get("LINTERS_OF_AWS_PYTHON")
    if not python:
        pytest.skip("LINTERS_OF_AWS_PYTHON does not name a Python that has parliament and cfn-lint")
    return python


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI everything that tests need is there: a skipped one is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("Tests were skipped, which counts as a failure in CI.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
