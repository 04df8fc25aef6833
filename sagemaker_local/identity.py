"""The little of IAM and STS that SageMaker's SDK v3 asks: who calls, and what a role may do.

Both speak AWS's query protocol: a form in, XML out. Nothing is stored: the one key pair may do
everything, and a role exists if its name has the right form.
Source: https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl, quote
from xml.etree import ElementTree

from botocore.model import ListShape, Shape, StructureShape

from sagemaker_local import service_model
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config

# A query's services by the name that their requests are signed for.
SERVICES = frozenset({"iam", "sts"})
_USER = "sagemaker-local"
_ENTITY = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(user|group|role)/.+")
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def answer(config: Config, service: str, body: bytes, request_id: str) -> bytes:
    """Runs an operation.

    Args:
        config: For the account in every ARN.
        service: `iam` or `sts`, what the request was signed for.
        body: The form: `Action`, `Version` and the operation's members.
        request_id: What the answer names itself.

    Returns:
        XML.

    Raises:
        AwsError: The operation is not known here, or refuses its input.
    """
    try:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    except ValueError:
        raise AwsError("MalformedInput", "The body is not a form.") from None
    action = form.get("Action", "")
    run = _OPERATIONS.get((service, action))
    if run is None:
        raise AwsError("InvalidAction", f"The action {action} is not known here.")
    operation = service_model.operation(service, action)
    shape = cast("StructureShape | None", operation.input_shape)
    document = _document(shape, form) if shape is not None else {}
    try:
        checked = service_model.check(shape, document)
    except AwsError as error:
        raise AwsError("ValidationError", error.message) from None
    root = ElementTree.Element(
        f"{action}Response", xmlns=service_model.service(service).metadata["xmlNamespace"]
    )
    if operation.output_shape is not None:
        result = ElementTree.SubElement(root, f"{action}Result")
        _write(result, operation.output_shape, run(config, checked))
    metadata = ElementTree.SubElement(root, "ResponseMetadata")
    ElementTree.SubElement(metadata, "RequestId").text = request_id
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def error_body(error: AwsError, request_id: str) -> bytes:
    """An error as the query protocol writes it."""
    root = ElementTree.Element("ErrorResponse")
    inner = ElementTree.SubElement(root, "Error")
    ElementTree.SubElement(inner, "Type").text = "Sender" if error.status < 500 else "Receiver"
    ElementTree.SubElement(inner, "Code").text = error.code
    ElementTree.SubElement(inner, "Message").text = error.message
    ElementTree.SubElement(root, "RequestId").text = request_id
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def user_context(config: Config) -> dict[str, Any]:
    """The `UserContext` of every request: that of the user who has the one key pair."""
    caller = _get_caller_identity(config, {})
    return {"IamIdentity": {"Arn": caller["Arn"], "PrincipalId": caller["UserId"]}}


def _get_caller_identity(config: Config, _: Mapping[str, Any]) -> dict[str, Any]:
    arn = f"arn:aws:iam::{config.account}:user/{_USER}"
    return {"UserId": _unique_id("AIDA", arn), "Account": config.account, "Arn": arn}


def _get_role(config: Config, request: Mapping[str, Any]) -> dict[str, Any]:
    name = request["RoleName"]
    arn = f"arn:aws:iam::{config.account}:role/{name}"
    role = {
        "Path": "/",
        "RoleName": name,
        "RoleId": _unique_id("AROA", arn),
        "Arn": arn,
        "CreateDate": datetime(2020, 1, 1, tzinfo=UTC),
        "AssumeRolePolicyDocument": quote(json.dumps(_TRUST)),
        "MaxSessionDuration": 3600,
    }
    return {"Role": role}


def _simulate_principal_policy(_: Config, request: Mapping[str, Any]) -> dict[str, Any]:
    arn = request["PolicySourceArn"]
    if not _ENTITY.fullmatch(arn):
        raise AwsError(
            "InvalidInput",
            f"Invalid Entity Arn: {arn} does not clearly define entity type and name.",
        )
    results = [
        {
            "EvalActionName": action,
            "EvalResourceName": resource,
            "EvalDecision": "allowed",
            "MatchedStatements": [],
            "MissingContextValues": [],
        }
        for action in request["ActionNames"]
        for resource in request.get("ResourceArns") or ["*"]
    ]
    return {"EvaluationResults": results, "IsTruncated": False}


_OPERATIONS: dict[tuple[str, str], Callable[[Config, Mapping[str, Any]], dict[str, Any]]] = {
    ("sts", "GetCallerIdentity"): _get_caller_identity,
    ("iam", "GetRole"): _get_role,
    ("iam", "SimulatePrincipalPolicy"): _simulate_principal_policy,
}


def _unique_id(prefix: str, arn: str) -> str:
    """An id as IAM's are: the prefix of its kind and capitals; the same at every start."""
    return prefix + hashlib.sha256(arn.encode()).hexdigest()[:17].upper()


def _document(shape: StructureShape, form: Mapping[str, str]) -> dict[str, Any]:
    """The members of a request that are text, numbers or lists of text; others are left out."""
    document: dict[str, Any] = {}
    for name, member in shape.members.items():
        if isinstance(member, ListShape):
            # `Name.member.1`, `Name.member.2`, …
            prefix = f"{name}.member."
            numbered = [
                (int(key[len(prefix) :]), value)
                for key, value in form.items()
                if key.startswith(prefix) and key[len(prefix) :].isdecimal()
            ]
            if numbered:
                document[name] = [value for _, value in sorted(numbered)]
        elif name in form:
            text = form[name]
            whole = member.type_name in ("integer", "long") and text.isdecimal()
            document[name] = int(text) if whole else text
    return document


def _write(parent: ElementTree.Element, shape: Shape, value: Any) -> None:
    """Writes a value into its element; members that are absent are left out."""
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if value.get(name) is not None:
                _write(ElementTree.SubElement(parent, name), member, value[name])
    elif isinstance(shape, ListShape):
        for item in value:
            _write(ElementTree.SubElement(parent, "member"), shape.member, item)
    elif isinstance(value, bool):
        parent.text = "true" if value else "false"
    elif isinstance(value, datetime):
        parent.text = value.strftime("%Y-%m-%dT%H:%M:%SZ")
    else:
        parent.text = str(value)
