"""The parts of a request: its API key, its body, its batch; checked before anything is done."""

from __future__ import annotations

import base64
import binascii
import email
import email.message
import email.utils
import hmac
import json
from typing import TYPE_CHECKING

from api.errors import (
    BadRequestError,
    MediaTypeError,
    TooLargeError,
    UnauthorizedError,
    UnreadableError,
)
from api.recognition import PICTURE_LIMITS
from api.settings import digest_of
from formats.digit_pictures import FORMATS, PictureDamagedError, PictureError

if TYPE_CHECKING:
    from chalice.app import Request

    from api.settings import ApiSettings

MAX_BATCH_BYTES = 5_500_000
MAX_BATCH = 1000

FORM = "multipart/form-data"
PICTURE_TYPES = [
    *FORMATS.values(),
    "image/heif",
    "image/jpg",
    "image/pjpeg",
    "image/x-png",
    FORM,
]
"""The media types of pictures: the official names, others in use, and forms."""


def require_key(request: Request, settings: ApiSettings) -> None:
    """Checks the request's API key, if the settings have one.

    Raises:
        UnauthorizedError: It is missing or wrong.
    """
    digest = settings.key_digest
    if digest is None:
        return
    if not hmac.compare_digest(digest_of(request.headers.get("x-api-key", "")), digest):
        raise UnauthorizedError("Name the API key in the header x-api-key.")


def body_of(request: Request, limit: int) -> bytes:
    """The request's body.

    Raises:
        BadRequestError: There is none, or it is not what its encoding says.
        TooLargeError: It has more bytes than the limit.
    """
    try:
        raw = request.raw_body
    except (ValueError, binascii.Error) as error:
        raise BadRequestError("The body is not the base64 that the gateway says it is.") from error
    body = raw.encode() if isinstance(raw, str) else raw
    if len(body) > limit:
        raise TooLargeError(f"The body has {len(body):,} bytes; at most {limit:,} are read.")
    if not body:
        raise BadRequestError("The request has no body: send the bytes of a picture.")
    return body


def require_type(request: Request, types: list[str]) -> str:
    """The body's media type, without parameters.

    Raises:
        MediaTypeError: It is none of these.
    """
    media_type = _content_type(request).get_content_type()
    if "content-type" in request.headers and media_type in types:
        return media_type
    raise MediaTypeError(
        f"The body is {media_type if 'content-type' in request.headers else 'of no type'}; "
        f"what is read here is {', '.join(types)}: name one of them in the header Content-Type. "
        "Save a picture of another kind, such as GIF or TIFF, as JPEG or PNG."
    )


def picture_of(request: Request) -> bytes:
    """The picture that a request is, or the first file with content of the form that it is.

    Raises:
        ApiError: It is of another type, too large, empty, or a form without a file.
    """
    media_type = require_type(request, PICTURE_TYPES)
    body = body_of(request, PICTURE_LIMITS.max_bytes)
    if media_type != FORM:
        return body
    boundary = _content_type(request).get_boundary("").encode("utf-8", "replace")
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary) if boundary else []
    for part in parts[1:]:
        head, _, content = part.partition(b"\r\n\r\n")
        # An input for a file that nobody chose comes as a file without name and content.
        if content and _file_name(head):
            return content
    raise BadRequestError("The form holds no file with content: send the picture as a file of it.")


def _file_name(head: bytes) -> str:
    """The name of a part that is a file, by its headers; empty of any other."""
    # Before the first line break, the boundary's own line ends.
    headers = email.message_from_bytes(head.partition(b"\r\n")[2])
    name = headers.get_param("filename", "", "content-disposition")
    return email.utils.collapse_rfc2231_value(name)


def _content_type(request: Request) -> email.message.Message:
    """The header, as something that knows its parameters."""
    message = email.message.Message()
    message["content-type"] = " ".join(request.headers.get("content-type", "").split())
    return message


def batch_of(body: bytes) -> list[bytes | PictureError]:
    """The pictures of a batch in their order; an error stands for one that is no base64.

    Raises:
        BadRequestError: It is not JSON.
        TooLargeError: There are too many.
        UnreadableError: It has not the form of a batch.
    """
    try:
        batch = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError('The body is not JSON: send {"images": ["<base64>", …]}.') from error
    images = batch.get("images") if isinstance(batch, dict) else None
    if not isinstance(images, list):
        raise UnreadableError('A batch is {"images": ["<base64 of a picture>", …]}.')
    if len(images) > MAX_BATCH:
        raise TooLargeError(f"A batch holds at most {MAX_BATCH:,} pictures, not {len(images):,}.")
    return [_picture(image) for image in images]


def _picture(image: object) -> bytes | PictureError:
    if not isinstance(image, str):
        return PictureDamagedError("A picture in a batch is text: the base64 of its bytes.")
    # As browsers give it: a data URL; as mail and command lines do: in lines, or safe for URLs.
    text = image.partition(",")[2] if image.startswith("data:") else image
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return PictureDamagedError("This is not base64 of a picture.")
