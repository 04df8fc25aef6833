"""The S3 resource: single objects read, written, copied, listed and removed, with typed errors.

Its client tries single requests again: those that are throttled (SlowDown), unanswered or failed.
What makes a set of objects a published one (the manifest) is in `published.py`.
"""

import hashlib
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import dagster as dg
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from pydantic import Field, PrivateAttr

from resources.s3.errors import (
    ObjectChangedError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreError,
    StoreRequestError,
    store_errors,
)
from resources.s3.streams import CHECKSUM, MIB, ObjectReader, ObjectWriter

if TYPE_CHECKING:
    from _typeshed import SupportsRead
    from mypy_boto3_s3 import S3Client

# How long each attempt waits for a connection, and for the next bytes.
_CONNECT_SECONDS, _READ_SECONDS = 5, 60
_LARGEST_DELETE = 1000
_MAKING = threading.Lock()
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ObjectInfo:
    """What the store says of an object: size in bytes, ETag in quotes, last write to the second."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class StoredObject:
    """An object that was just written or read whole: key, size in bytes, ETag, sha256 (hex)."""

    key: str
    size: int
    etag: str
    sha256: str


class ObjectStore(dg.ConfigurableResource[Any]):
    """One bucket of an S3 store.

    Endpoint, region and credentials come from boto3's standard environment variables and files, so
    that the same configuration works on AWS and on a laptop. Requests are retried with backoff and
    jitter by botocore; what still fails is raised as one of the kinds in `resources.s3.errors`.
    """

    bucket: str = Field(description="Name of the bucket.")
    kms_key_id: str | None = Field(
        default=None,
        description="KMS key that encrypts what is written; the bucket's default where empty.",
    )
    max_attempts: int = Field(
        default=5, ge=1, description="How often a request is made before its failure counts."
    )

    _client: "S3Client | None" = PrivateAttr(default=None)

    @property
    def client(self) -> "S3Client":
        """The boto3 client, for what this class does not offer; safe to share among threads."""
        with _MAKING:
            if self._client is None:
                self._client = self._make_client()
        return self._client

    def _make_client(self) -> "S3Client":
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": self.max_attempts},
            max_pool_connections=50,
            user_agent_extra="dagster-data-platform",
        )
        # A session of its own: boto3's default session is not safe among threads.
        session = boto3.session.Session()
        with store_errors("reach", bucket=self.bucket):
            # Each of its overloads for services whose stubs are not installed is unknown.
            client = session.client("s3", config=config)  # pyright: ignore[reportUnknownMemberType]
        for request in ("PutObject", "CreateMultipartUpload", "UploadPart"):
            client.meta.events.register(f"before-sign.s3.{request}", _set_default_content_type)
        return client

    def sibling(self, bucket: str) -> "ObjectStore":
        """The same store and settings with another bucket."""
        return self.model_copy(update={"bucket": bucket})

    def uri(self, key: str) -> str:
        """The s3:// address of a key."""
        return f"s3://{self.bucket}/{key}"

    def head(self, key: str) -> ObjectInfo:
        """Asks for size and ETag.

        Raises:
            ObjectMissingError: there is no such object.
            StoreError: any other failure.
        """
        try:
            with store_errors("read", bucket=self.bucket, key=key):
                answer = self.client.head_object(Bucket=self.bucket, Key=key)
        except StoreError:
            # The answer to HEAD has no body, so its failure has no reason: ask again for one.
            with self.open(key) as reader:
                return ObjectInfo(key, reader.size, reader.etag, reader.modified)
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"], answer["LastModified"])

    def check_etag(self, key: str, etag: str | None) -> ObjectInfo:
        """As `head`, but raises ObjectChangedError if the object has another ETag than `etag`."""
        info = self.head(key)
        if etag is not None and info.etag != etag:
            raise ObjectChangedError(
                f"{self.uri(key)} was replaced: its ETag is {info.etag}, not {etag}. Run again to "
                "take the new one."
            )
        return info

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        try:
            self.head(key)
        except ObjectMissingError:
            return False
        return True

    def get_bytes(self, key: str, *, max_bytes: int) -> bytes:
        """Reads a whole object of at most `max_bytes`.

        Raises:
            ObjectTooLargeError: the object is larger; nothing was read.
            ObjectMissingError: there is no such object.
            StoreError: any other failure.
        """
        with self.open(key) as reader:
            if reader.size > max_bytes:
                raise ObjectTooLargeError(
                    f"{self.uri(key)} has {reader.size:,} bytes and at most {max_bytes:,} are read "
                    "into memory here. Check that it is the right object, or raise the limit."
                )
            return reader.readall()

    def open(self, key: str, *, etag: str | None = None) -> ObjectReader:
        """Opens an object for reading from beginning to end, without a buffer.

        Raises:
            ObjectMissingError: there is no such object.
            ObjectChangedError: the object has another ETag.
            StoreError: any other failure; `read` raises the same kinds.
        """
        return ObjectReader(self.client, self.bucket, key, etag=etag)

    def fingerprint(self, key: str, *, etag: str | None = None) -> StoredObject:
        """Reads an object, keeping nothing, for its sha256."""
        with self.open(key, etag=etag) as reader:
            digest = hashlib.file_digest(reader, "sha256")
            return StoredObject(key, reader.size, reader.etag, digest.hexdigest())

    def writer(self, key: str, *, content_type: str | None = None) -> ObjectWriter:
        """A writer whose object appears, whole, with its `complete()`; `abort()` leaves nothing."""
        options = self.write_options()
        if content_type is not None:
            options["ContentType"] = content_type
        return ObjectWriter(self.client, self.bucket, key, options=options)

    def put_bytes(self, key: str, data: bytes, *, content_type: str | None = None) -> StoredObject:
        """Writes a whole object."""
        return self.upload(key, io.BytesIO(data), content_type=content_type)

    def upload(
        self, key: str, source: "SupportsRead[bytes]", *, content_type: str | None = None
    ) -> StoredObject:
        """Writes what `source` yields, of any size, in bounded memory.

        Nothing is visible until all of it is there. Whatever ends this before, an interruption
        included, aborts the upload.
        """
        writer = self.writer(key, content_type=content_type)
        try:
            shutil.copyfileobj(source, writer, MIB)
            etag = writer.complete()
        except BaseException:
            writer.abort()
            raise
        return StoredObject(key, writer.size, etag, writer.sha256)

    def copy_from(
        self, source: "ObjectStore", source_key: str, key: str, *, etag: str | None = None
    ) -> ObjectInfo:
        """Copies an object of any size within the store, without its bytes passing through here.

        The copy has no tags.

        Args:
            source: the bucket to copy from.
            etag: copy this version or none; where None, the one that is there now. Over 8 MiB the
                copy is made in parts, each of them bound to the same version.

        Returns:
            The new object's size and ETag. The ETag differs from the source's where the copy was
            made in parts.

        Raises:
            ObjectMissingError: the source does not exist.
            ObjectChangedError: the source has another ETag.
            StoreError: any other failure; nothing was written.
        """
        pinned = source.check_etag(source_key, etag)
        action = f"copy {source.uri(source_key)} to"
        with store_errors(action, bucket=self.bucket, key=key):
            self.client.copy(
                {"Bucket": source.bucket, "Key": source_key},
                self.bucket,
                key,
                # The source's tags stay behind: they would need rights of their own.
                ExtraArgs={
                    **self.write_options(),
                    "CopySourceIfMatch": pinned.etag,
                    "TaggingDirective": "REPLACE",
                },
                SourceClient=source.client,
            )
        return self.head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose keys begin with `prefix`, ordered by key."""
        with store_errors("list", bucket=self.bucket, key=prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    # Every object S3 lists has these four; the type stubs leave it open.
                    yield ObjectInfo(
                        item.get("Key", ""),
                        item.get("Size", 0),
                        item.get("ETag", ""),
                        item.get("LastModified", _NEVER),
                    )

    def delete(self, key: str) -> None:
        """Removes an object; does nothing where there is none."""
        with store_errors("delete", bucket=self.bucket, key=key):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def delete_prefix(self, prefix: str, *, ours: Callable[[str], bool] = lambda _key: True) -> int:
        """Removes all objects whose keys begin with `prefix` and returns how many there were.

        Args:
            prefix: what the keys begin with.
            ours: says of a key whether it may go.

        Raises:
            ValueError: `prefix` is empty, which would empty the bucket.
            StoreError: some could not be removed.
        """
        if not prefix:
            raise ValueError("An empty prefix would delete the whole bucket: name one.")
        keys = [info.key for info in self.list(prefix) if ours(info.key)]
        for start in range(0, len(keys), _LARGEST_DELETE):
            batch = keys[start : start + _LARGEST_DELETE]
            with store_errors("delete", bucket=self.bucket, key=prefix):
                answer = self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
                )
            for problem in answer.get("Errors", []):
                raise StoreRequestError(
                    f"Cannot delete {self.uri(problem.get('Key', prefix))}: "
                    f"{problem.get('Code', 'no reason given')}. Allow s3:DeleteObject on it."
                )
        return len(keys)

    def abort_uploads(self, prefix: str) -> int:
        """Ends the multipart uploads that are open under `prefix`; returns how many there were.

        They are what a killed process leaves behind; S3 keeps, and charges for, their parts. An
        upload that is alive fails with ObjectChangedError.
        """
        uploads = self.client.get_paginator("list_multipart_uploads")
        count = 0
        with store_errors("abort uploads to", bucket=self.bucket, key=prefix):
            for page in uploads.paginate(Bucket=self.bucket, Prefix=prefix):
                for upload in page.get("Uploads", []):
                    with suppress(self.client.exceptions.NoSuchUpload):  # it has ended meanwhile
                        self.client.abort_multipart_upload(
                            Bucket=self.bucket,
                            Key=upload.get("Key", ""),
                            UploadId=upload.get("UploadId", ""),
                        )
                        count += 1
        return count

    def write_options(self) -> dict[str, Any]:
        """Parameters of every write request: checksum algorithm and KMS key."""
        options = {"ChecksumAlgorithm": CHECKSUM}
        if not self.kms_key_id:
            return options
        return {**options, "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}


def _set_default_content_type(request: AWSRequest, **_: object) -> None:
    """Gives what has no type the one that S3 itself gives it: just bytes.

    SeaweedFS would compress text that has none, or is called "application/octet-stream", which
    costs it half to all of what storing it does once more.
    """
    if "Content-Type" not in request.headers:
        request.headers["Content-Type"] = "binary/octet-stream"
