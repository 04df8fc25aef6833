"""AWS services that the embedded stack does not have: those of moto, over HTTP."""

from collections.abc import Iterator

import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.conftest import clean_environ
from tests.s3_front import Front, in_front_of

REGION = "eu-west-1"


@pytest.fixture
def aws() -> Iterator[Front]:
    """An empty AWS account, behind a proxy that can refuse requests."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # Moto keeps its resources for the whole process: an earlier server's would be left.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
    with in_front_of(f"http://{host}:{port}") as front:
        yield front
    server.stop()


@pytest.fixture
def account(aws: Front) -> dict[str, str]:
    """The environment of a user who has all rights in that account."""
    return clean_environ(
        AWS_ENDPOINT_URL=aws.url,
        AWS_DEFAULT_REGION=REGION,
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY="a-secret",
    )
