"""The public digits, and the platform's copy of them: one object a day, copied inside S3.

The source, the asset and its check. `dataset.py` reads what is in the object.
"""

from dataclasses import replace
from typing import Any

import dagster as dg
from pydantic import Field

from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.object_copies import (
    Original,
    copy_object,
    fallback_metadata,
    find_original,
    judge_copy,
)
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.reports import Materialization, expected_errors_as_failures, make_each
from resources.s3 import (
    BucketMissingError,
    Folder,
    ObjectMissingError,
    ObjectStore,
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


class PublicMnist(dg.ConfigurableResource):
    """Where the public object is: the file that AWS publishes for SageMaker's examples."""

    uri: str = Field(description="s3://bucket/key of the gzipped pickle.")
    fallback: str = Field(
        default="", description="Another one, taken where the first is gone or refused; or empty."
    )

    def find(self, store: ObjectStore) -> Original:
        """Looks for it, with the credentials of `store`.

        Raises:
            FormatError: The URI is not that of an object.
            StoreError: It cannot be read, nor can the fallback.
        """
        try:
            return find_original(store, self.uri)
        except _GONE as error:
            if not self.fallback:
                raise
            try:
                original = find_original(store, self.fallback)
                return replace(original, fallback_reason=f"{self.uri}: {error}")
            except _GONE as another:
                raise type(error)(f"{error} Nor can the other one be had: {another}") from error


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
    with expected_errors_as_failures():
        original = public.find(digits_store)
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
        **fallback_metadata(original),
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
    return make_each(context, lambda date: copy_public(public, folder(digits_store, date), date))


def copy_public(public: PublicMnist, target: Folder, date: str) -> Materialization:
    """Copies the public object as it is now; nothing to do where that copy is there already."""
    return copy_object(
        public.find(target.store), target, FILE, date=date, code_version=CODE_VERSION
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
    return judge_copy(copied_to, FILE, asset="mnist/raw", max_expanded_bytes=MAX_EXPANDED_BYTES)
