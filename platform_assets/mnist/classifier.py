"""The classifier: the model's centroids renumbered so that digit = cluster mod 10, and its marks.

Accuracy comes from the test digits, through the very artifact that is deployed. Whether it is above
the gate's floor is written beside it, and how sure it is of the validation digits; how it compares
with what is live stands in `gate.py`.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from formats import digit_confidence, digit_features, ndarray_file, recordio
from platform_assets.mnist import centroids, dataset, model
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report
from platform_assets.upstream import UpstreamMissingError, already_made, require_manifest
from resources.s3 import Folder, Manifest, ObjectStore, Publication, file_key, read_file

ARTIFACT = "model.tar.gz"
EVALUATION = "evaluation.json"
CODE_VERSION = "2"
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
    max_drop: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description=(
            "By how much that share may be less than the live classifier's on the same digits."
        ),
    )


def prefix(date: str) -> str:
    """Where a date's classifier stands."""
    return f"mnist/classifiers/date={date}"


@dataclass(frozen=True)
class Judged:
    """A published classifier.

    Attributes:
        prefix: Where it stands: at its date's place, or at an endpoint's (see `frozen.py`).
        manifest: That names its files.
    """

    prefix: str
    manifest: Manifest

    @property
    def date(self) -> str:
        """The date that it was made for."""
        return self.manifest.partition

    @property
    def sha256(self) -> str:
        """Of its artifact."""
        return self.manifest.file(ARTIFACT).sha256

    def read_centroids(self, store: ObjectStore) -> NDArray[np.float32]:
        """The centroids, (10·m, 784) float32."""
        file = self.manifest.file(ARTIFACT)
        return ndarray_file.unpack_model(
            read_file(store, self.prefix, file, max_bytes=MAX_ARTIFACT_BYTES)
        )

    def read_evaluation(self, store: ObjectStore) -> dict[str, Any]:
        """What was published about it."""
        return json.loads(
            read_file(store, self.prefix, self.manifest.file(EVALUATION), max_bytes=2**20)
        )


@dg.asset(
    key=["mnist", "classifier"],
    deps=[dataset.mnist_dataset, model.mnist_model],
    group_name="mnist",
    kinds={"s3", "numpy"},
    owners=["team:machine-learning"],
    description=(
        "The model's centroids, each with the digit that it is marked with, renumbered so that "
        "digit = cluster mod 10; with accuracy, confusion matrix and what its gate asks for."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    backfill_policy=ONE_RUN,
)
def mnist_classifier(
    context: dg.AssetExecutionContext, config: Gate, digits_store: ObjectStore
) -> dg.MaterializeResult:
    return report(
        context,
        make_each(context.partition_keys, lambda date: classify(digits_store, date, config)),
    )


def classify(store: ObjectStore, date: str, gate: Gate) -> Materialization:
    """Make, judge and publish a date's classifier; nothing to do where it is there.

    Raises:
        UpstreamMissingError: The date has no model of the digits that it has now.
    """
    trained = require_manifest(store, model.prefix(date), "mnist/model")
    channels = require_manifest(store, dataset.prefix(date), "mnist/dataset")
    if trained.inputs.get(dataset.prefix(date)) != channels.content_sha256:
        # It may have been trained on what is a test digit now.
        raise UpstreamMissingError(
            f"The model of {date} is of other digits than {store.uri(dataset.prefix(date))} has "
            "now: materialise mnist/model for this date first."
        )
    inputs = {
        trained.extra["artifact"]: trained.extra["sha256"],
        dataset.prefix(date): channels.content_sha256,
        "gate": json.dumps(gate.model_dump(), sort_keys=True),
    }
    there = already_made(store, prefix(date), inputs=inputs, code_version=CODE_VERSION)
    manifest = there
    if manifest is None:
        artifact = label(
            ndarray_file.unpack_model(
                store.get_bytes(trained.extra["artifact"], max_bytes=MAX_ARTIFACT_BYTES)
            )
        )
        evaluation = {
            **evaluate(artifact, *read_channel(store, date, channels, "test"), gate),
            **calibrate(artifact, *read_channel(store, date, channels, "validation")),
        }
        manifest = publish(store, date, artifact, evaluation, inputs)
    judged = Judged(prefix(date), manifest)
    evaluation = judged.read_evaluation(store)
    return Materialization(
        metadata={
            "dagster/uri": store.uri(file_key(prefix(date), ARTIFACT)),
            "accuracy": evaluation["accuracy"],
            "mean_confidence": evaluation["mean_confidence"],
            "above_floor": evaluation["passed"],
            "min_accuracy": evaluation["min_accuracy"],
            "max_drop": evaluation["max_drop"],
            "centroids": manifest.rows,
            "confusion": dg.MetadataValue.md(confusion_table(evaluation["confusion"])),
            "pictures": dg.MetadataValue.md(pictures(judged.read_centroids(store))),
            "unchanged": there is not None,
        },
        data_version=judged.sha256,
    )


def label(trained: NDArray[np.float32]) -> bytes:
    """The artifact of trained centroids (k, 794): a model.tar.gz, equal for equal input."""
    return ndarray_file.pack_model(centroids.renumber(*centroids.unmarked(trained)))


def evaluate(
    artifact: bytes, images: NDArray[np.float32], labels: NDArray[np.int64], gate: Gate
) -> dict[str, Any]:
    """Accuracy, confusion matrix and whether the floor is reached, by the artifact's own bytes."""
    predicted = centroids.digits_of(images, ndarray_file.unpack_model(artifact))
    accuracy = float(np.mean(predicted == labels))
    return {
        "features": digit_features.VERSION,
        "accuracy": accuracy,
        "test_digits": len(labels),
        "confusion": centroids.confusion(labels, predicted).tolist(),
        "min_accuracy": gate.min_accuracy,
        "max_drop": gate.max_drop,
        "passed": accuracy >= gate.min_accuracy,
    }


def calibrate(
    artifact: bytes, images: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, Any]:
    """How sure it may be, by the validation digits, and whether it is that often right on them."""
    served = ndarray_file.unpack_model(artifact)
    reach = digit_confidence.reach(images, labels, served)
    likelihoods = digit_confidence.likelihoods(images, served, reach)
    return {
        "reach": reach.tolist(),
        "mean_confidence": float(likelihoods.max(axis=1).mean()),
        "validation_accuracy": float(np.mean(likelihoods.argmax(axis=1) == labels)),
    }


def publish(
    store: ObjectStore,
    date: str,
    artifact: bytes,
    evaluation: dict[str, Any],
    inputs: dict[str, str],
) -> Manifest:
    """Publish artifact and evaluation together."""
    with Publication(Folder(store, prefix(date))) as publication:
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
