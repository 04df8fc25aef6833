"""Signatures: requests that AWS would refuse are refused and have no effect."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sagemaker_local.aws_errors import AwsError
from sagemaker_local.signing import SignedRequest, Verifier
from tests.sagemaker_local.rig import Server, refusal

BODY = b'{"MaxResults": 5}'


def signed(
    server: Server,
    *,
    service: str = "sagemaker",
    region: str = "eu-west-1",
    body: bytes = BODY,
    target: str = "SageMaker.ListModels",
    path: str = "/",
) -> AWSRequest:
    """A request, correctly signed by botocore."""
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": target,
        "Host": f"127.0.0.1:{server.port}",
    }
    request = AWSRequest("POST", server.url + path, headers, body)
    keys = Credentials(server.env["AWS_ACCESS_KEY_ID"], server.env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, service, region).add_auth(request)
    return request


def send(request: AWSRequest) -> httpx.Response:
    return httpx.post(
        str(request.url),
        headers=dict(request.headers.items()),
        content=request.data,
        timeout=120,
    )


def change_body(request: AWSRequest) -> None:
    request.data = b'{"MaxResults": 6}'


def set_header(name: str, value: str | None) -> Callable[[AWSRequest], None]:
    def change(request: AWSRequest) -> None:
        del request.headers[name]
        if value is not None:
            request.headers[name] = value

    return change


def in_authorization(old: str, new: str) -> Callable[[AWSRequest], None]:
    def change(request: AWSRequest) -> None:
        value = request.headers["Authorization"].replace(old, new)
        del request.headers["Authorization"]
        request.headers["Authorization"] = value

    return change


def flip_signature(request: AWSRequest) -> None:
    last = request.headers["Authorization"][-1]
    value = request.headers["Authorization"][:-1] + ("0" if last != "0" else "1")
    del request.headers["Authorization"]
    request.headers["Authorization"] = value


def test_a_correctly_signed_request_is_answered(server: Server) -> None:
    answer = send(signed(server))
    assert answer.status_code == 200
    assert "Models" in answer.json()
    assert answer.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (set_header("Authorization", None), "MissingAuthenticationTokenException"),
        (set_header("Authorization", "Basic dGVzdA=="), "IncompleteSignatureException"),
        (set_header("X-Amz-Date", None), "IncompleteSignatureException"),
        (set_header("X-Amz-Date", "yesterday"), "IncompleteSignatureException"),
        (in_authorization("Signature=", "Sig="), "IncompleteSignatureException"),
        (in_authorization("aws4_request", "aws5_request"), "IncompleteSignatureException"),
        (in_authorization("x-amz-date", "x-amz-dote"), "InvalidSignatureException"),
        (in_authorization("host;", ""), "InvalidSignatureException"),
        (flip_signature, "InvalidSignatureException"),
        (change_body, "InvalidSignatureException"),
        (set_header("X-Amz-Target", "SageMaker.DeleteModel"), "InvalidSignatureException"),
        (set_header("X-Amz-Content-SHA256", "0" * 64), "InvalidSignatureException"),
        (set_header("X-Amz-Security-Token", "x"), "UnrecognizedClientException"),
        (in_authorization("Credential=", "Credential=X"), "UnrecognizedClientException"),
    ],
)
def test_a_request_changed_after_signing_is_refused(
    server: Server, harm: Callable[[AWSRequest], None], code: str
) -> None:
    request = signed(server)
    harm(request)
    answer = send(request)
    assert answer.status_code == 403
    assert answer.json()["__type"] == code
    assert server.env["AWS_SECRET_ACCESS_KEY"] not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Host": "evil.example"},
    ],
)
def test_a_request_of_a_web_page_is_refused(server: Server, headers: dict[str, str]) -> None:
    request = signed(server)
    for name, value in headers.items():
        set_header(name, value)(request)
    answer = send(request)
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": "us-east-1"}, "Credential should be scoped to a valid region"),
        ({"service": "s3"}, "Credential should be scoped to correct service"),
        ({"service": "logs"}, "Credential should be scoped to correct service: 'sagemaker'"),
    ],
)
@pytest.mark.parametrize(
    ("path", "member"), [("/", "message"), ("/endpoints/none/invocations", "Message")]
)
def test_a_signature_for_another_region_or_service_is_refused(
    server: Server, changes: dict[str, Any], words: str, path: str, member: str
) -> None:
    answer = send(signed(server, path=path, **changes))
    assert answer.status_code == 403
    assert words in answer.json()[member]


@pytest.mark.parametrize("service", ["sagemaker", "sagemaker-runtime", "logs"])
def test_clients_with_a_wrong_secret_are_refused_everywhere(server: Server, service: str) -> None:
    client = server.client(service, AWS_SECRET_ACCESS_KEY="wrong")
    calls = {
        "sagemaker": lambda: client.list_models(),
        "sagemaker-runtime": lambda: client.invoke_endpoint(EndpointName="e", Body=b"1"),
        "logs": lambda: client.describe_log_groups(),
    }
    answer = refusal(calls[service])
    assert answer["Error"]["Code"] == "InvalidSignatureException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("shift", "words"), [(-301, "Signature not yet current"), (301, "Signature expired")]
)
def test_a_signature_is_valid_for_five_minutes(server: Server, shift: int, words: str) -> None:
    request = signed(server)
    incoming = SignedRequest(
        "POST", "/", "", {k.lower(): v for k, v in request.headers.items()}, BODY
    )
    verifier = Verifier(
        server.env["AWS_ACCESS_KEY_ID"],
        server.env["AWS_SECRET_ACCESS_KEY"],
        "eu-west-1",
    )
    services = ["sagemaker"]
    at = datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    just_valid = at + timedelta(seconds=math.copysign(300, shift))
    assert verifier.verify(incoming, services, just_valid) == "sagemaker"
    with pytest.raises(AwsError, match=words):
        verifier.verify(incoming, services, at + timedelta(seconds=shift))


def test_an_unknown_operation_is_named(server: Server) -> None:
    answer = refusal(lambda: server.sagemaker.list_domains())
    assert answer["Error"]["Code"] == "UnknownOperationException"


@pytest.mark.parametrize(
    ("target", "body", "code", "words"),
    [
        (
            "ListModels",
            b'{"Colour": "red"}',
            "ValidationException",
            'Unknown parameter in input: "colour"',
        ),
        ("ListModels", b"{", "SerializationException", "not JSON"),
        ("ListModels", b"[]", "SerializationException", "Start of structure"),
        (
            "ListModels",
            b'{"CreationTimeAfter": 1%b}' % (b"0" * 400),
            "SerializationException",
            "NUMBER_VALUE can not be converted to a number",
        ),
        (
            "CreateEndpointConfig",
            b'{"ProductionVariants": [{"InitialVariantWeight": 1%b}]}' % (b"0" * 400),
            "SerializationException",
            "(at 'productionVariants.1.member.initialVariantWeight')",
        ),
        (
            "CreateModel",
            b'{"ModelName": "m", "Containers": [null]}',
            "ValidationException",
            "Value null at 'containers.1.member' failed to satisfy constraint: Member must not be",
        ),
    ],
)
def test_malformed_bodies_are_refused(
    server: Server, target: str, body: bytes, code: str, words: str
) -> None:
    answer = send(signed(server, body=body, target=f"SageMaker.{target}")).json()
    assert answer["__type"] == code
    assert words in answer["message"]


def test_health_needs_no_signature(server: Server) -> None:
    assert httpx.get(f"{server.url}/healthz", timeout=120).text == "ok\n"
