"""`make deploy-api`: one API for each endpoint, and what it prints when it cannot deploy."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import boto3
import pytest

from tests.aws_requests import Recorder
from tests.conftest import CHECKOUT, clean_environ
from tests.deploy.conftest import REGION
from tests.deploy.iam_needs import actions_of
from tests.deploy.iam_policies import named_in_readme
from tests.s3_front import Front

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
def test_a_deployment_that_cannot_begin_says_why_and_shows_no_secret(case: str) -> None:
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


def put_in_openapi_3(method: str, target: str, body: bytes) -> bytes:
    """Moto reads OpenAPI 3, where Chalice writes Swagger 2, which AWS reads as well."""
    if (
        method not in {"POST", "PUT"}
        or not target.startswith("/restapis")
        or b"swagger" not in body
    ):
        return body
    document = json.loads(body)
    del document["swagger"]
    document["info"]["description"] = ""
    return json.dumps(document | {"openapi": "3.0.1"}).encode()


def deploy(account: dict[str, str], endpoint: str) -> subprocess.CompletedProcess[str]:
    """`make deploy-api`."""
    return subprocess.run(
        [sys.executable, "deploy/deploy_api.py"],
        cwd=CHECKOUT,
        env=account
        | {name: READY[name] for name in ("PLATFORM_API_KEY", "PLATFORM_BUCKET")}
        | {"PLATFORM_ENDPOINT_NAME": endpoint},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def remove_built_projects() -> Iterator[None]:
    """Removes what the deployments have built: it stands in the checkout."""
    yield
    for project in (CHECKOUT / "build" / "api").glob("data-platform-test-*"):
        shutil.rmtree(project)


def deployed(aws: Front) -> dict[str, list[str]]:
    """The names of the resources in the account."""
    session = boto3.session.Session("somebody", "a-secret", region_name=REGION)
    gateway, functions, roles = (
        session.client(service, endpoint_url=aws.url) for service in ("apigateway", "lambda", "iam")
    )
    return {
        "APIs": sorted(api["name"] for api in gateway.get_rest_apis()["items"]),
        "Lambdas": sorted(one["FunctionName"] for one in functions.list_functions()["Functions"]),
        "roles": sorted(role["RoleName"] for role in roles.list_roles()["Roles"]),
    }


def test_each_endpoint_has_its_api_and_a_deployment_that_failed_midway_is_finished(
    account: dict[str, str], aws: Front
) -> None:
    """Of an API that was made, Chalice knows nothing when a later step of its deployment fails.

    The README says what all of it takes.
    """
    recorder = Recorder()
    aws.observe = recorder.keep
    aws.amend = put_in_openapi_3
    aws.refuse = lambda request: (
        (403, b'{"message": "not now"}') if request.path.endswith("/deployments") else None
    )
    with recorder.sent_by("deployer"):
        refused = deploy(account, "Test-A")
    assert refused.returncode == 1
    assert "not now" in refused.stderr
    assert len(deployed(aws)["APIs"]) == 1
    aws.refuse = lambda _: None
    for endpoint in ("Test-A", "test-b"):
        with recorder.sent_by("deployer"):
            done = deploy(account, endpoint)
        assert done.returncode == 0, done.stderr
    needed = actions_of(request for _, request in recorder.requests())
    # Here a Lambda is active at once; Chalice waits for AWS's by botocore's waiters.
    needed.add("lambda:GetFunctionConfiguration")
    assert needed == named_in_readme("Whoever deploys needs")
    names = ["data-platform-test-a-eu-west-1", "data-platform-test-b-eu-west-1"]
    assert deployed(aws) == {
        "APIs": names,
        "Lambdas": [f"{name}-prod" for name in names],
        "roles": [f"{name}-prod-api_handler" for name in names],
    }


def test_a_deployment_is_refused_where_two_apis_have_the_name_of_the_endpoints(
    account: dict[str, str], aws: Front
) -> None:
    gateway = boto3.session.Session("somebody", "a-secret", region_name=REGION).client(
        "apigateway", endpoint_url=aws.url
    )
    ids = [gateway.create_rest_api(name="data-platform-test-two-eu-west-1")["id"] for _ in range(2)]
    refused = deploy(account, "test-two")
    assert refused.returncode == 1
    assert all(id_ in refused.stderr for id_ in ids), refused.stderr
    assert not deployed(aws)["Lambdas"]
