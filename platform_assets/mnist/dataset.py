"""The digits as SageMaker reads them: train, validation and test channels in RecordIO-protobuf.

How a pickle is read safely and how a digit is prepared stands in `formats`.
"""

from collections import Counter
from collections.abc import Iterator

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from formats import digit_images, mnist_pickle, recordio
from formats.columns import Column
from formats.digit_features import FEATURES
from platform_assets.mnist import raw
from platform_assets.mnist.centroids import marked
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report
from platform_assets.upstream import already_made, require_manifest
from resources.s3 import Folder, Manifest, ObjectStore, Publication, file_key, read_file

CHANNELS = ("train", "validation", "test")
# The train digits once more, each marked with its digit: what the model is trained on.
MARKED = "marked"
CODE_VERSION = "2"
# The public file has 16 MB and expands to 220 MB. Reading one may take twice what it expands to,
# and a run in production has 2 GB: what is larger is refused, rather than the run killed.
MAX_COMPRESSED_BYTES = 256 * 2**20
MAX_EXPANDED_BYTES = 512 * 2**20
# Enough digits for one part of a multipart upload, so that memory does not grow with the file.
_DIGITS_AT_ONCE = 2000


def prefix(date: str) -> str:
    """Where a date's channels stand."""
    return f"mnist/dataset/date={date}"


def channel_file(channel: str) -> str:
    """Name of a channel's file below the prefix; SageMaker is given the folder."""
    return f"{channel}/data.rec"


@dg.asset(
    key=["mnist", "dataset"],
    deps=[raw.raw_mnist],
    group_name="mnist",
    kinds={"s3", "numpy"},
    owners=["team:data-engineering"],
    description=(
        "The day's digits, prepared as every picture is before it is classified, as RecordIO-"
        "protobuf: 784 float32 features in 0..1, and the digit as label. The model is trained on "
        "the train digits once more, marked: with the digit as ten further features."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
)
def mnist_dataset(
    context: dg.AssetExecutionContext, digits_store: ObjectStore
) -> dg.MaterializeResult:
    return report(
        context, make_each(context.partition_keys, lambda date: extract(digits_store, date))
    )


def extract(store: ObjectStore, date: str) -> Materialization:
    """Read a date's pickle and publish its channels; nothing to do where they are there.

    Raises:
        formats.mnist_pickle.MnistPickleError: The file is not the digits in the public format.
    """
    source = require_manifest(store, raw.prefix(date), "mnist/raw")
    inputs = {file_key(raw.prefix(date), raw.FILE): source.file(raw.FILE).sha256}
    there = already_made(store, prefix(date), inputs=inputs, code_version=CODE_VERSION)
    manifest = there
    if manifest is None:
        compressed = read_file(
            store, raw.prefix(date), source.file(raw.FILE), max_bytes=MAX_COMPRESSED_BYTES
        )
        splits = mnist_pickle.load(
            compressed,
            max_compressed_bytes=MAX_COMPRESSED_BYTES,
            max_expanded_bytes=MAX_EXPANDED_BYTES,
        )
        manifest = publish_channels(store, date, splits, inputs)
    return Materialization(
        metadata={
            "dagster/uri": store.uri(prefix(date)),
            "dagster/partition_row_count": manifest.rows,
            "dagster/column_schema": dg.TableSchema(
                columns=[dg.TableColumn(c.name, c.type) for c in manifest.columns]
            ),
            **{f"{channel}_digits": manifest.extra["digits"][channel] for channel in CHANNELS},
            "bytes": manifest.size,
            "unchanged": there is not None,
        },
        data_version=manifest.content_sha256,
    )


def publish_channels(
    store: ObjectStore, date: str, splits: mnist_pickle.MnistDataset, inputs: dict[str, str]
) -> Manifest:
    """Write the channels, prepared and encoded in bounded memory, and their manifest."""
    digits: dict[str, dict[str, int]] = {}
    with Publication(Folder(store, prefix(date))) as publication:
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
        ).manifest


def _prepared(
    split: mnist_pickle.Split,
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Features (n, 784) and labels (n,), some digits at a time."""
    for start in range(0, len(split.images), _DIGITS_AT_ONCE):
        rows = slice(start, start + _DIGITS_AT_ONCE)
        yield digit_images.prepare(split.images[rows]), split.labels[rows]
