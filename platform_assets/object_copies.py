"""Dated copies of an object that somebody else publishes, made inside S3, and their check."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from formats import s3_uri
from formats.errors import FormatError
from platform_assets.checks import Verdict
from platform_assets.reports import Materialization
from resources.s3 import Folder, ObjectInfo, ObjectStore, Publication

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Original:
    """An object as it is now.

    Attributes:
        fallback_reason: Why it is not the one that was asked for; empty where it is.
    """

    uri: str
    bucket: ObjectStore
    info: ObjectInfo
    fallback_reason: str = ""

    @property
    def version(self) -> str:
        """Its ETag, without quotes: its data version."""
        return self.info.etag.strip('"')


def find_original(store: ObjectStore, uri: str) -> Original:
    """Look for an object, with the credentials of `store`.

    Raises:
        FormatError: The URI is not that of an object.
        StoreError: It cannot be read.
    """
    bucket, key = s3_uri.parse(uri)
    if not key:
        raise FormatError(f"{uri} is not of the form s3://bucket/key: set it so.")
    source = store.sibling(bucket)
    return Original(uri, source, source.head(key))


def fallback_metadata(original: Original) -> dict[str, str]:
    """For people: why it comes from another address than was asked for, if it does."""
    return {"instead_of": original.fallback_reason} if original.fallback_reason else {}


def copy_object(
    original: Original, target: Folder, file: str, *, date: str, code_version: str
) -> Materialization:
    """Copy an object as it is now; nothing to do where that copy is there already."""
    inputs: Mapping[str, str] = {original.uri: original.version}
    earlier = target.published_if_current(inputs, code_version)
    copy = earlier
    if copy is None:
        with Publication(target) as publication:
            publication.copy(file, original.bucket, original.info.key, etag=original.info.etag)
            copy = publication.commit(
                partition=date, rows=0, code_version=code_version, inputs=inputs
            )
    return Materialization(
        metadata={
            "dagster/uri": target.file_uri(file),
            # Of files: how many rows are in one is not known.
            "dagster/partition_row_count": len(copy.manifest.files),
            "source": original.uri,
            **fallback_metadata(original),
            "source_etag": original.version,
            "bytes": copy.manifest.size,
            "unchanged": earlier is not None,
        },
        data_version=copy.manifest.file(file).sha256,
    )


def judge_copy(copied_to: Folder, file: str, *, asset: str, max_expanded_bytes: int) -> Verdict:
    """Read the whole copy: sha256 by the manifest; of a gzip file also CRC and length."""
    copy = copied_to.require(asset)
    if problems := copy.verify():
        return Verdict(False, " ".join(problems))
    size = {"bytes": copy.manifest.size}
    if not file.endswith(".gz"):
        return Verdict(True, "Whole.", size)
    try:
        with copy.open(file) as compressed, gzip.open(compressed) as plain:
            expanded = 0
            while block := plain.read(_BLOCK_BYTES):
                expanded += len(block)
                if expanded > max_expanded_bytes:
                    return Verdict(False, f"It expands to more than {expanded:,} bytes.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return Verdict(False, f"{copied_to.file_uri(file)} is not a whole gzip file: {error}")
    return Verdict(True, "Whole.", {**size, "expanded_bytes": expanded})
