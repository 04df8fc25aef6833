"""The classifier: the model's centroids renumbered so that digit = cluster mod 10.

The asset and its checks. How good a classifier is, is measured in `evaluation.py`, with the very
bytes that are deployed; what it must reach stands in `gate.py`.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from formats import ndarray_file
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.mnist import (
    centroids,
    dataset,
    deployed,
    digit_sheets,
    evaluation,
    model,
)
from platform_assets.mnist.gate import AccuracyMargin, Gate
from platform_assets.mnist.published_classifier import EVALUATION, PublishedClassifier
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.published import ARTIFACT, MAX_ARTIFACT_BYTES
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.pictures import attempt_to_show, newest, to_table
from platform_assets.reports import Materialization, make_each
from resources.s3 import Folder, NotPublishedError, ObjectStore, Publication, Published
from resources.sagemaker import SageMakerResource

CODE_VERSION = "2"
# What the prefixes of all dates' classifiers begin with.
DATES = "mnist/classifiers/date="
GATE = "accuracy_above_gate"
# Of 1,000 validation digits, chance moves the share of right ones by about as much.
MOST_OVERCONFIDENCE = 0.01


def folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's classifier is."""
    return Folder(store, f"{DATES}{date}")


@dg.asset(
    key=["mnist", "classifier"],
    deps=[dataset.mnist_dataset, model.mnist_model],
    group_name="mnist",
    kinds={"s3", "numpy"},
    owners=["team:machine-learning"],
    tags=place("digits", "derived"),
    metadata=deployed.JOBS.metadata(),
    description=(
        "The model's centroids, each with the digit that it is marked with, renumbered so that "
        "digit = cluster mod 10; with accuracy, confusion matrix and what its gate asks for."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    freshness_policy=DUE_DAILY,
    backfill_policy=ONE_RUN,
)
def mnist_classifier(
    context: dg.AssetExecutionContext, config: Gate, digits_store: ObjectStore
) -> dg.MaterializeResult:
    shown = newest(context.partition_keys)
    return make_each(context, lambda date: classify(digits_store, date, config, show=date in shown))


def classify(store: ObjectStore, date: str, gate: Gate, *, show: bool = False) -> Materialization:
    """Makes, evaluates and publishes a date's classifier; nothing to do where it is there.

    Raises:
        NotPublishedError: The date has no model of the digits that it has now.
    """
    trained = model.folder(store, date).require("mnist/model").manifest
    channels = dataset.folder(store, date).require("mnist/dataset")
    digits = channels.folder
    if trained.inputs.get(digits.prefix) != channels.manifest.content_sha256:
        # It may have been trained on what is a test digit now.
        raise NotPublishedError(
            f"The model of {date} is of other digits than {digits.uri} has now: materialise "
            "mnist/model for this date first."
        )
    inputs = {
        trained.extra["artifact"]: trained.extra["sha256"],
        digits.prefix: channels.manifest.content_sha256,
        "gate": json.dumps(gate.model_dump(), sort_keys=True),
    }
    target = folder(store, date)
    earlier = target.published_if_current(inputs, CODE_VERSION)
    if earlier is not None:
        classifier = PublishedClassifier(earlier)
    else:
        artifact = label(
            ndarray_file.unpack_model(
                store.get_bytes(trained.extra["artifact"], max_bytes=MAX_ARTIFACT_BYTES)
            )
        )
        # Measured are the very bytes that are deployed.
        served = ndarray_file.unpack_model(artifact)
        measured = {
            **evaluation.evaluate(served, *dataset.read_channel(channels, "test"), gate),
            **evaluation.calibrate(served, *dataset.read_channel(channels, "validation")),
        }
        classifier = publish(target, date, artifact, measured, inputs, rows=len(served))
    measured = classifier.read_evaluation()
    return Materialization(
        metadata={
            "dagster/uri": classifier.artifact_uri,
            # Of centroids.
            "dagster/partition_row_count": classifier.files.manifest.rows,
            "accuracy": measured["accuracy"],
            "mean_confidence": measured["mean_confidence"],
            "above_floor": measured["passed"],
            "min_accuracy": measured["min_accuracy"],
            "max_drop": measured["max_drop"],
            "confusion": to_table(
                ("digit", *map(str, range(centroids.DIGITS))),
                [(digit, *row) for digit, row in enumerate(measured["confusion"])],
            ),
            "unchanged": earlier is not None,
            **(attempt_to_show(lambda: show_classifier(classifier, channels)) if show else {}),
        },
        data_version=classifier.sha256,
    )


def show_classifier(classifier: PublishedClassifier, channels: Published) -> dict[str, Any]:
    """Its centroids and its mistakes, as pictures."""
    points = classifier.read_centroids()
    images, labels = dataset.read_channel(channels, "test")
    return {
        "centroids": digit_sheets.centroid_sheet(points),
        "confusion_picture": digit_sheets.confusion_picture(
            np.array(classifier.read_evaluation()["confusion"], np.int64)
        ),
        "worst_mistakes": digit_sheets.worst_mistakes(images, labels, points),
    }


def label(trained: NDArray[np.float32]) -> bytes:
    """The artifact of trained centroids (k, 794): a model.tar.gz, equal for equal input."""
    return ndarray_file.pack_model(centroids.renumber(*centroids.unmarked(trained)))


def publish(
    target: Folder,
    date: str,
    artifact: bytes,
    measured: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    rows: int,
) -> PublishedClassifier:
    """Publishes an artifact and its evaluation together.

    Args:
        rows: How many centroids are in the artifact.
    """
    with Publication(target) as publication:
        publication.put(ARTIFACT, artifact, content_type="application/gzip")
        publication.put(
            EVALUATION,
            (json.dumps(measured, indent=2, sort_keys=True) + "\n").encode(),
            content_type="application/json",
        )
        return PublishedClassifier(
            publication.commit(
                partition=date,
                rows=rows,
                code_version=CODE_VERSION,
                inputs=inputs,
                extra={"accuracy": measured["accuracy"], "passed": measured["passed"]},
            )
        )


@dg.asset_check(
    asset=mnist_classifier,
    name=GATE,
    blocking=True,
    partitions_def=DAILY,
    description=(
        "The classifier is above the gate's floor and no worse than the live one by more than the "
        "gate's margin, or a person has overridden the gate for it; its files are as published."
    ),
)
def accuracy_above_gate(
    context: dg.AssetCheckExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.AssetCheckResult:
    @functools.cache
    def margin() -> AccuracyMargin:
        return AccuracyMargin(deployed.find_live(digits_store, sagemaker, endpoint.name))

    return check_each(context, lambda date: judge_accuracy(folder(digits_store, date), margin))


def judge_accuracy(published_in: Folder, margin: Callable[[], AccuracyMargin]) -> Verdict:
    """The accuracy as it was measured, of files that are as published, and the margin as it is now.

    A person may have overridden the gate for this very version.

    Args:
        margin: Asks what is live; what it raises is raised here.
    """
    files = published_in.require("mnist/classifier")
    if problems := files.verify():
        return Verdict(False, " ".join(problems))
    classifier = PublishedClassifier(files)
    measured = classifier.read_evaluation()
    accuracy, min_accuracy = measured["accuracy"], measured["min_accuracy"]
    compared = margin().judge(classifier)
    verdict = Verdict(
        passed=measured["passed"] and compared.passed,
        description=(
            f"It classifies {accuracy:.1%} of {measured['test_digits']} test digits rightly; "
            f"the gate asks for {min_accuracy:.1%}. {compared.description}"
        ),
        metadata={"accuracy": accuracy, "min_accuracy": min_accuracy, **compared.metadata},
    )
    return deployed.decisions(published_in.store).overrule(verdict, classifier)


@dg.asset_check(
    asset=mnist_classifier,
    name="confidence_is_earned",
    partitions_def=DAILY,
    description="On the validation digits the mean confidence is not above the accuracy.",
)
def confidence_is_earned(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_confidence(folder(digits_store, date)))


def judge_confidence(published_in: Folder) -> Verdict:
    """A warning where the API would claim to be surer than it is right."""
    measured = PublishedClassifier(published_in.require("mnist/classifier")).read_evaluation()
    if "mean_confidence" not in measured:
        return Verdict(False, "It was made before confidence was measured: materialise it again.")
    confidence, accuracy = measured["mean_confidence"], measured["validation_accuracy"]
    return Verdict(
        passed=confidence <= accuracy + MOST_OVERCONFIDENCE,
        description=(
            f"It is sure of its answers by {confidence:.1%} on average, and {accuracy:.1%} of them "
            "are right."
        ),
        metadata={"mean_confidence": confidence, "validation_accuracy": accuracy},
        severity="warn",
    )
