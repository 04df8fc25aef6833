"""The classifier: the model's centroids renumbered so that digit = cluster mod 10, and its marks.

Accuracy comes from the test digits, through the very artifact that is deployed. The gate's verdict
is written beside it; `checks.py` holds it up, `endpoint.py` deploys nothing without it.
"""

import base64
import json
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from formats import ndarray_file, recordio
from platform_assets.mnist import centroids, dataset, model
from platform_assets.outcomes import Made, make_each, report
from platform_assets.partitions import DAILY, ONE_RUN, RETRIES
from platform_assets.upstream import already_made, require_manifest
from resources.s3 import ObjectStore
from resources.s3_manifest import Manifest, file_key, read_file
from resources.s3_publication import Publication

ARTIFACT = "model.tar.gz"
EVALUATION = "evaluation.json"
CODE_VERSION = "1"
_MAX_CHANNEL_BYTES = 512 * 2**20
MAX_ARTIFACT_BYTES = 256 * 2**20


class Gate(dg.Config):
    """What a classifier must reach to be deployed."""

    min_accuracy: float = Field(
        default=0.90,
        ge=0,
        le=1,
        description="The least share of test digits that it must classify rightly.",
    )


def prefix(date: str) -> str:
    """Where a date's classifier stands."""
    return f"mnist/classifiers/date={date}"


@dg.asset(
    key=["mnist", "classifier"],
    deps=[dataset.mnist_dataset, model.mnist_model],
    group_name="mnist",
    kinds={"s3", "numpy"},
    owners=["team:machine-learning"],
    description=(
        "The model's centroids, each given its digit by the validation digits and renumbered so "
        "that digit = cluster mod 10; with accuracy, confusion matrix and the gate's verdict."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
    retry_policy=RETRIES,
)
def mnist_classifier(
    context: dg.AssetExecutionContext, config: Gate, digits_store: ObjectStore
) -> dg.MaterializeResult:
    return report(
        context,
        make_each(context.partition_keys, lambda date: classify(digits_store, date, config)),
    )


def classify(store: ObjectStore, date: str, gate: Gate) -> Made:
    """Make, judge and publish a date's classifier; nothing to do where it is there."""
    trained = require_manifest(store, model.prefix(date), "mnist/model")
    channels = require_manifest(store, dataset.prefix(date), "mnist/dataset")
    inputs = {
        trained.extra["artifact"]: trained.extra["sha256"],
        dataset.prefix(date): channels.content_sha256,
        "gate": json.dumps(gate.model_dump(), sort_keys=True),
    }
    there = already_made(store, prefix(date), inputs=inputs, code_version=CODE_VERSION)
    manifest = there
    if manifest is None:
        raw_centroids = ndarray_file.unpack_model(
            store.get_bytes(trained.extra["artifact"], max_bytes=MAX_ARTIFACT_BYTES)
        )
        artifact = label(raw_centroids, *read_channel(store, date, channels, "validation"))
        evaluation = evaluate(artifact, *read_channel(store, date, channels, "test"), gate)
        manifest = publish(store, date, artifact, evaluation, inputs)
    evaluation = read_evaluation(store, date, manifest)
    return Made(
        metadata={
            "dagster/uri": store.uri(file_key(prefix(date), ARTIFACT)),
            "accuracy": evaluation["accuracy"],
            "passed_gate": evaluation["passed"],
            "min_accuracy": evaluation["min_accuracy"],
            "centroids": manifest.rows,
            "confusion": dg.MetadataValue.md(confusion_table(evaluation["confusion"])),
            "pictures": dg.MetadataValue.md(pictures(read_centroids(store, date, manifest))),
            "unchanged": there is not None,
        },
        data_version=manifest.file(ARTIFACT).sha256,
    )


def label(
    raw_centroids: NDArray[np.float32],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> bytes:
    """The artifact with the centroids renumbered: a model.tar.gz, equal for equal input."""
    digits = centroids.digits_of_clusters(raw_centroids, images, labels)
    return ndarray_file.pack_model(centroids.renumber(raw_centroids, digits))


def evaluate(
    artifact: bytes, images: NDArray[np.float32], labels: NDArray[np.int64], gate: Gate
) -> dict[str, Any]:
    """Accuracy, confusion matrix and the gate's verdict, through the artifact's own bytes."""
    predicted = centroids.nearest(images, ndarray_file.unpack_model(artifact)) % centroids.DIGITS
    accuracy = float(np.mean(predicted == labels))
    return {
        "accuracy": accuracy,
        "test_digits": len(labels),
        "confusion": centroids.confusion(labels, predicted).tolist(),
        "min_accuracy": gate.min_accuracy,
        "passed": accuracy >= gate.min_accuracy,
    }


def publish(
    store: ObjectStore,
    date: str,
    artifact: bytes,
    evaluation: dict[str, Any],
    inputs: dict[str, str],
) -> Manifest:
    """Publish artifact and evaluation together."""
    with Publication(store, prefix(date)) as publication:
        publication.put(ARTIFACT, artifact, content_type="application/gzip")
        publication.put(
            EVALUATION,
            (json.dumps(evaluation, indent=2, sort_keys=True) + "\n").encode(),
            content_type="application/json",
        )
        return publication.commit(
            partition=date,
            rows=len(ndarray_file.unpack_model(artifact)),
            code_version=CODE_VERSION,
            inputs=inputs,
            extra={"accuracy": evaluation["accuracy"], "passed": evaluation["passed"]},
        ).manifest


def read_channel(
    store: ObjectStore, date: str, channels: Manifest, channel: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A channel's features (n, 784) float32 and labels (n,) int64."""
    data = read_file(
        store,
        dataset.prefix(date),
        channels.file(dataset.channel_file(channel)),
        max_bytes=_MAX_CHANNEL_BYTES,
    )
    features, labels = recordio.decode(data)
    if labels is None:
        raise recordio.RecordIOError(f"The {channel} channel of {date} has no labels.")
    return features, labels.astype(np.int64)


def read_evaluation(store: ObjectStore, date: str, manifest: Manifest) -> dict[str, Any]:
    """What was published about a date's classifier."""
    file = manifest.file(EVALUATION)
    return json.loads(read_file(store, prefix(date), file, max_bytes=2**20))


def read_centroids(store: ObjectStore, date: str, manifest: Manifest) -> NDArray[np.float32]:
    """The published centroids, (10·m, 784) float32."""
    file = manifest.file(ARTIFACT)
    return ndarray_file.unpack_model(
        read_file(store, prefix(date), file, max_bytes=MAX_ARTIFACT_BYTES)
    )


def confusion_table(confusion: list[list[int]]) -> str:
    """The confusion matrix as a Markdown table: a row for each digit, a column for each answer."""
    head = "| digit | " + " | ".join(map(str, range(10))) + " |\n" + "|---" * 11 + "|\n"
    return head + "\n".join(
        f"| **{digit}** | " + " | ".join(map(str, row)) + " |"
        for digit, row in enumerate(confusion)
    )


def pictures(found: NDArray[np.float32]) -> str:
    """The centroids as one picture in Markdown."""
    encoded = base64.b64encode(centroids.picture(found[: 10 * 12])).decode()
    return f"![The first centroids of each digit](data:image/png;base64,{encoded})"
