"""Data capture: what endpoints were asked and what they answered, as AWS's JSON lines in S3."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import pytest

from tests.conftest import Services
from tests.s3_front import Answer, Front, in_front_of
from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    Server,
    as_csv,
    blobs,
    refusal,
    unique,
    variant,
)
from tests.sagemaker_local.test_local_contract_serving import ask, own_model

DENIED: Answer = (403, b"<Error><Code>AccessDenied</Code><Message>not you</Message></Error>")


def capture(bucket: str, **changes: Any) -> dict[str, Any]:
    """A DataCaptureConfig for everything."""
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{bucket}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        **changes,
    }


def new_config(server: Server, data_capture: dict[str, Any], *variants: dict[str, Any]) -> str:
    name = unique("capture")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=list(variants), DataCaptureConfig=data_capture
    )
    return name


def new_endpoint(server: Server, data_capture: dict[str, Any], *variants: dict[str, Any]) -> str:
    """The name of an endpoint in service."""
    name = new_config(server, data_capture, *variants)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.in_service(name)
    return name


def keys(server: Server, bucket: str, endpoint: str) -> list[str]:
    listing = server.s3.list_objects_v2(Bucket=bucket, Prefix=f"captured/{endpoint}/")
    return [item["Key"] for item in listing.get("Contents", [])]


def lines(server: Server, bucket: str, endpoint: str) -> list[dict[str, Any]]:
    """What was captured of an endpoint so far, in order."""
    texts = [
        server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        for key in keys(server, bucket, endpoint)
    ]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bodies(line: dict[str, Any]) -> list[bytes]:
    """The bytes of a line's input and output."""
    return [
        base64.b64decode(part["data"]) if part["encoding"] == "BASE64" else part["data"].encode()
        for part in line["captureData"].values()
    ]


def log(server: Server) -> str:
    return (server.data_dir / "server.log").read_text()


def test_lines_hold_exactly_what_was_sent_and_answered(
    own_image_server: Server, store: str
) -> None:
    """They are all there once the server has stopped."""
    own_image_server.start()
    types = {"CsvContentTypes": ["text/csv", "text/x-own"], "JsonContentTypes": ["a/json"]}
    endpoint = new_endpoint(
        own_image_server,
        capture(store, CaptureContentTypeHeader=types),
        variant(own_model(own_image_server, store, ECHO="1")),
    )
    sent = [
        ("text/csv; charset=utf-8", "1,é\n\u20282,3\r\n".encode(), "CSV"),
        ("A/JSON", b'{"a":\n "b"}', "JSON"),
        ("application/octet-stream", bytes(range(256)), "BASE64"),
        # Not what its type says.
        ("text/csv", b"1,\xff\n", "BASE64"),
    ]
    invoke = own_image_server.runtime.invoke_endpoint
    more = {"CustomAttributes": "yours", "InferenceId": "my-own-id"}
    before = datetime.now(UTC).replace(microsecond=0)
    for kind, body, _ in sent:
        answer = invoke(EndpointName=endpoint, ContentType=kind, Body=body, **more)
        assert answer["Body"].read() == b"<" + body + b">"
        more = {}
    after = datetime.now(UTC)
    own_image_server.stop()

    written = lines(own_image_server, store, endpoint)
    assert [bodies(line) for line in written] == [[body, b"<" + body + b">"] for _, body, _ in sent]
    inputs = [line["captureData"]["endpointInput"] for line in written]
    seen = [(part["observedContentType"], part["encoding"]) for part in inputs]
    assert seen == [(kind, encoding) for kind, _, encoding in sent]
    outputs = [line["captureData"]["endpointOutput"] for line in written]
    assert [part["encoding"] for part in outputs] == ["CSV", "CSV", "BASE64", "BASE64"]
    assert {part["observedContentType"] for part in outputs} == {"text/x-own"}
    assert [part["mode"] for part in (inputs[0], outputs[0])] == ["INPUT", "OUTPUT"]
    assert {line["eventVersion"] for line in written} == {"0"}
    events = [line["eventMetadata"] for line in written]
    assert len({event.pop("eventId") for event in events}) == 4
    for event in events:
        moment = datetime.strptime(event.pop("inferenceTime"), "%Y-%m-%dT%H:%M:%SZ")
        assert before <= moment.replace(tzinfo=UTC) <= after
    assert events == [{"customAttributes": ["yours"], "inferenceId": "my-own-id"}, {}, {}, {}]


OPTIONS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "everything": ({}, {"endpointInput", "endpointOutput"}),
    "in one mode": (
        {"CaptureOptions": [{"CaptureMode": "InputAndOutput"}]},
        {"endpointInput", "endpointOutput"},
    ),
    "input": ({"CaptureOptions": [{"CaptureMode": "Input"}]}, {"endpointInput"}),
    "output": ({"CaptureOptions": [{"CaptureMode": "Output"}]}, {"endpointOutput"}),
    "nothing sampled": ({"InitialSamplingPercentage": 0}, set()),
    "switched off": ({"EnableCapture": False}, set()),
}


def test_what_is_captured_is_what_the_options_say(own_image_server: Server, store: str) -> None:
    """Without content types all of it is BASE64; what the container refuses is not captured."""
    own_image_server.start()
    one = variant(own_model(own_image_server, store))
    endpoints = {
        case: new_endpoint(own_image_server, capture(store, **changes), one)
        for case, (changes, _) in OPTIONS.items()
    }
    for endpoint in endpoints.values():
        refusal(lambda at=endpoint: ask(own_image_server, at, "status", status=418, text="no"))
        assert ask(own_image_server, endpoint, "big", size=3) == "xxx"
    own_image_server.stop()

    for case, (_, members) in OPTIONS.items():
        written = lines(own_image_server, store, endpoints[case])
        assert [set(line["captureData"]) for line in written] == ([members] if members else [])
        for name, part in (item for line in written for item in line["captureData"].items()):
            assert part["encoding"] == "BASE64"
            text = base64.b64decode(part["data"])
            assert (
                text
                == {"endpointInput": b'{"do": "big", "size": 3}', "endpointOutput": b"xxx"}[name]
            )


def test_lines_come_by_themselves_to_the_folder_of_variant_and_hour(
    server: Server, store: str, model: str
) -> None:
    types = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}
    endpoint = new_endpoint(
        server,
        capture(store, CaptureContentTypeHeader=types),
        variant(model, "one"),
        variant(model, "two"),
    )
    body = as_csv(blobs(3)[0])
    answers = {
        name: server.runtime.invoke_endpoint(
            EndpointName=endpoint,
            ContentType="text/csv",
            Accept="application/json",
            Body=body,
            TargetVariant=name,
        )["Body"].read()
        for name in ("one", "two")
    }
    server.sagemaker.delete_endpoint(EndpointName=endpoint)
    eventually(lambda: len(keys(server, store, endpoint)) == 2)
    now = datetime.now(UTC)
    hours = "|".join(f"{hour:%Y/%m/%d/%H}" for hour in (now - timedelta(hours=1), now))
    for key, (name, answer) in zip(keys(server, store, endpoint), answers.items(), strict=True):
        file = r"\d\d-\d\d-\d{3}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jsonl"
        assert re.fullmatch(f"captured/{endpoint}/{name}/({hours})/{file}", key)
        (line,) = server.s3.get_object(Bucket=store, Key=key)["Body"].read().splitlines()
        parts = json.loads(line)["captureData"]
        assert (parts["endpointInput"]["encoding"], parts["endpointInput"]["data"]) == (
            "CSV",
            body.decode(),
        )
        assert (parts["endpointOutput"]["encoding"], parts["endpointOutput"]["data"]) == (
            "JSON",
            answer.decode(),
        )


def test_an_update_switches_it_off_and_on(image_server: Server, store: str) -> None:
    one = variant(own_model(image_server, store, ECHO="1"))
    on = capture(store)
    endpoint = new_endpoint(image_server, on, one)
    described = image_server.sagemaker.describe_endpoint(EndpointName=endpoint)
    summary = {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": on["DestinationS3Uri"],
        "KmsKeyId": "",
    }
    assert described["DataCaptureConfig"] == summary
    invoke = image_server.runtime.invoke_endpoint
    invoke(EndpointName=endpoint, Body=b"first")
    off = capture(store, EnableCapture=False, InitialSamplingPercentage=7, KmsKeyId="alias/mine")
    for changed, body in ((off, b"second"), (on, b"third")):
        config = new_config(image_server, changed, one)
        image_server.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
        described = image_server.in_service(endpoint)
        if changed is off:
            assert described["DataCaptureConfig"] == summary | {
                "EnableCapture": False,
                "CaptureStatus": "Stopped",
                "CurrentSamplingPercentage": 7,
                "KmsKeyId": "alias/mine",
            }
        invoke(EndpointName=endpoint, Body=body)
    # They are written in order, so the second would be there with the third.
    eventually(lambda: len(lines(image_server, store, endpoint)) >= 2)
    sent = [bodies(line)[0] for line in lines(image_server, store, endpoint)]
    assert sent == [b"first", b"third"]


@pytest.fixture(scope="module")
def fronted(
    services: Services, with_images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Front]]:
    """A server whose way to S3 leads through a proxy."""
    with in_front_of(services.env["AWS_ENDPOINT_URL_S3"]) as front:
        extra = {**with_images, "AWS_ENDPOINT_URL_S3": front.url}
        new_server = Server(tmp_path_factory.mktemp("fronted"), services.env, extra)
        new_server.start()
        yield new_server, front
        new_server.stop()


def test_a_refusal_of_s3_is_logged_once_and_fails_no_request(
    fronted: tuple[Server, Front], store: str
) -> None:
    server, front = fronted
    endpoint = new_endpoint(server, capture(store), variant(own_model(server, store, ECHO="1")))
    words = f"data capture of endpoint {endpoint}: {capture(store)['DestinationS3Uri']} refuses it"

    def attempts() -> list[str]:
        return [path for method, path in front.requests if method == "PUT" and endpoint in path]

    def asked(body: bytes) -> bytes:
        answer = server.runtime.invoke_endpoint(EndpointName=endpoint, Body=body)
        return answer["Body"].read()

    front.refuse = lambda request: DENIED if request.command == "PUT" else None
    assert asked(b"first") == b"<first>"
    eventually(lambda: words in log(server))
    assert asked(b"second") == b"<second>"
    eventually(lambda: len(attempts()) == 2)
    front.refuse = lambda _: None
    assert asked(b"third") == b"<third>"
    eventually(lambda: lines(server, store, endpoint))
    assert [bodies(line)[0] for line in lines(server, store, endpoint)] == [b"third"]
    assert log(server).count(words) == 1


def test_s3_gets_the_key_of_kms(fronted: tuple[Server, Front], store: str) -> None:
    server, front = fronted
    one = variant(own_model(server, store))
    encrypted = capture(store, DestinationS3Uri=f"s3://{store}/secret", KmsKeyId="alias/mine")
    endpoint = new_endpoint(server, encrypted, one)
    headers: list[Any] = []

    def refuse(request: BaseHTTPRequestHandler) -> Answer | None:
        if endpoint not in request.path:
            return None
        headers.append(request.headers)
        return DENIED

    front.refuse = refuse
    ask(server, endpoint)
    eventually(lambda: headers)
    front.refuse = lambda _: None
    name = "x-amz-server-side-encryption"
    assert headers[0][name] == "aws:kms"
    assert headers[0][f"{name}-aws-kms-key-id"] == "alias/mine"


def test_an_s3_that_does_not_answer_holds_up_neither_requests_nor_the_end_of_the_server(
    own_image_server: Server, services: Services, store: str
) -> None:
    """Each request is 12 MB, of which 32 MB may wait."""
    released = Event()

    def hang(request: BaseHTTPRequestHandler) -> Answer | None:
        if request.command == "PUT":
            released.wait()
        return None

    with in_front_of(services.env["AWS_ENDPOINT_URL_S3"]) as front:
        front.refuse = hang
        try:
            own_image_server.extra = {
                **own_image_server.extra,
                "AWS_ENDPOINT_URL_S3": front.url,
            }
            own_image_server.start()
            one = variant(own_model(own_image_server, store, ECHO="1"))
            endpoint = new_endpoint(own_image_server, capture(store), one)
            for letter in b"abcde":
                body = bytes([letter]) * 6_000_000
                answer = own_image_server.runtime.invoke_endpoint(EndpointName=endpoint, Body=body)
                assert answer["Body"].read() == b"<" + body + b">"
            assert log(own_image_server).count("S3 is slow, and 32 MB wait for it") == 1
            own_image_server.stop()
            assert "S3 does not answer; what waits for it is dropped" in log(own_image_server)
        finally:
            released.set()


PLACE = "dataCaptureConfig"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"DestinationS3Uri": "https://b/x"},
            "Invalid DestinationS3Uri: https://b/x. It must be an S3 URI.",
        ),
        ({"DestinationS3Uri": "b/x"}, f"Value 'b/x' at '{PLACE}.destinationS3Uri' failed"),
        (
            {"InitialSamplingPercentage": 101},
            f"Value '101' at '{PLACE}.initialSamplingPercentage' failed to satisfy constraint: "
            "Member must have value less than or equal to 100",
        ),
        ({"CaptureOptions": []}, f"Value '[]' at '{PLACE}.captureOptions' failed"),
        (
            {"CaptureOptions": [{"CaptureMode": "Both"}]},
            "Member must satisfy enum value set: [Input, Output, InputAndOutput]",
        ),
        (
            {"CaptureContentTypeHeader": {"CsvContentTypes": ["csv"]}},
            f"Value 'csv' at '{PLACE}.captureContentTypeHeader.csvContentTypes.1.member' failed",
        ),
    ],
)
def test_a_config_that_cannot_act_is_refused(
    server: Server, model: str, changes: dict[str, Any], words: str
) -> None:
    error = refusal(lambda: new_config(server, capture("b", **changes), variant(model)))["Error"]
    assert error["Code"] == "ValidationException"
    assert words in error["Message"]


def test_serverless_variants_are_not_captured(server: Server, model: str) -> None:
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    one = {"VariantName": "one", "ModelName": model, "ServerlessConfig": serverless}
    error = refusal(lambda: new_config(server, capture("b"), one))["Error"]
    assert error["Code"] == "ValidationException"
    assert error["Message"].startswith("DataCaptureConfig is not supported with serverless")
