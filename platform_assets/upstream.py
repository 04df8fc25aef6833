"""Functions that `resources.s3.Folder` replaces, until their last callers are gone."""

from collections.abc import Mapping

from resources.s3 import Folder, Manifest, NotPublishedError, ObjectStore

UpstreamMissingError = NotPublishedError


def require_manifest(store: ObjectStore, prefix: str, asset: str) -> Manifest:
    """As `Folder.require`."""
    return Folder(store, prefix).require(asset).manifest


def already_made(
    store: ObjectStore, prefix: str, *, inputs: Mapping[str, str], code_version: str
) -> Manifest | None:
    """As `Folder.made_of`."""
    published = Folder(store, prefix).made_of(inputs, code_version)
    return published and published.manifest
