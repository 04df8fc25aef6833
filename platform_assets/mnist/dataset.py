"""The digits as SageMaker reads them: train, validation and test channels in RecordIO-protobuf.

The asset, its checks, and how a channel is read. How a pickle is read safely and how a digit is
prepared stands in `formats`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from formats import digit_images, mnist_pickle, recordio
from formats.columns import Column
from formats.digit_features import FEATURES
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.mnist import raw
from platform_assets.mnist.centroids import are_marked, marked
from platform_assets.mnist.digit_sheets import contact_sheet
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.pictures import attempt_to_show, newest
from platform_assets.reports import Materialization, make_each, table_schema
from resources.s3 import Folder, ObjectStore, Publication, Published

CHANNELS = ("train", "validation", "test")
# The train digits once more, each marked with its digit: what the model is trained on.
MARKED = "marked"
CODE_VERSION = "2"
# In the public file each digit has between 9.0 % and 11.3 % of a split; in a tenth of it, chance
# takes that to about 7 % and 13 %.
LEAST_SHARE, LARGEST_SHARE = 0.05, 0.20
_COLUMNS = {
    "values": (
        "What is compared: 588 numbers for the directions in which outlines run at 7 × 7 places, "
        "196 for the ink at 14 × 14; each in 0..1, together of length 1"
    ),
    "label": "The digit, 0..9",
}
_MAX_CHANNEL_BYTES = 512 * 2**20
# Enough digits for one part of a multipart upload, so that memory does not grow with the file.
_DIGITS_AT_ONCE = 2000


def folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's channels are."""
    return Folder(store, f"mnist/dataset/date={date}")


def channel_file(channel: str) -> str:
    """Name of a channel's file below the prefix; SageMaker is given the folder."""
    return f"{channel}/data.rec"


@dg.asset(
    key=["mnist", "dataset"],
    deps=[raw.raw_mnist],
    group_name="mnist",
    kinds={"s3", "numpy"},
    owners=["team:data-engineering"],
    tags=place("digits", "derived"),
    description=(
        "The day's digits, prepared as every picture is before it is classified, as RecordIO-"
        "protobuf: 784 float32 features in 0..1, and the digit as label. The model is trained on "
        "the train digits once more, marked: with the digit as ten further features."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    freshness_policy=DUE_DAILY,
    backfill_policy=ONE_RUN,
)
def mnist_dataset(
    context: dg.AssetExecutionContext, digits_store: ObjectStore
) -> dg.MaterializeResult:
    shown = newest(context.partition_keys)
    return make_each(
        context,
        lambda date: extract(
            raw.folder(digits_store, date), folder(digits_store, date), date, show=date in shown
        ),
    )


def extract(source: Folder, target: Folder, date: str, *, show: bool = False) -> Materialization:
    """Reads a date's pickle and publishes its channels; nothing to do where they are there.

    Raises:
        formats.array_pickle.PickleFileError: The file is not the digits in the public format.
    """
    copy = source.require("mnist/raw")
    inputs = {source.key(raw.FILE): copy.manifest.file(raw.FILE).sha256}
    earlier = target.published_if_current(inputs, CODE_VERSION)
    channels = earlier
    if channels is None:
        splits = mnist_pickle.load(
            copy.read(raw.FILE, max_bytes=raw.MAX_COMPRESSED_BYTES),
            max_compressed_bytes=raw.MAX_COMPRESSED_BYTES,
            max_expanded_bytes=raw.MAX_EXPANDED_BYTES,
        )
        channels = publish_channels(target, date, splits, inputs)
    manifest = channels.manifest
    return Materialization(
        metadata={
            "dagster/uri": target.uri,
            "dagster/partition_row_count": manifest.rows,
            "dagster/column_schema": table_schema(manifest.columns, _COLUMNS),
            **{f"{channel}_digits": manifest.extra["digits"][channel] for channel in CHANNELS},
            "bytes": manifest.size,
            "unchanged": earlier is not None,
            **(attempt_to_show(lambda: _show_digits(channels)) if show else {}),
        },
        data_version=manifest.content_sha256,
    )


def _show_digits(channels: Published) -> dict[str, Any]:
    return {"digits": contact_sheet(*read_channel(channels, "test"))}


def publish_channels(
    target: Folder, date: str, splits: mnist_pickle.MnistDataset, inputs: Mapping[str, str]
) -> Published:
    """Writes the channels, prepared and encoded in bounded memory, and their manifest."""
    digits: dict[str, dict[str, int]] = {}
    with Publication(target) as publication:
        clustered = publication.open(channel_file(MARKED))
        for channel, split in splits.splits().items():
            out = publication.open(channel_file(channel))
            for features, labels in _prepared(split):
                out.writelines(recordio.encode(features, labels.astype(np.float32)))
                if channel == "train":
                    clustered.writelines(
                        recordio.encode(marked(features, labels), labels.astype(np.float32))
                    )
            counts = Counter(split.labels.tolist())
            digits[channel] = {str(digit): counts[digit] for digit in range(10)}
        return publication.commit(
            partition=date,
            rows=sum(sum(counts.values()) for counts in digits.values()),
            columns=[
                Column(name="values", type=f"float32[{FEATURES}]"),
                Column(name="label", type="float32"),
            ],
            code_version=CODE_VERSION,
            inputs=inputs,
            extra={"digits": digits},
        )


def _prepared(
    split: mnist_pickle.Split,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Features (n, 784) and labels (n,), some digits at a time."""
    for start in range(0, len(split.images), _DIGITS_AT_ONCE):
        rows = slice(start, start + _DIGITS_AT_ONCE)
        yield digit_images.prepare(split.images[rows]), split.labels[rows]


def read_channel(
    channels: Published, channel: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A channel's features, (n, 784) float32 (of `MARKED` 794), and labels, (n,) int64.

    Raises:
        formats.recordio.RecordIOError: The file cannot be decoded, or has no labels.
    """
    data = channels.read(channel_file(channel), max_bytes=_MAX_CHANNEL_BYTES)
    features, labels = recordio.decode(data)
    if labels is None:
        raise recordio.RecordIOError(
            f"The {channel} channel of {channels.manifest.partition} has no labels."
        )
    return features, labels.astype(np.int64)


@dg.asset_check(
    asset=mnist_dataset,
    name="well_formed",
    blocking=True,
    partitions_def=DAILY,
    description="Every channel decodes to 784 finite features in 0..1 with labels in 0..9.",
)
def dataset_well_formed(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_form(folder(digits_store, date)))


def judge_form(published_in: Folder) -> Verdict:
    """Decodes every channel as SageMaker does."""
    channels = published_in.require("mnist/dataset")
    for channel in CHANNELS:
        features, labels = read_channel(channels, channel)
        digits = sum(channels.manifest.extra["digits"][channel].values())
        if features.shape != (digits, FEATURES):
            return Verdict(False, f"{channel} has the shape {features.shape}.")
        if not (np.isfinite(features).all() and features.min() >= 0 and features.max() <= 1):
            return Verdict(False, f"{channel} has features outside of 0..1.")
        if labels.min() < 0 or labels.max() > 9:
            return Verdict(False, f"{channel} has labels outside of 0..9.")
        if channel == "train":
            clustered, _ = read_channel(channels, MARKED)
            if not are_marked(clustered, features, labels):
                return Verdict(False, f"{MARKED} is not the train digits, marked.")
    return Verdict(True, "Well-formed.", {"digits": channels.manifest.rows})


@dg.asset_check(
    asset=mnist_dataset,
    name="balanced",
    blocking=True,
    partitions_def=DAILY,
    description=f"Each digit has {LEAST_SHARE:.0%} to {LARGEST_SHARE:.0%} of every channel.",
)
def dataset_balanced(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_balance(folder(digits_store, date)))


def judge_balance(published_in: Folder) -> Verdict:
    """Counts the labels of every channel anew."""
    channels = published_in.require("mnist/dataset")
    extremes: dict[str, float] = {}
    for channel in CHANNELS:
        _, labels = read_channel(channels, channel)
        shares = np.bincount(labels, minlength=10) / len(labels)
        extremes[f"{channel}_least"] = float(shares.min())
        extremes[f"{channel}_largest"] = float(shares.max())
        odd = [digit for digit in range(10) if not LEAST_SHARE <= shares[digit] <= LARGEST_SHARE]
        if odd:
            reasons = ", ".join(f"{digit} has {shares[digit]:.1%}" for digit in odd)
            return Verdict(False, f"{channel} is not balanced: {reasons}.", extremes)
    return Verdict(True, "Balanced.", extremes)
