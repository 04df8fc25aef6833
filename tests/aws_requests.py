"""Requests to AWS as they are on the wire: kept, and read by botocore's own models.

Whoever sent them: boto3, Dagster, Chalice, or obstore, which knows nothing of these models.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.loaders import JSONFileLoader, Loader
from botocore.model import OperationModel, ServiceModel, Shape, StructureShape
from botocore.parsers import create_parser

from sagemaker_local import service_model
from sagemaker_local.aws_errors import AwsError

# Services by the names that requests are signed for, and by what X-Amz-Target begins with.
SERVICES = {
    "apigateway": "apigateway",
    "ec2": "ec2",
    "iam": "iam",
    "lambda": "lambda",
    "s3": "s3",
    "sagemaker": "sagemaker-runtime",
    "sts": "sts",
}
TARGETS = {
    "AmazonEC2ContainerServiceV20141113": "ecs",
    "Logs_20140328": "logs",
    "SageMaker": "sagemaker",
    "ServiceQuotasV20190624": "service-quotas",
}
# Headers of Signature Version 4, of the protocols and of the SDKs: no parameters of operations.
PROTOCOL_HEADERS = {
    "x-amz-api-version",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-target",
    "x-amz-trailer",
}
# What is longer is the content of an object, if it is no JSON, and no parameter.
LONGEST = 2**20
_SIGNED_FOR = re.compile(r"Credential=([^/]+)/\d+/[\w-]+/([\w-]+)/aws4_request")


WireRequest = tuple[str, str, Message, bytes, int]


@dataclass(frozen=True)
class AwsRequest:
    """One request.

    Attributes:
        service: By botocore's name, such as `s3`.
        operation: Such as `PutObject`.
        parameters: By the names of the operation's model; without what objects and pictures hold.
        status: Of the answer.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    status: int

    @property
    def model(self) -> OperationModel:
        """botocore's of the operation."""
        return service(self.service).operation_model(self.operation)

    def problems(self) -> str:
        """Why the request is not valid by the model; empty where it is."""
        try:
            service_model.check(self.model.input_shape, dict(self.parameters))
        except AwsError as error:
            return f"{self.service} {self.operation}: {error}"
        return ""


@dataclass
class Recorder:
    """Keeps requests, as long as a sender is named.

    Attributes:
        sender: Whose requests they are; empty for a test's own, which are not kept.
        by_key: Whether it is the access key that names the sender.
    """

    sender: str = ""
    by_key: bool = False
    _sent: list[tuple[str, WireRequest]] = field(default_factory=list)

    def keep(self, request: BaseHTTPRequestHandler, body: bytes, status: int) -> None:
        """What a front observes."""
        signed = _SIGNED_FOR.search(request.headers.get("Authorization", ""))
        sender = signed[1] if self.by_key and signed else self.sender
        if sender:
            kept = len(body) <= LONGEST or "json" in request.headers.get("Content-Type", "")
            what = body if kept else b""
            sent = request.command, request.path, request.headers, what, status
            self._sent.append((sender, sent))

    @contextmanager
    def sent_by(self, sender: str) -> Iterator[None]:
        """Keep what is sent meanwhile."""
        self.sender = sender
        try:
            yield
        finally:
            self.sender = ""

    def requests(self) -> list[tuple[str, AwsRequest]]:
        """Sender and request, in their order.

        Raises:
            ValueError: One of them is no operation of AWS's.
        """
        return [(sender, read_request(*request)) for sender, request in self._sent]


def read_request(
    method: str, target: str, headers: Message, body: bytes, status: int
) -> AwsRequest:
    """What a request asks for.

    Args:
        method: Of HTTP.
        target: Path and query, as sent.
        headers: As sent.
        body: As sent, or nothing where it is an object's content.
        status: Of the answer.

    Raises:
        ValueError: It is no operation that botocore knows, or has parameters that are none of it.
    """
    if named := headers.get("X-Amz-Target"):
        prefix, operation = named.split(".")
        return AwsRequest(TARGETS[prefix], operation, json.loads(body), status)
    signed = _SIGNED_FOR.search(headers.get("Authorization", ""))
    if signed is None:
        raise ValueError(f"{method} {target} is not signed")
    name = SERVICES[signed[2]]
    if service(name).resolved_protocol in {"query", "ec2"}:
        parameters = dict(parse_qsl(body.decode()))
        del parameters["Version"]
        operation = service(name).operation_model(parameters.pop("Action"))
        return AwsRequest(name, operation.name, _with_lists(operation, parameters), status)
    operation, parameters = _read_rest(service(name), method, target, headers, body)
    return AwsRequest(name, operation.name, parameters, status)


@cache
def service(name: str) -> ServiceModel:
    """botocore's model of a service, read anew: clients of S3 cut the buckets out of theirs."""
    loader = Loader(file_loader=JSONFileLoader())
    return ServiceModel(loader.load_service_model(name, "service-2"), name)


def _read_rest(
    model: ServiceModel, method: str, target: str, headers: Message, body: bytes
) -> tuple[OperationModel, dict[str, Any]]:
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    given = {*query.items(), *((name, "") for name in (*query, *map(str.lower, headers)))}
    candidates = [
        (len(asked), not operation.deprecated, operation, match.groupdict())
        for operation in map(model.operation_model, model.operation_names)
        if operation.http["method"] == method
        if (match := _path_pattern(operation.http["requestUri"]).fullmatch(parts.path))
        if (asked := set(_distinguishing_parameters(operation))) <= given
    ]
    if not candidates:
        raise ValueError(f"{method} {target} is no operation of {model.service_name}")
    _, _, operation, arguments = max(candidates, key=lambda candidate: candidate[:2])
    shape = operation.input_shape
    if shape is None:
        return operation, {}
    _refuse_unknown(operation, shape, query, headers)
    places = {"uri": {name: unquote(value) for name, value in arguments.items()}}
    places["querystring"] = query
    parameters = {
        name: int(value) if member.type_name in {"integer", "long"} else value
        for name, member in shape.members.items()
        if (place := places.get(member.serialization.get("location", "")))
        if (value := place.get(_wire_name(shape, name))) is not None
    }
    return operation, parameters | _parsed(model, shape, headers, body)


def _with_lists(operation: OperationModel, given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a form, in which EC2 has lists as `Name.1`, `Name.2`."""
    members = operation.input_shape.members if operation.input_shape else {}
    lists = {
        name: [value for key, value in given.items() if key.startswith(f"{_query_name(one)}.")]
        for name, one in members.items()
        if one.type_name == "list"
    }
    scalars = {name: value for name, value in given.items() if "." not in name}
    return scalars | {name: values for name, values in lists.items() if values}


def _query_name(member: Shape) -> str:
    return str(member.serialization.get("name", member.name))


@cache
def _path_pattern(uri: str) -> re.Pattern[str]:
    """Of an operation's path: `/{Bucket}/{Key+}?uploads` for instance."""
    parts = re.split(r"\{(\w+\+?)\}", uri.partition("?")[0].rstrip("/"))
    patterns = [
        f"(?P<{part.rstrip('+')}>{'.+' if part.endswith('+') else '[^/]+'})"
        if number % 2
        else re.escape(part)
        for number, part in enumerate(parts)
    ]
    return re.compile("".join(patterns) + "/?")


def _distinguishing_parameters(operation: OperationModel) -> Iterator[tuple[str, str]]:
    """Names, and their values where these are fixed, that no other operation of the path has."""
    yield from parse_qsl(operation.http["requestUri"].partition("?")[2], keep_blank_values=True)
    shape = operation.input_shape
    if shape is None:
        return
    for name in shape.required_members:
        place = shape.members[name].serialization.get("location")
        if place in {"querystring", "header"}:
            wire = _wire_name(shape, name)
            yield (wire.lower() if place == "header" else wire), ""


def _wire_name(shape: StructureShape, name: str) -> str:
    return shape.members[name].serialization.get("name", name)


def _refuse_unknown(
    operation: OperationModel, shape: StructureShape, query: Mapping[str, str], headers: Message
) -> None:
    known = {_wire_name(shape, name).lower() for name in shape.members}
    known |= {name.lower() for name, _ in _distinguishing_parameters(operation)}
    given = {name.lower() for name in headers if name.lower().startswith("x-amz-")}
    prefixes = ["x-amz-checksum-"] if operation.http_checksum else []
    for name, member in shape.members.items():
        if member.serialization.get("location") == "headers":
            prefixes.append(_wire_name(shape, name).lower())
    # One that is a map takes all names.
    if not any(
        member.type_name == "map" and member.serialization.get("location") == "querystring"
        for member in shape.members.values()
    ):
        given |= set(map(str.lower, query))
    unknown = [
        name for name in given - known - PROTOCOL_HEADERS if not name.startswith(tuple(prefixes))
    ]
    if unknown:
        raise ValueError(f"{operation.name} has no {', '.join(sorted(unknown))}")


def _parsed(
    model: ServiceModel, shape: StructureShape, headers: Message, body: bytes
) -> dict[str, Any]:
    """The parameters in headers and body: they are written as those of answers are."""
    payload = shape.serialization.get("payload", "")
    is_content = bool(payload) and shape.members[payload].type_name == "blob"
    answer = {"status_code": 200, "headers": headers, "body": b"" if is_content else body}
    parsed = create_parser(model.resolved_protocol).parse(answer, shape)
    parameters = {
        name: value
        for name, value in parsed.items()
        if name in shape.members and value not in ("", [], {})
    }
    return parameters | ({payload: ""} if is_content else {})
