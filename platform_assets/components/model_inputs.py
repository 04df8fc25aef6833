"""What a model is made of: its algorithm, and its channels on a date."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from formats import s3_uri
from platform_assets.components.pipeline_asset import dated_folder
from resources.s3 import NotPublishedError, ObjectStore
from resources.sagemaker import SpecError, builtin_image_uri

_INPUT = r"s3://[^/\s]+/\S+|[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+:\S+"
# Each region has the same algorithms.
_ANY_REGION = "eu-west-1"
# SageMaker takes no larger request.
MAX_REQUEST_BYTES = 6 * 2**20


def _is_input(text: str) -> str:
    if not re.fullmatch(_INPUT, text, re.ASCII):
        raise ValueError(
            f"{text!r} is no input: write it as s3://bucket/prefix/, with {{date}} where the date "
            "stands, or as the key of a pipeline's asset, and after a colon a file of it: "
            "shapes/images:train.rec"
        )
    return text


def _known(algorithm: str) -> str:
    if "/" not in algorithm:
        try:
            builtin_image_uri(algorithm, _ANY_REGION)
        except SpecError as error:
            raise ValueError(
                f"{error} Name one of them, or an image as REGISTRY/NAME:TAG"
            ) from None
    return algorithm


def _finds_a_value(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(
            f"{pattern!r} has to have one group, around the value: accuracy=([0-9.]+) finds it in "
            "a line accuracy=0.93"
        )
    return pattern


Algorithm = Annotated[str, AfterValidator(_known)]
Input = Annotated[str, AfterValidator(_is_input)]
Finder = Annotated[str, AfterValidator(_finds_a_value)]


def asset_of(text: str) -> str | None:
    """The name of the asset that makes an input; None where somebody else does."""
    return None if text.startswith("s3://") else text.partition(":")[0]


@dataclass(frozen=True)
class DatedInput:
    """An input on a date.

    Attributes:
        uri: What its objects' addresses begin with.
        contents: The rest of their addresses → sha256 or ETag.
    """

    uri: str
    contents: Mapping[str, str]

    @classmethod
    def find(cls, text: str, store: ObjectStore, date: str) -> "DatedInput":
        """Look what is there.

        Raises:
            NotPublishedError: Nothing is there.
        """
        asset = asset_of(text)
        if asset is None:
            uri = text.replace("{date}", date)
            bucket, prefix = s3_uri.parse(uri)
            listed = store.sibling(bucket).list(prefix)
            contents = {info.key.removeprefix(prefix): info.etag for info in listed}
        else:
            published = dated_folder(store, asset, date).require(asset)
            path = text.partition(":")[2]
            uri = published.folder.file_uri(path)
            contents = {
                file.name.removeprefix(path): file.sha256
                for file in published.manifest.files
                if file.name.startswith(path)
            }
        if not contents:
            raise NotPublishedError(
                f"There is nothing under {uri}, which the model of {date} is to be made of: put it "
                "there, or correct the channel in the pipeline's file."
            )
        return cls(uri, contents)

    @property
    def digest(self) -> str:
        """Equal where the contents are."""
        return hashlib.sha256(repr(sorted(self.contents.items())).encode()).hexdigest()

    def read(self, store: ObjectStore) -> bytes:
        """The bytes of an input that is one object.

        Raises:
            ObjectTooLargeError: It is larger than a request may be.
        """
        bucket, key = s3_uri.parse(self.uri)
        return store.sibling(bucket).get_bytes(key, max_bytes=MAX_REQUEST_BYTES)
