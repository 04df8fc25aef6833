"""The public digits, and the platform's copy of them: one object a day, copied inside S3.

The source, the asset and its check. `dataset.py` reads what is in the object.
"""

import gzip
import zlib
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from pydantic import Field

from formats import s3_uri
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report, to_failure
from resources.errors import ResourceError
from resources.s3 import (
    BucketMissingError,
    Folder,
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    Publication,
    StoreAccessDeniedError,
)

FILE = "mnist.pkl.gz"
CODE_VERSION = "1"
# The file by AWS's two addresses: of SageMaker's k-means example, and among all sample files.
SAMPLE_DATA = "s3://sagemaker-sample-data-eu-west-1/algorithms/kmeans/mnist/mnist.pkl.gz"
SAMPLE_FILES = "s3://sagemaker-sample-files/datasets/image/MNIST/mnist.pkl.gz"
_GONE = (BucketMissingError, ObjectMissingError, StoreAccessDeniedError)
PUBLIC_MNIST = dg.AssetKey(["mnist", "public"])
# The public file has 16 MB and expands to 220 MB. Reading one may take twice what it expands to,
# and a run in production has 2 GB: what is larger is refused, rather than the run killed.
MAX_COMPRESSED_BYTES = 256 * 2**20
MAX_EXPANDED_BYTES = 512 * 2**20
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Original:
    """The public object as it is now.

    Attributes:
        uri: Where it is.
        bucket: Its bucket.
        info: Its key, size and ETag.
        instead_of: Why it is not the one that was asked for; empty where it is.
    """

    uri: str
    bucket: ObjectStore
    info: ObjectInfo
    instead_of: str = ""

    @property
    def version(self) -> str:
        """Its ETag, without quotes: the data version of the public object."""
        return self.info.etag.strip('"')


class PublicMnist(dg.ConfigurableResource):
    """Where the public object is: the file that AWS publishes for SageMaker's examples."""

    uri: str = Field(description="s3://bucket/key of the gzipped pickle.")
    fallback: str = Field(
        default="", description="Another one, taken where the first is gone or refused; or empty."
    )

    def find(self, store: ObjectStore) -> Original:
        """Looks for it, with the credentials of `store`.

        Raises:
            ValueError: The URI is not that of an object.
            StoreError: It cannot be read, nor can the fallback.
        """
        try:
            return _look(store, self.uri)
        except _GONE as error:
            if not self.fallback:
                raise
            try:
                return replace(_look(store, self.fallback), instead_of=f"{self.uri}: {error}")
            except _GONE as other:
                raise type(error)(f"{error} Nor can the other one be had: {other}") from error


def _look(store: ObjectStore, uri: str) -> Original:
    bucket, key = s3_uri.parse(uri)
    if not key:
        raise ValueError(f"{uri} is not of the form s3://bucket/key: set it so.")
    source = store.sibling(bucket)
    return Original(uri, source, source.head(key))


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
        original = public.find(digits_store)
    except (ResourceError, ValueError) as error:
        raise to_failure(error) from error
    return dg.ObserveResult(
        data_version=dg.DataVersion(original.version),
        metadata=describe_public(original),
    )


def describe_public(original: Original) -> dict[str, Any]:
    """What an observation of the public object shows."""
    return {
        "dagster/uri": original.uri,
        "bytes": original.info.size,
        "etag": original.version,
        "last_modified": dg.MetadataValue.timestamp(original.info.modified),
        **why_another(original),
    }


def why_another(original: Original) -> dict[str, str]:
    """For people: why the digits come from another address than the settings say, if they do."""
    return {"instead_of": original.instead_of} if original.instead_of else {}


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
    original = public.find(target.store)
    inputs = {original.uri: original.version}
    earlier = target.made_of(inputs, CODE_VERSION)
    copy = earlier
    if copy is None:
        with Publication(target) as publication:
            publication.copy(FILE, original.bucket, original.info.key, etag=original.info.etag)
            copy = publication.commit(
                partition=date, rows=0, code_version=CODE_VERSION, inputs=inputs
            )
    sha256 = copy.manifest.file(FILE).sha256
    return Materialization(
        metadata={
            "dagster/uri": target.file_uri(FILE),
            # Of files: how many digits are in one, `mnist/dataset` tells when it has read them.
            "dagster/partition_row_count": len(copy.manifest.files),
            "source": original.uri,
            **why_another(original),
            "source_etag": original.version,
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
