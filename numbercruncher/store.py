"""The object store as the number cruncher uses it: one bucket, few operations, errors that speak.

Which keys mean what is known elsewhere.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.utils import parse_timestamp
from urllib3.exceptions import HTTPError

from numbercruncher.errors import MissingObjectError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 16


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    bytes: int
    etag: str


class Content:
    """An object's content as it arrives, with its digest: a file to whoever reads it."""

    def __init__(
        self, body: "StreamingBody", speaking: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._body = body
        self._speaking = speaking
        self._digest = hashlib.sha256()
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size` of them; none at the end.

        Raises:
            StoreUnavailableError: the connection broke before the end.
        """
        with self._speaking():
            data = self._body.read(None if size < 0 else size)
        self._digest.update(data)
        return data

    def finish(self) -> str:
        """Reads what is left and returns the sha256 of everything."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


class Store:
    """One bucket of S3 or of what speaks like it; safe to use from several threads."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self._client = _client()

    def entries(self, prefix: str, *, after: str = "") -> Iterator[Entry]:
        """All objects under a prefix whose keys come after one, in the order of their keys."""
        with self._speaking(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=after
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    yield Entry(
                        entry.get("Key", ""), entry.get("Size", 0), entry.get("ETag", "").strip('"')
                    )

    def get(self, key: str) -> bytes:
        """An object's content.

        Raises:
            MissingObjectError: there is none.
        """
        with self._speaking(key):
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def get_many(self, keys: list[str]) -> dict[str, bytes]:
        """The content of many small objects, read side by side; missing ones are left out."""

        def get(key: str) -> bytes | None:
            try:
                return self.get(key)
            except MissingObjectError:
                return None

        if not keys:
            return {}
        with ThreadPoolExecutor(min(CONNECTIONS, len(keys))) as pool:
            contents = list(pool.map(get, keys))
        return {key: data for key, data in zip(keys, contents, strict=True) if data is not None}

    @contextmanager
    def open(self, key: str) -> Iterator["Content"]:
        """An object's content as a stream.

        Raises:
            MissingObjectError: there is none.
        """
        with self._speaking(key):
            body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
        try:
            yield Content(body, lambda: self._speaking(key))
        finally:
            body.close()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Writes an object."""
        with self._speaking(key):
            self._client.put_object(
                Bucket=self.bucket, Key=key, Body=data, ContentType=content_type
            )

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is all right."""
        with self._speaking(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    @contextmanager
    def _speaking(self, key: str) -> Iterator[None]:
        place = f"s3://{self.bucket}/{key}"
        try:
            yield
        except ClientError as error:
            raise _translate(error, self.bucket, place) from error
        except NoCredentialsError as error:
            raise StoreError(
                f"There are no AWS credentials to reach {place} with; provide some to the"
                " process that runs Dagster."
            ) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise StoreUnavailableError(
                f"{place} could not be reached ({type(error).__name__}: {error}); check that the"
                " store runs and that its endpoint is right, then run this again."
            ) from error


def _client() -> "S3Client":
    """A client of AWS, or in path style of the endpoint that the environment names."""
    core = botocore.session.get_session()
    parsers = core.get_component("response_parser_factory")
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    session = boto3.Session(botocore_session=core)
    client = _new_client(session, "auto")
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        client = _new_client(session, "path")
    client.meta.events.register("before-sign.s3.PutObject", _without_expect)
    return client


def _timestamp(text: str) -> datetime:
    """As botocore reads it, which guesses the format anew for each of a listing's entries."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parse_timestamp(text)


def _without_expect(request: AWSRequest, **_: object) -> None:
    """Sends a body at once: what is written here is small, and to ask first takes as long."""
    del request.headers["Expect"]


def _new_client(session: boto3.Session, addressing_style: str) -> "S3Client":
    return session.client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 5},
            s3={"addressing_style": addressing_style},  # pyright: ignore[reportArgumentType]
        ),
    )


def _translate(error: ClientError, bucket: str, place: str) -> Exception:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return StoreError(
            f"The bucket {bucket} does not exist; create it or correct PLATFORM_AIRBNB_BUCKET."
        )
    if code in ("NoSuchKey", "404"):
        return MissingObjectError(f"There is no object {place}.")
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
        return StoreError(f"The AWS credentials are not accepted for {place} ({code}); renew them.")
    if code in ("AccessDenied", "403"):
        return StoreError(
            f"Access to {place} is denied; give the credentials s3:ListBucket, s3:GetObject,"
            " s3:PutObject and s3:DeleteObject there."
        )
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
        return StoreUnavailableError(
            f"The store failed on {place} ({code or status}); run this again later."
        )
    return StoreError(f"The store refuses the request for {place} ({code}): {error}.")
