"""What `make deploy-api` prints where it cannot deploy: what to do, and no secret."""

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT, clean_environ

SECRET = "pl4nted"
READY = {
    "PLATFORM_API_KEY": f"{SECRET}-and-long-enough-to-be-taken",
    "PLATFORM_BUCKET": "platform",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKIAXXXXXXXXXXXXXXXX",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_MAX_ATTEMPTS": "1",
}
CASES = {
    "a key that is too short": ({"PLATFORM_API_KEY": SECRET}, "PLATFORM_API_KEY"),
    "no bucket": ({"PLATFORM_BUCKET": ""}, "Set PLATFORM_BUCKET"),
    "no answer": ({"AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9"}, "AWS cannot be asked"),
    "a proxy that is down": (
        {"HTTPS_PROXY": f"http://user:{SECRET}@127.0.0.1:9"},
        "AWS cannot be asked",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_stops_a_deployment_is_named_and_no_secret_is(case: str) -> None:
    settings, sentence = CASES[case]
    done = subprocess.run(
        [sys.executable, "deploy/deploy_api.py"],
        cwd=CHECKOUT,
        env=clean_environ(**(READY | settings)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
