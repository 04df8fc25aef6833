"""A function that `resources.s3.Folder` replaces, until its last callers are gone."""

from resources.s3 import Folder, Manifest, ObjectStore


def require_manifest(store: ObjectStore, prefix: str, asset: str) -> Manifest:
    """As `Folder.require`."""
    return Folder(store, prefix).require(asset).manifest
