"""The public digits, and the platform's copy of them: one object a day, copied inside S3.

The source, the asset and its check. `dataset.py` reads what is in the object.
"""

import gzip
import zlib
from typing import Any

import dagster as dg
from pydantic import Field

from formats import s3_uri
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report, to_failure
from resources.errors import ResourceError
from resources.s3 import Folder, ObjectInfo, ObjectStore, Publication

FILE = "mnist.pkl.gz"
CODE_VERSION = "1"
PUBLIC_MNIST = dg.AssetKey(["mnist", "public"])
# The public file has 16 MB and expands to 220 MB. Reading one may take twice what it expands to,
# and a run in production has 2 GB: what is larger is refused, rather than the run killed.
MAX_COMPRESSED_BYTES = 256 * 2**20
MAX_EXPANDED_BYTES = 512 * 2**20
_BLOCK_BYTES = 1 << 20


class PublicMnist(dg.ConfigurableResource):
    """Where the public object is: the file that AWS publishes for SageMaker's examples."""

    uri: str = Field(description="s3://bucket/key of the gzipped pickle.")

    def locate(self, store: ObjectStore) -> tuple[ObjectStore, str]:
        """The bucket, as a sibling of `store`, and the key.

        Raises:
            ValueError: The URI is not that of an object.
        """
        bucket, key = s3_uri.parse(self.uri)
        if not key:
            raise ValueError(f"{self.uri} is not of the form s3://bucket/key: set it so.")
        return store.sibling(bucket), key

    def head(self, store: ObjectStore) -> ObjectInfo:
        """Size and ETag of the public object."""
        bucket, key = self.locate(store)
        return bucket.head(key)


def version_of(etag: str) -> str:
    """The data version of the public object."""
    return etag.strip('"')


def folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's copy is."""
    return Folder(store, f"mnist/raw/date={date}")


@dg.multi_observable_source_asset(
    name="mnist__public",
    specs=[
        dg.AssetSpec(
            PUBLIC_MNIST,
            group_name="mnist",
            kinds={"s3", "pickle"},
            owners=["team:data-engineering"],
            tags=place("digits", "source"),
            description=(
                "The digits as published: a gzipped Python 2 pickle of a train, a validation and a "
                "test split. Its ETag is its data version."
            ),
        )
    ],
)
def public_mnist(public: PublicMnist, digits_store: ObjectStore) -> dg.ObserveResult:
    try:
        original = public.head(digits_store)
    except (ResourceError, ValueError) as error:
        raise to_failure(error) from error
    return dg.ObserveResult(
        data_version=dg.DataVersion(version_of(original.etag)),
        metadata=describe_public(public, original),
    )


def describe_public(public: PublicMnist, original: ObjectInfo) -> dict[str, Any]:
    """What an observation of the public object shows."""
    return {
        "dagster/uri": public.uri,
        "bytes": original.size,
        "etag": version_of(original.etag),
        "last_modified": dg.MetadataValue.timestamp(original.modified),
    }


@dg.asset(
    key=["mnist", "raw"],
    deps=[public_mnist],
    group_name="mnist",
    kinds={"s3", "pickle"},
    owners=["team:data-engineering"],
    tags=place("digits", "raw"),
    description="The day's copy of the public digits, made inside S3 and bound to the ETag it had.",
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    freshness_policy=DUE_DAILY,
    backfill_policy=ONE_RUN,
)
def raw_mnist(
    context: dg.AssetExecutionContext, public: PublicMnist, digits_store: ObjectStore
) -> dg.MaterializeResult:
    return report(
        context,
        make_each(
            context.partition_keys,
            lambda date: copy_public(public, folder(digits_store, date), date),
        ),
    )


def copy_public(public: PublicMnist, target: Folder, date: str) -> Materialization:
    """Copies the public object as it is now; nothing to do where that copy is there already.

    Args:
        public: What to copy.
        target: Where to.
        date: The partition.
    """
    source, key = public.locate(target.store)
    original = source.head(key)
    inputs = {public.uri: version_of(original.etag)}
    earlier = target.made_of(inputs, CODE_VERSION)
    copy = earlier
    if copy is None:
        with Publication(target) as publication:
            publication.copy(FILE, source, key, etag=original.etag)
            copy = publication.commit(
                partition=date, rows=0, code_version=CODE_VERSION, inputs=inputs
            )
    sha256 = copy.manifest.file(FILE).sha256
    return Materialization(
        metadata={
            "dagster/uri": target.file_uri(FILE),
            # Of files: how many digits are in one, `mnist/dataset` tells when it has read them.
            "dagster/partition_row_count": len(copy.manifest.files),
            "source": public.uri,
            "source_etag": inputs[public.uri],
            "bytes": copy.manifest.size,
            "unchanged": earlier is not None,
        },
        data_version=sha256,
    )


@dg.asset_check(
    asset=raw_mnist,
    name="intact",
    blocking=True,
    partitions_def=DAILY,
    description="The copy has the bytes that its manifest names, and is a whole gzip file.",
)
def raw_intact(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_raw(folder(digits_store, date)))


def judge_raw(copied_to: Folder) -> Verdict:
    """Reads the whole copy: sha256 by the manifest, CRC and length by the end of the gzip file."""
    copy = copied_to.require("mnist/raw")
    if problems := copy.verify():
        return Verdict(False, " ".join(problems))
    try:
        with copy.open(FILE) as compressed, gzip.open(compressed) as plain:
            expanded = 0
            while block := plain.read(_BLOCK_BYTES):
                expanded += len(block)
                if expanded > MAX_EXPANDED_BYTES:
                    return Verdict(False, f"It expands to more than {expanded:,} bytes.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return Verdict(False, f"{copied_to.file_uri(FILE)} is not a whole gzip file: {error}")
    return Verdict(True, "Whole.", {"bytes": copy.manifest.size, "expanded_bytes": expanded})
