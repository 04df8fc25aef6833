"""Objects as streams: a writer of multipart uploads, which shows nothing until it is completed, and
a reader that survives broken connections; how large their parts are.

Both take bounded memory. Which objects, and when they count, is decided elsewhere.
"""

import hashlib
import io
import logging
import time
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from resources.s3.errors import (
    CONNECTION_FAULTS,
    ObjectChangedError,
    StoreError,
    StoreUnavailableError,
    store_errors,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, GetObjectRequestTypeDef

_logger = logging.getLogger(__name__)

MIB = 1024 * 1024
# By default boto3 sends one, but AWS_REQUEST_CHECKSUM_CALCULATION turns that off, and a bucket with
# Object Lock refuses what has none:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
CHECKSUM = "CRC32"
PART_BYTES = 8 * MIB
# S3 takes at most 10,000 parts: parts grow by PART_BYTES after each thousand, 440 GB in all.
_PARTS_PER_STEP = 1000
_PARTS_IN_FLIGHT = 3
_READ_ATTEMPTS = 5


class ObjectWriter(io.RawIOBase):
    """Writes one object; it becomes visible, whole, when `complete` returns.

    At most four parts are in memory (8 MiB each; more beyond 8 GB). An object of less than one
    part is sent as one request by `complete`. Whoever makes a writer calls `complete` or `abort`.

    Attributes:
        key: where the object will be.
        size: bytes written so far.
    """

    def __init__(
        self, client: "S3Client", bucket: str, key: str, *, options: Mapping[str, Any] | None = None
    ) -> None:
        """Opens nothing yet: an upload begins with the first full part.

        Args:
            client: boto3 client; used by three threads of this writer's own.
            bucket: name of the bucket.
            key: key of the object.
            options: ContentType, ChecksumAlgorithm, SSEKMSKeyId and the like.
        """
        super().__init__()
        self.key = key
        self.size = 0
        self._client = client
        self._bucket = bucket
        self._options: dict[str, Any] = dict(options or {})
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._pending: deque[Future[CompletedPartTypeDef]] = deque()
        self._sent = 0
        self._threads: ThreadPoolExecutor | None = None
        self._over = False

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of what was written so far."""
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Takes all of `data`; may wait for an earlier part to be sent.

        Raises:
            StoreError: if a part could not be sent.
        """
        view = memoryview(data).cast("B")
        taken = len(view)
        if self._over:
            # A buffer above this writer may flush once more when it is garbage-collected.
            return taken
        self._hash.update(view)
        self.size += taken
        while view:
            room = self._part_bytes() - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == self._part_bytes():
                self._send_part()
        return taken

    def finish(self) -> None:
        """Sends what is left to send, so that `complete` takes one request; no more writing.

        Raises:
            StoreError: if a part could not be sent.
        """
        if self._upload_id is None:
            return
        if self._buffer:
            self._send_part()
        while self._pending:
            self._parts.append(self._pending.popleft().result())

    def expected_etag(self) -> str:
        """The ETag that the completed object will have, unless the store encrypts by KMS.

        Calls `finish`. S3 defines the ETag as the MD5 of the content, or for multipart uploads as
        the MD5 of the parts' MD5s, "-" and their number.
        """
        if self._upload_id is None:
            return f'"{hashlib.md5(self._buffer, usedforsecurity=False).hexdigest()}"'
        self.finish()
        tags = (str(part.get("ETag", "")).strip('"') for part in self._parts)
        try:
            digests = b"".join(bytes.fromhex(tag) for tag in tags)
        except ValueError:
            return ""
        digest = hashlib.md5(digests, usedforsecurity=False).hexdigest()
        return f'"{digest}-{len(self._parts)}"'

    def complete(self) -> str:
        """Makes the object visible and returns its ETag.

        Raises:
            StoreError: if the store did not take it; call `abort` then.
        """
        if self._upload_id is None:
            with store_errors("write", bucket=self._bucket, key=self.key):
                etag = self._client.put_object(
                    Bucket=self._bucket, Key=self.key, Body=bytes(self._buffer), **self._options
                )["ETag"]
        else:
            self.finish()
            with store_errors("write", bucket=self._bucket, key=self.key):
                etag = self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self.key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": self._parts},
                )["ETag"]
        self._end()
        return etag

    def abort(self) -> None:
        """Forgets what was written; nothing of it stays in the store. Does nothing when over.

        Meant for clean-up, so it raises nothing of the store's: what it cannot abort is logged,
        and is ended by the next commit to the same prefix or the bucket's lifecycle rule.
        """
        if self._over:
            return
        # A part that arrives after the abort would be kept, and paid for: let them end first.
        self._end()
        if self._upload_id is None:
            return
        try:
            with store_errors("abort the upload of", bucket=self._bucket, key=self.key):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self.key, UploadId=self._upload_id
                )
        except ObjectChangedError:
            return  # Somebody else aborted it.
        except StoreError as error:
            _logger.warning("%s The upload's parts stay behind for now.", error)

    def _part_bytes(self) -> int:
        return PART_BYTES * (1 + self._sent // _PARTS_PER_STEP)

    def _send_part(self) -> None:
        if self._upload_id is None:
            with store_errors("write", bucket=self._bucket, key=self.key):
                self._upload_id = self._client.create_multipart_upload(
                    Bucket=self._bucket, Key=self.key, **self._options
                )["UploadId"]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_PARTS_IN_FLIGHT, thread_name_prefix="upload")
        while len(self._pending) >= _PARTS_IN_FLIGHT:
            self._parts.append(self._pending.popleft().result())
        part, self._buffer = self._buffer, bytearray()
        self._sent += 1
        self._pending.append(self._threads.submit(self._upload_part, self._sent, part))

    def _upload_part(self, number: int, data: bytearray) -> "CompletedPartTypeDef":
        checksum = b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        with store_errors("write", bucket=self._bucket, key=self.key):
            etag = self._client.upload_part(
                Bucket=self._bucket,
                Key=self.key,
                UploadId=self._upload_id or "",
                PartNumber=number,
                Body=data,  # pyright: ignore[reportArgumentType] - the stubs forget bytearray
                ChecksumCRC32=checksum,
            )["ETag"]
        # S3 refuses to complete an upload with checksums if one is not named again.
        return {"ETag": etag, "PartNumber": number, "ChecksumCRC32": checksum}

    def _end(self) -> None:
        self._over = True
        self._buffer = bytearray()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


class ObjectReader(io.RawIOBase):
    """Reads one object from beginning to end, going on where a connection broke.

    What is read is one version of the object: a request after a break asks for the same ETag.

    Attributes:
        size: bytes of the whole object.
        etag: the ETag of the version being read.
    """

    def __init__(
        self, client: "S3Client", bucket: str, key: str, *, etag: str | None = None
    ) -> None:
        """Sends the request, for the version with `etag` if one is given.

        Raises:
            ObjectMissingError: there is no such object.
            ObjectChangedError: the object has another ETag.
            StoreError: any other failure.
        """
        super().__init__()
        self._client = client
        self._bucket = bucket
        self._key = key
        self._position = 0
        self._body: StreamingBody | None = None
        request: GetObjectRequestTypeDef = {"Bucket": bucket, "Key": key}
        if etag is not None:
            request["IfMatch"] = etag
        with store_errors("read", bucket=bucket, key=key):
            answer = client.get_object(**request)
        self._body = answer["Body"]
        self.size = answer["ContentLength"]
        self.etag = answer["ETag"]
        self.modified = answer["LastModified"]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fills `buffer` as far as the object goes.

        Raises:
            ObjectChangedError: the object was replaced while it was read.
            StoreUnavailableError: the connection kept breaking.
        """
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self.size - self._position)
        if wanted == 0:
            return 0
        for attempt in range(_READ_ATTEMPTS):
            if attempt:
                time.sleep(0.1 * 2 ** (attempt - 1))
            data = self._read_some(wanted)
            if data:
                view[: len(data)] = data
                self._position += len(data)
                return len(data)
            self._drop_body()
        raise StoreUnavailableError(
            f"Cannot read s3://{self._bucket}/{self._key}: the store broke off at byte "
            f"{self._position} of {self.size}, {_READ_ATTEMPTS} times. Run again."
        )

    def close(self) -> None:
        """Gives the connection back."""
        self._drop_body()
        super().close()

    def _read_some(self, wanted: int) -> bytes:
        """At least a byte, or nothing if the connection broke."""
        try:
            if self._body is None:
                self._body = self._ask_for_rest()
            return self._body.read(wanted)
        except (*CONNECTION_FAULTS, OSError):
            return b""

    def _ask_for_rest(self) -> "StreamingBody":
        with store_errors("read", bucket=self._bucket, key=self._key):
            return self._client.get_object(
                Bucket=self._bucket,
                Key=self._key,
                Range=f"bytes={self._position}-",
                IfMatch=self.etag,
            )["Body"]

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None
