"""Bodies of requests: how long they may be, and how they are packed."""

import json
import zlib
from typing import Any

from starlette.requests import Request

from sagemaker_local.aws_errors import AwsError

_CONTROL_BYTES = 1024 * 1024


async def control(request: Request) -> bytes:
    """The body of any other request than InvokeEndpoint's.

    Raises:
        AwsError: It is too long.
    """
    body = await whole(request, _CONTROL_BYTES)
    if body is None:
        raise _too_large()
    return body


async def whole(request: Request, limit: int) -> bytes | None:
    """The whole body, or None if it is longer than the limit."""
    if int(request.headers.get("content-length", "0")) > limit:
        # Read and dropped: a client that still sends would see a broken connection, not the answer.
        async for _ in request.stream():
            pass
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
    return b"".join(chunks) if size <= limit else None


def unpacked(request: Request, body: bytes) -> bytes:
    """A body without the gzip that clients put around a large PutMetricData.

    Raises:
        AwsError: It is no gzip, or too long.
    """
    if request.headers.get("content-encoding") != "gzip":
        return body
    unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = unpacking.decompress(body, _CONTROL_BYTES)
    except zlib.error:
        raise AwsError("SerializationException", "The body is not gzip.") from None
    if not unpacking.eof:
        raise _too_large()
    return plain


def read_json(body: bytes) -> Any:
    """A document; an empty one of an empty body.

    Raises:
        AwsError: It is not JSON.
    """
    try:
        return json.loads(body or b"{}")
    except ValueError:
        raise AwsError("SerializationException", "The body is not JSON.") from None


def _too_large() -> AwsError:
    return AwsError("RequestEntityTooLargeException", "The request is too large.", 413)
