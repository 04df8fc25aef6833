"""The server's access to S3: does an object exist, list a prefix, download, upload.

Children never talk to S3: as on AWS, an agent beside the container moves the data.
"""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import botocore.session
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from formats import s3_uri
from sagemaker_local.config import Config

_CHUNK = 1024 * 1024
_MANIFEST_BYTES = 16 * 1024 * 1024


class StorageError(Exception):
    """S3 refused, has no such object, or did not answer."""


@dataclass(frozen=True)
class Location:
    """Bucket and key, or key prefix, of an S3 URI."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Location:
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


class Storage:
    """S3, with the server's own credentials. Safe to use from several threads."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._created: Any = None

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._created is None:
                self._created = botocore.session.get_session().create_client(
                    "s3",
                    region_name=self._config.region,
                    endpoint_url=self._config.s3_endpoint,
                    aws_access_key_id=self._config.access_key,
                    aws_secret_access_key=self._config.secret_key,
                    config=BotoConfig(
                        retries={"mode": "standard", "max_attempts": 4},
                        connect_timeout=5,
                        read_timeout=60,
                        s3={"addressing_style": "path"} if self._config.s3_endpoint else {},
                    ),
                )
            return self._created

    def exists(self, uri: str) -> bool:
        """Whether there is an object of exactly this key."""
        location = Location.parse(uri)
        try:
            self._client.head_object(Bucket=location.bucket, Key=location.key)
        except ClientError as error:
            if _code(error) in ("404", "NoSuchKey", "NoSuchBucket", "NotFound"):
                return False
            raise StorageError(str(error)) from error
        except BotoCoreError as error:
            raise StorageError(str(error)) from error
        return True

    def list_prefix(self, uri: str) -> list[Location]:
        """The objects whose keys begin with the URI's key, in order, without folder markers."""
        location = Location.parse(uri)
        locations: list[Location] = []
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=location.bucket, Prefix=location.key
            ):
                locations.extend(
                    Location(location.bucket, item["Key"])
                    for item in page.get("Contents", [])
                    if not item["Key"].endswith("/")
                )
        except (ClientError, BotoCoreError) as error:
            raise StorageError(_message(error)) from error
        return locations

    def list_manifest(self, uri: str) -> list[Location]:
        """The objects that a manifest file names: `[{"prefix": "s3://…/"}, "file", …]`."""
        location = Location.parse(uri)
        try:
            answer = self._client.get_object(Bucket=location.bucket, Key=location.key)
            text = answer["Body"].read(_MANIFEST_BYTES)
        except (ClientError, BotoCoreError) as error:
            raise StorageError(_message(error)) from error
        try:
            head, *names = cast(list[Any], json.loads(text))
            prefix = str(head["prefix"])
            return [Location.parse(prefix + str(name)) for name in names]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{uri} is not a manifest file") from error

    def fetch(self, location: Location, path: Path) -> int:
        """Writes an object to a file and returns its size in bytes; never half a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        try:
            answer = self._client.get_object(Bucket=location.bucket, Key=location.key)
            with part.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    file.write(chunk)
        except (ClientError, BotoCoreError, OSError) as error:
            part.unlink(missing_ok=True)
            raise StorageError(_message(error)) from error
        shutil.move(part, path)
        return path.stat().st_size

    def put(self, path: Path, location: Location) -> None:
        """Uploads a file in one request."""
        try:
            with path.open("rb") as file:
                self._client.put_object(Bucket=location.bucket, Key=location.key, Body=file)
        except (ClientError, BotoCoreError) as error:
            raise StorageError(_message(error)) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Message", error))
    # The operating system's words without the name of a local file.
    return str(getattr(error, "strerror", None) or error)
