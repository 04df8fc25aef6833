"""S3: a bucket as a resource, and sets of files that are published as one by their manifest."""

from resources.s3.errors import (
    BucketMissingError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreAccessDeniedError,
    StoreCredentialsError,
    StoreError,
    StoreRequestError,
    StoreUnavailableError,
)
from resources.s3.manifest import (
    DATE,
    MANIFEST_NAME,
    Manifest,
    ManifestFile,
    ManifestInvalidError,
    file_key,
    list_published,
    open_file,
    read_file,
    read_manifest,
    remove_published,
    verify,
)
from resources.s3.publication import Publication, Published
from resources.s3.store import ObjectInfo, ObjectStore, StoredObject
from resources.s3.streams import ObjectReader, ObjectWriter

__all__ = [
    "DATE",
    "MANIFEST_NAME",
    "BucketMissingError",
    "Manifest",
    "ManifestFile",
    "ManifestInvalidError",
    "ObjectChangedError",
    "ObjectInfo",
    "ObjectMissingError",
    "ObjectReader",
    "ObjectStore",
    "ObjectTooLargeError",
    "ObjectWriter",
    "Publication",
    "Published",
    "StoreAccessDeniedError",
    "StoreCredentialsError",
    "StoreError",
    "StoreRequestError",
    "StoreUnavailableError",
    "StoredObject",
    "file_key",
    "list_published",
    "open_file",
    "read_file",
    "read_manifest",
    "remove_published",
    "verify",
]
