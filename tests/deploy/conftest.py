"""AWS services that the embedded stack does not have: those of moto, over HTTP. And production's
instance of Dagster, on the services that it has.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from moto.server import ThreadedMotoServer

from embedded import postgres
from tests.conftest import CHECKOUT, Services, clean_environ, point_to
from tests.s3_front import Front, in_front_of

REGION = "eu-west-1"


@pytest.fixture
def aws() -> Iterator[Front]:
    """An empty AWS account, behind a proxy that can refuse requests."""
    with moto_server() as front:
        yield front


@contextmanager
def moto_server() -> Iterator[Front]:
    """As `aws`; one at a time."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Moto keeps its resources for the whole process: an earlier server's would be left.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
    with in_front_of(f"http://{host}:{port}") as front:
        yield front
    server.stop()


@pytest.fixture
def production(
    services: Services,
    database: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The environment of a container of deploy/, which is this process's as well.

    Its database is empty, and Postgres's programs are those of the embedded one.
    """
    shutil.copy(CHECKOUT / "deploy" / "dagster.yaml", tmp_path)
    programs = postgres.program("pg_dump").parent
    environment = {
        **services.env,
        **variables_of(database),
        "DAGSTER_HOME": str(tmp_path),
        "PLATFORM_BUCKET": bucket,
        "PLATFORM_KMS_KEY_ID": "",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    point_to(environment, monkeypatch)
    return clean_environ(**environment)


def variables_of(dsn: str) -> dict[str, str]:
    """A database, as the variables of deploy/ name it."""
    parts = urlsplit(dsn)
    return {
        "DAGSTER_POSTGRES_HOST": str(parts.hostname),
        "DAGSTER_POSTGRES_PORT": str(parts.port),
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": str(parts.password),
        "POSTGRES_DB": parts.path.strip("/"),
    }


@pytest.fixture
def account(aws: Front) -> dict[str, str]:
    """The environment of a user who has all rights in that account."""
    return clean_environ(
        AWS_ENDPOINT_URL=aws.url,
        AWS_DEFAULT_REGION=REGION,
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY="a-secret",
    )
