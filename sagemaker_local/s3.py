"""The server's access to S3: does an object exist, list a prefix, download, upload.

Children never talk to S3: as on AWS, an agent beside the container moves the data.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import botocore.session
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from sagemaker_local.config import Config
from sagemaker_local.formats import s3_uri

_CHUNK = 1024 * 1024
_FAULT = 500
_MANIFEST_BYTES = 16 * 1024 * 1024


class StorageError(Exception):
    """S3 refused, has no such object, or did not answer."""


@dataclass(frozen=True)
class Location:
    """Bucket and key, or key prefix, of an S3 URI."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Reads `s3://bucket/key`.

        Raises:
            StorageError: It is no such URI.
        """
        try:
            return cls(*s3_uri.parse(uri))
        except ValueError:
            raise StorageError(f"{uri} is not an S3 URI") from None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class InputObject(NamedTuple):
    """An object of a job's input, and its name below the place that the request names."""

    location: Location
    name: str


class Storage:
    """S3, with the server's own credentials. Safe to use from several threads."""

    def __init__(self, config: Config) -> None:
        self._client: Any = botocore.session.get_session().create_client(
            "s3",
            region_name=config.region,
            endpoint_url=config.s3_endpoint,
            aws_access_key_id=config.access_key,
            aws_secret_access_key=config.secret_key,
            config=BotoConfig(
                retries={"mode": "standard", "max_attempts": 4},
                connect_timeout=5,
                read_timeout=60,
                s3={"addressing_style": "path"} if config.s3_endpoint else {},
            ),
        )

    def exists(self, uri: str) -> bool:
        """Whether S3 shows an object of exactly this key."""
        try:
            location = Location.parse(uri)
            self._client.head_object(Bucket=location.bucket, Key=location.key)
        except (StorageError, ClientError, BotoCoreError):
            return False
        return True

    def list_prefix(self, uri: str) -> list[InputObject]:
        """The objects whose keys begin with the URI's key, in order, without folder markers.

        Their names are what their keys have beyond the folder that the URI names or lies in.
        """
        location = Location.parse(uri)
        with _translated():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=location.bucket, Prefix=location.key
            )
            return [
                InputObject(
                    Location(location.bucket, item["Key"]), _beyond(location.key, item["Key"])
                )
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            ]

    def list_manifest(self, uri: str) -> list[InputObject]:
        """The objects that a manifest file names: `[{"prefix": "s3://…/"}, "file", …]`."""
        location = Location.parse(uri)
        with _translated():
            answer = self._client.get_object(Bucket=location.bucket, Key=location.key)
            text = answer["Body"].read(_MANIFEST_BYTES)
        try:
            head, *names = cast(list[Any], json.loads(text))
            prefix = str(head["prefix"])
            return [InputObject(Location.parse(prefix + str(name)), str(name)) for name in names]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{uri} is not a manifest file") from error

    def fetch(
        self, location: Location, path: Path, check_cancelled: Callable[[], None] = lambda: None
    ) -> None:
        """Writes an object to a file; never half a file.

        Args:
            location: The object.
            path: The file.
            check_cancelled: Called with each megabyte; what it raises ends the download.
        """
        part = path.with_name(path.name + ".part")
        with _translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                answer = self._client.get_object(Bucket=location.bucket, Key=location.key)
                with part.open("wb") as file:
                    for chunk in answer["Body"].iter_chunks(_CHUNK):
                        check_cancelled()
                        file.write(chunk)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        part.replace(path)

    def put(self, path: Path, location: Location) -> None:
        """Uploads a file in one request."""
        with _translated(), path.open("rb") as file:
            self._client.put_object(Bucket=location.bucket, Key=location.key, Body=file)

    def put_bytes(self, body: bytes, location: Location, kms_key_id: str | None) -> None:
        """Uploads an object, which S3 encrypts with a key of KMS where one is named."""
        key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id} if kms_key_id else {}
        with _translated():
            self._client.put_object(Bucket=location.bucket, Key=location.key, Body=body, **key)


def _beyond(prefix: str, key: str) -> str:
    folder = f"{prefix}/" if key.startswith(f"{prefix}/") else prefix[: prefix.rfind("/") + 1]
    return key[len(folder) :]


@contextmanager
def _translated() -> Iterator[None]:
    """Makes a StorageError of what S3 answers, of what keeps it from answering, and of the disk."""
    try:
        yield
    except ClientError as error:
        words = str(error.response.get("Error", {}).get("Message", error))
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _FAULT:
            words += " (S3 has a fault, as when its disk is full)"
        raise StorageError(words) from error
    except (BotoCoreError, OSError) as error:
        # The operating system's words without the name of a local file.
        raise StorageError(str(getattr(error, "strerror", None) or error)) from error
