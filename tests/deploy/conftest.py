"""AWS's services that nothing embedded stands in for: moto's, over HTTP."""

from collections.abc import Iterator

import pytest
import requests
from moto.server import ThreadedMotoServer

from tests.conftest import clean_environ
from tests.s3_front import Front, in_front_of

REGION = "eu-west-1"


@pytest.fixture
def aws() -> Iterator[Front]:
    """An AWS account with nothing in it, behind a front that may refuse requests."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What was made is the process's, whichever server made it.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=60).raise_for_status()
    with in_front_of(f"http://{host}:{port}") as front:
        yield front
    server.stop()


@pytest.fixture
def account(aws: Front) -> dict[str, str]:
    """The environment of somebody who may do everything in it."""
    return clean_environ(
        AWS_ENDPOINT_URL=aws.url,
        AWS_DEFAULT_REGION=REGION,
        AWS_ACCESS_KEY_ID="somebody",
        AWS_SECRET_ACCESS_KEY="a-secret",
    )
