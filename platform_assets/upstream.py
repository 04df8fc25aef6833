"""What an asset says when what it is made of is not there."""

from resources.s3 import ObjectStore
from resources.s3_manifest import Manifest, read_manifest


class UpstreamMissingError(Exception):
    """What an asset is made of is not published; making it again would not help."""


def require_manifest(store: ObjectStore, prefix: str, asset: str) -> Manifest:
    """The manifest under a prefix, where `asset` publishes.

    Raises:
        UpstreamMissingError: Nothing is published there.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        raise UpstreamMissingError(
            f"Nothing is published under {store.uri(prefix)}: "
            f"materialise {asset} for this date first."
        )
    return manifest
