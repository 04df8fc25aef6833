"""The component `S3ObjectCopy`: a dated copy of an object that somebody else publishes."""

from typing import Any, ClassVar

import dagster as dg
from pydantic import Field

from platform_assets.chain import ChainAsset, ChainCheck, make_one_by_one
from platform_assets.components.fields import ObjectUri
from platform_assets.components.pipeline_asset import PipelineAsset
from platform_assets.lineage import Tier
from platform_assets.object_copies import copy_object, find_original, judge_copy

CODE_VERSION = "1"
_MAX_EXPANDED_BYTES = 16 * 2**30


class S3ObjectCopy(PipelineAsset):
    """The day's copy of a public object, or of any that the platform may read, in its own bucket.

    Made inside S3, and bound to the ETag that the object had. The same object on another day is
    copied again; the same day again, only if the object has changed since.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"s3"})
    tier: ClassVar[Tier] = "raw"

    source: ObjectUri = Field(
        description="The object: s3://bucket/key.", examples=["s3://open-data/lisbon/trams.csv.gz"]
    )

    @classmethod
    def example(cls, pipeline: str) -> dict[str, Any]:
        return {
            "asset": f"{pipeline}/copy",
            "source": f"s3://open-data/{pipeline}.csv.gz",
            "schedule": "30 1 * * *",
        }

    def sources(self) -> list[dg.AssetSpec]:
        """The object."""
        return [self.s3_source(self.source, "The object as it is published.")]

    def chain_asset(self) -> ChainAsset:
        file = self.source.rpartition("/")[2]
        return ChainAsset(
            spec=self.spec(
                description="The day's copy of the object, bound to the ETag that it had.",
                code_version=CODE_VERSION,
            ),
            make=make_one_by_one(
                lambda resources, date: copy_object(
                    find_original(resources.listings_store, self.source),
                    self.folder(resources.listings_store, date),
                    file,
                    date=date,
                    code_version=CODE_VERSION,
                )
            ),
            resources=frozenset({"listings_store"}),
            checks=[
                ChainCheck(
                    "intact",
                    "The copy has the bytes that its manifest names; a gzip file is whole.",
                    lambda resources, date: judge_copy(
                        self.folder(resources.listings_store, date),
                        file,
                        asset=self.asset,
                        max_expanded_bytes=_MAX_EXPANDED_BYTES,
                    ),
                )
            ],
        )
