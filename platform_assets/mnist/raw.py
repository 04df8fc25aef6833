"""The public digits, and our copy of them: one object a day, copied inside S3.

What is in the object is not looked at here: `dataset.py` reads it, `checks.py` verifies it.
"""

import dagster as dg
from pydantic import Field

from formats import s3_uri
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report, to_failure
from platform_assets.upstream import already_made
from resources.errors import ResourceError
from resources.s3 import Folder, ObjectInfo, ObjectStore, Publication, file_key

FILE = "mnist.pkl.gz"
CODE_VERSION = "1"
PUBLIC_MNIST = dg.AssetKey(["mnist", "public"])


class PublicMnist(dg.ConfigurableResource):
    """Where the public object stands: the file that AWS publishes for SageMaker's examples."""

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


def prefix(date: str) -> str:
    """Where a date's copy stands."""
    return f"mnist/raw/date={date}"


@dg.observable_source_asset(
    key=PUBLIC_MNIST,
    group_name="mnist",
    description=(
        "The digits as published: a gzipped Python 2 pickle of a train, a validation and a test "
        "split. Its ETag is its data version."
    ),
    tags={"dagster/kind/s3": "", "dagster/kind/pickle": ""},
)
def public_mnist(public: PublicMnist, digits_store: ObjectStore) -> dg.ObserveResult:
    try:
        found = public.head(digits_store)
    except (ResourceError, ValueError) as error:
        raise to_failure(error) from error
    return dg.ObserveResult(
        data_version=dg.DataVersion(version_of(found.etag)),
        metadata={"dagster/uri": public.uri, "bytes": found.size},
    )


@dg.asset(
    key=["mnist", "raw"],
    deps=[public_mnist],
    group_name="mnist",
    kinds={"s3", "pickle"},
    owners=["team:data-engineering"],
    description="The day's copy of the public digits, made inside S3 and bound to the ETag it had.",
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
)
def raw_mnist(
    context: dg.AssetExecutionContext, public: PublicMnist, digits_store: ObjectStore
) -> dg.MaterializeResult:
    return report(
        context,
        make_each(context.partition_keys, lambda date: copy_public(public, digits_store, date)),
    )


def copy_public(public: PublicMnist, store: ObjectStore, date: str) -> Materialization:
    """Copy the public object as it is now to its date's place; nothing to do where it is there."""
    source, key = public.locate(store)
    found = source.head(key)
    inputs = {public.uri: version_of(found.etag)}
    there = already_made(store, prefix(date), inputs=inputs, code_version=CODE_VERSION)
    manifest = there
    if manifest is None:
        with Publication(Folder(store, prefix(date))) as publication:
            publication.copy(FILE, source, key, etag=found.etag)
            manifest = publication.commit(
                partition=date, rows=0, code_version=CODE_VERSION, inputs=inputs
            ).manifest
    return Materialization(
        metadata={
            "dagster/uri": store.uri(file_key(prefix(date), FILE)),
            "source": public.uri,
            "source_etag": inputs[public.uri],
            "bytes": manifest.size,
            "sha256": manifest.file(FILE).sha256,
            "unchanged": there is not None,
        },
        data_version=manifest.file(FILE).sha256,
    )
