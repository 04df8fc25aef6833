"""The object store as the number cruncher uses it: one bucket, few operations, clear errors.

Does not belong here: what the keys mean. Requests are made by obstore: a date takes ten of them,
and each takes a sixth of the time that boto3 needs, without Python's lock. Credentials are boto3's.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
import obstore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, BaseError, UnauthenticatedError
from obstore.store import S3Store

from numbercruncher.errors import MissingObjectError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore import Attributes, BytesStream, PutResult
    from obstore.store import ClientConfig, RetryConfig, S3Config

CONNECTIONS = 16
CHUNK = 1 << 20
RETRIES: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(minutes=3)}


@dataclass(frozen=True)
class Entry:
    """An object as a listing shows it."""

    key: str
    bytes: int
    etag: str


class Content:
    """An object's content as it arrives, with its digest: a file to whoever reads it."""

    def __init__(
        self, body: "BytesStream", translating: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._body = body
        self._translating = translating
        self._unread = b""
        self._failure: Exception | None = None
        self._digest = hashlib.sha256()
        # When a parser gives up, one of its threads may still be reading ahead.
        self._lock = threading.Lock()
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most `size` of them; none at the end.

        Raises:
            StoreUnavailableError: the connection broke before the end.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        with self._lock:
            return self._read(size)

    def _read(self, size: int) -> bytes:
        if self._failure:  # the beginning of an object must not pass for all of it
            raise self._failure
        if not self._unread:
            try:
                with self._translating():
                    self._unread = bytes(next(self._body, b""))
            except StoreError as error:
                self._failure = error
                raise
            self._digest.update(self._unread)
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def close(self) -> None:
        """For readers that close their files; the connection ends with this object."""
        self.closed = True

    def finish(self) -> str:
        """Reads what is left and returns the sha256 of everything."""
        while self.read(CHUNK):
            pass
        return self._digest.hexdigest()


class Store:
    """One bucket of S3 or a compatible store; safe to use from several threads."""

    def __init__(self, bucket: str, kms_key_id: str = "") -> None:
        """Finds the credentials.

        Args:
            bucket: its name.
            kms_key_id: key that encrypts what is written; empty for the bucket's default.

        Raises:
            StoreError: there are no credentials.
        """
        self.bucket = bucket
        self._store = _open(bucket, kms_key_id)

    def entries(self, folder: str, *, after: str = "") -> Iterator[Entry]:
        """All objects in a folder, and in those in it, in the order of their keys.

        Args:
            folder: key without a slash at its end.
            after: key that they come after.
        """
        with self._translating(f"{folder}/"):
            try:
                for page in obstore.list(self._store, folder, offset=after or None):
                    for entry in page:
                        after = entry["path"]
                        yield Entry(after, entry["size"], (entry["e_tag"] or "").strip('"'))
            except BaseError as error:
                if "invalid path" not in str(error):
                    raise
            else:
                return
            yield from self._entries_of_any_key(folder, after)

    def _entries_of_any_key(self, folder: str, after: str) -> Iterator[Entry]:
        """As `entries`, also where a key has an empty segment or a line break in it.

        The platform makes no such keys. obstore refuses a page that has one. boto3 lists it, but
        making its client takes as long as all of a day's requests, so it is used only here.
        """
        config = Config(s3={"addressing_style": "path"})
        client: S3Client = boto3.Session().client("s3", config=config)
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{folder}/", StartAfter=after
        )
        for page in pages:
            for item in page.get("Contents", []):
                etag = item.get("ETag", "").strip('"')
                yield Entry(item.get("Key", ""), item.get("Size", 0), etag)

    def get(self, key: str) -> bytes:
        """An object's content.

        Raises:
            MissingObjectError: there is none.
        """
        with self._translating(key):
            return bytes(obstore.get(self._store, key).bytes())

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

    def open(self, key: str) -> Content:
        """An object's content as a stream.

        Raises:
            MissingObjectError: there is none.
        """
        with self._translating(key):
            body = obstore.get(self._store, key).stream(min_chunk_size=CHUNK)
        return Content(body, lambda: self._translating(key))

    def put(self, key: str, data: bytes, content_type: str) -> str:
        """Writes an object and returns its ETag, as `entries` shows it."""
        with self._translating(key):
            result = self._put(key, data, content_type, "overwrite")
        return (result["e_tag"] or "").strip('"')

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        """Writes an object where there is none (If-None-Match); False where there is one."""
        with self._translating(key):
            try:
                self._put(key, data, content_type, "create")
            except AlreadyExistsError:
                return False
        return True

    def _put(
        self, key: str, data: bytes, content_type: str, mode: Literal["create", "overwrite"]
    ) -> "PutResult":
        attributes: Attributes = {"Content-Type": content_type}
        return obstore.put(
            self._store, key, data, attributes=attributes, use_multipart=False, mode=mode
        )

    def delete(self, key: str) -> None:
        """Removes an object, if it exists."""
        with suppress(MissingObjectError), self._translating(key):
            obstore.delete(self._store, key)

    @contextmanager
    def _translating(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, BotoCoreError, ClientError, OSError) as error:
            raise _translate(error, self.bucket, f"s3://{self.bucket}/{key}") from error


def _open(bucket: str, kms_key_id: str) -> S3Store:
    """The bucket of AWS, or in path style of the endpoint that the environment names."""
    session = boto3.Session()
    if session.get_credentials() is None:
        raise StoreError(
            f"There are no AWS credentials to reach s3://{bucket}/ with; provide some to the"
            " process that runs Dagster."
        )
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(hours=1),
    }
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle:
        try:
            options["root_certificate"] = Path(bundle).read_bytes()
        except OSError as error:
            raise StoreError(f"The bundle of certificates cannot be read: {error}.") from error
    # botocore knows the endpoint of a profile and those of AWS's partitions.
    endpoint = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or session.client("s3").meta.endpoint_url
    )
    options["allow_http"] = endpoint.startswith("http://")
    config: S3Config = {
        "endpoint": endpoint,
        # With the bucket in the path, as every S3 takes it, whatever the bucket's name.
        "virtual_hosted_style_request": False,
        # A bulk delete's answer has no codes of errors, and not every S3 has it.
        "disable_bulk_delete": True,
        # Buckets with Object Lock refuse what has no checksum.
        "checksum_algorithm": "SHA256",
    }
    if kms_key_id:
        config |= {"server_side_encryption": "aws:kms", "sse_kms_key_id": kms_key_id}
    # boto3 may hand out credentials that expire soon; it renews them itself.
    credentials = Boto3CredentialProvider(session, ttl=timedelta(minutes=1))
    return S3Store(
        bucket,
        config=config,
        client_options=options,
        retry_config=RETRIES,
        credential_provider=credentials,
    )


def _translate(error: Exception, bucket: str, place: str) -> Exception:
    """The error as one of ours. obstore's errors quote the store's answer in their text only."""
    text = str(error).partition("\n\nDebug source")[0]
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    else:
        code = _first(r"<Code>(\w+)</Code>", text)
        status = int(_first(r"status code: (\d{3})", text) or 0)
    if code == "NoSuchBucket":
        return StoreError(
            f"The bucket {bucket} does not exist; create it or correct PLATFORM_AIRBNB_BUCKET."
        )
    if code == "NoSuchKey" or status == 404:
        return MissingObjectError(f"There is no object {place}.")
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
        return StoreError(f"The AWS credentials are not accepted for {place} ({code}); renew them.")
    if status in (301, 307) or code == "AuthorizationHeaderMalformed" or "LOCATION" in text:
        return StoreError(
            f"{place} is in another region; set AWS_DEFAULT_REGION to that of the bucket."
        )
    if isinstance(error, UnauthenticatedError):
        return StoreError(f"AWS gives no credentials for {place} ({text}); renew them.")
    if status == 412:
        return StoreUnavailableError(f"{place} was replaced while it was read; run this again.")
    if status == 403 and code in ("", "AccessDenied"):
        return StoreError(
            f"Access to {place} is denied; give the credentials s3:ListBucket, s3:GetObject,"
            " s3:PutObject and s3:DeleteObject there."
        )
    if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
        return StoreUnavailableError(
            f"The store failed on {place} ({code or status}); run this again later."
        )
    if status:
        return StoreError(f"The store refuses the request for {place} ({code or status}): {text}")
    return StoreUnavailableError(
        f"{place} could not be reached ({text}); check that the store runs and that its endpoint"
        f" is right{_proxies()}, then run this again."
    )


def _proxies() -> str:
    """What to check where requests may go through a proxy; without its password."""
    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    urls = [os.environ[name].rpartition("@")[2] for name in names if os.environ.get(name)]
    if not urls:
        return ""
    proxies = " and ".join(dict.fromkeys(url.removeprefix("http://") for url in urls))
    return f", and that the proxy {proxies} lets it through, or name its host in NO_PROXY"


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
