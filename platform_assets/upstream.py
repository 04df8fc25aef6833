"""What is published already: what an asset is made of, and what it need not make again."""

from collections.abc import Mapping

from platform_assets.errors import PlatformError
from resources.s3 import Manifest, ObjectStore, read_manifest, verify


class UpstreamMissingError(PlatformError):
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


def already_made(
    store: ObjectStore, prefix: str, *, inputs: Mapping[str, str], code_version: str
) -> Manifest | None:
    """The manifest under a prefix, if it is of these inputs and code and its files are whole.

    The files are read: what was damaged or removed is made again by the next run.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None or manifest.code_version != code_version or manifest.inputs != inputs:
        return None
    return None if verify(store, prefix) else manifest
