"""S3: a bucket as a resource, and sets of files that are published as one by their manifest."""

from formats.manifest import Manifest, ManifestFile
from resources.s3.errors import (
    BucketMissingError,
    ManifestInvalidError,
    NotPublishedError,
    ObjectChangedError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreAccessDeniedError,
    StoreCredentialsError,
    StoreError,
    StoreRequestError,
    StoreUnavailableError,
)
from resources.s3.publication import Publication
from resources.s3.published import DATE, Folder, Published, list_published
from resources.s3.store import ObjectInfo, ObjectStore, StoredObject
from resources.s3.streams import ObjectReader, ObjectWriter

__all__ = [
    "DATE",
    "BucketMissingError",
    "Folder",
    "Manifest",
    "ManifestFile",
    "ManifestInvalidError",
    "NotPublishedError",
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
    "list_published",
]
