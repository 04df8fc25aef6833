"""Smithy RPC v2 CBOR, which some SDKs use for CloudWatch; boto3 uses JSON.

Source: https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

from datetime import datetime
from typing import Any, cast

import cbor2
from botocore.model import ListShape, Shape, StructureShape

from sagemaker_local import service_model
from sagemaker_local.aws_errors import AwsError

PROTOCOL = {"smithy-protocol": "rpc-v2-cbor"}
MEDIA_TYPE = "application/cbor"
# Tag 1 of CBOR: seconds since 1970.
_EPOCH = 1
# CloudWatch's older name for what the service model forbids.
_OLDER = {"ValidationException": "ValidationError"}


def read(body: bytes) -> Any:
    """A request as JSON would have it, moments as seconds since 1970.

    Raises:
        AwsError: It is not CBOR.
    """
    try:
        return _plain(cbor2.loads(body)) if body else {}
    except (cbor2.CBORDecodeError, RecursionError):
        raise AwsError("SerializationException", "The body is not CBOR.") from None


def dumps(shape: Shape | None, answer: Any) -> bytes:
    """An answer in the types of its shape; nothing where the operation has none."""
    return b"" if shape is None else cbor2.dumps(_typed(shape, answer))


def error_body(error: AwsError) -> bytes:
    """An error in the protocol's form."""
    return cbor2.dumps({"__type": error.code, "message": error.message})


def error_headers(error: AwsError) -> dict[str, str]:
    """The headers of an error in this protocol."""
    return PROTOCOL | query_error(error)


def query_error(error: AwsError) -> dict[str, str]:
    """Which error it is to clients that know CloudWatch's codes from its oldest protocol."""
    model = service_model.service(service_model.CLOUDWATCH_PREFIX)
    code = _OLDER.get(error.code, error.code)
    if error.code in model.shape_names:
        code = cast("StructureShape", model.shape_for(error.code)).error_code or code
    side = "Sender" if error.status < 500 else "Receiver"
    return {"x-amzn-query-error": f"{code};{side}"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value.timestamp() if isinstance(value, datetime) else value


def _typed(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape):
        return {name: _typed(shape.members[name], member) for name, member in value.items()}
    if isinstance(shape, ListShape):
        return [_typed(shape.member, member) for member in value]
    if shape.type_name == "timestamp":
        return cbor2.CBORTag(_EPOCH, value)
    return float(value) if shape.type_name == "double" else value
