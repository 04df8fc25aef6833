"""What must hold of the digits, date by date; all but a warning stops what is downstream."""

import functools
import gzip
import zlib
from collections.abc import Callable

import dagster as dg
import numpy as np

from formats.digit_features import FEATURES
from platform_assets.checks import Verdict, check_each
from platform_assets.mnist import centroids, classifier, dataset, frozen, gate, raw
from platform_assets.mnist.endpoint import Endpoint
from platform_assets.partitions import DAILY
from platform_assets.upstream import require_manifest
from resources.s3 import ObjectStore, file_key, open_file, verify
from resources.sagemaker import SageMakerResource

# In the public file each digit has between 9.0 % and 11.3 % of a split; in a tenth of it, chance
# takes that to about 7 % and 13 %.
LEAST_SHARE, LARGEST_SHARE = 0.05, 0.20
# Of 1,000 validation digits, chance moves the share of right ones by about as much.
MOST_OVERCONFIDENCE = 0.01
_BLOCK_BYTES = 1 << 20


@dg.asset_check(
    asset=raw.raw_mnist,
    name="intact",
    blocking=True,
    partitions_def=DAILY,
    description="The copy has the bytes that its manifest names, and is a whole gzip file.",
)
def raw_intact(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_raw(digits_store, date))


def judge_raw(store: ObjectStore, date: str) -> Verdict:
    """Read the whole copy once: sha256 by the manifest, CRC and length by gzip's trailer."""
    at = raw.prefix(date)
    manifest = require_manifest(store, at, "mnist/raw")
    if problems := verify(store, at):
        return Verdict(False, " ".join(problems))
    try:
        with (
            open_file(store, at, manifest.file(raw.FILE)) as compressed,
            gzip.open(compressed) as plain,
        ):
            expanded = 0
            while block := plain.read(_BLOCK_BYTES):
                expanded += len(block)
                if expanded > dataset.MAX_EXPANDED_BYTES:
                    return Verdict(False, f"It expands to more than {expanded:,} bytes.")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        uri = store.uri(file_key(at, raw.FILE))
        return Verdict(False, f"{uri} is not a whole gzip file: {error}")
    return Verdict(True, "Whole.", {"bytes": manifest.size, "expanded_bytes": expanded})


@dg.asset_check(
    asset=dataset.mnist_dataset,
    name="well_formed",
    blocking=True,
    partitions_def=DAILY,
    description="Every channel decodes to 784 finite features in 0..1 with labels in 0..9.",
)
def dataset_well_formed(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_dataset(digits_store, date))


def judge_dataset(store: ObjectStore, date: str) -> Verdict:
    """Decode every channel as SageMaker does."""
    manifest = require_manifest(store, dataset.prefix(date), "mnist/dataset")
    for channel in dataset.CHANNELS:
        features, labels = classifier.read_channel(store, date, manifest, channel)
        expected = sum(manifest.extra["digits"][channel].values())
        if features.shape != (expected, FEATURES):
            return Verdict(False, f"{channel} has the shape {features.shape}.")
        if not (np.isfinite(features).all() and features.min() >= 0 and features.max() <= 1):
            return Verdict(False, f"{channel} has features outside of 0..1.")
        if labels.min() < 0 or labels.max() > 9:
            return Verdict(False, f"{channel} has labels outside of 0..9.")
        if channel == "train":
            clustered, _ = classifier.read_channel(store, date, manifest, dataset.MARKED)
            if not centroids.are_marked(clustered, features, labels):
                return Verdict(False, f"{dataset.MARKED} is not the train digits, marked.")
    return Verdict(True, "Well-formed.", {"digits": manifest.rows})


@dg.asset_check(
    asset=dataset.mnist_dataset,
    name="balanced",
    blocking=True,
    partitions_def=DAILY,
    description=f"Each digit has {LEAST_SHARE:.0%} to {LARGEST_SHARE:.0%} of every channel.",
)
def dataset_balanced(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_balance(digits_store, date))


def judge_balance(store: ObjectStore, date: str) -> Verdict:
    """Count the labels of every channel anew."""
    manifest = require_manifest(store, dataset.prefix(date), "mnist/dataset")
    shares: dict[str, float] = {}
    for channel in dataset.CHANNELS:
        _, labels = classifier.read_channel(store, date, manifest, channel)
        found = np.bincount(labels, minlength=10) / len(labels)
        shares[f"{channel}_least"] = float(found.min())
        shares[f"{channel}_largest"] = float(found.max())
        odd = [d for d in range(10) if not (LEAST_SHARE <= found[d] <= LARGEST_SHARE)]
        if odd:
            said = ", ".join(f"{digit} has {found[digit]:.1%}" for digit in odd)
            return Verdict(False, f"{channel} is not balanced: {said}.", shares)
    return Verdict(True, "Balanced.", shares)


@dg.asset_check(
    asset=classifier.mnist_classifier,
    name="accuracy_above_gate",
    blocking=True,
    partitions_def=DAILY,
    description=(
        "The classifier is above the gate's floor, no worse than the live one by more than the "
        "gate's margin, and its files are as published."
    ),
)
def accuracy_above_gate(
    context: dg.AssetCheckExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.AssetCheckResult:
    @functools.cache
    def margin() -> gate.Margin:
        return gate.Margin(digits_store, frozen.find_live(digits_store, sagemaker, endpoint.name))

    return check_each(context, lambda date: judge_classifier(digits_store, date, margin))


def judge_classifier(store: ObjectStore, date: str, margin: Callable[[], gate.Margin]) -> Verdict:
    """The floor as published, on files that are as published, and the margin as it is now."""
    at = classifier.prefix(date)
    judged = classifier.Judged(at, require_manifest(store, at, "mnist/classifier"))
    if problems := verify(store, at):
        return Verdict(False, " ".join(problems))
    evaluation = judged.read_evaluation(store)
    accuracy, least = evaluation["accuracy"], evaluation["min_accuracy"]
    compared = margin().judge(judged)
    return Verdict(
        passed=evaluation["passed"] and accuracy >= least and compared.passed,
        description=(
            f"It classifies {accuracy:.1%} of {evaluation['test_digits']} test digits rightly; "
            f"the gate asks for {least:.1%}. {compared.description}"
        ),
        metadata={"accuracy": accuracy, "min_accuracy": least, **compared.metadata},
    )


@dg.asset_check(
    asset=classifier.mnist_classifier,
    name="confidence_is_earned",
    partitions_def=DAILY,
    description="On the validation digits the mean confidence is not above the accuracy.",
)
def confidence_is_earned(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_confidence(digits_store, date))


def judge_confidence(store: ObjectStore, date: str) -> Verdict:
    """A warning where the API would claim more than it keeps."""
    at = classifier.prefix(date)
    judged = classifier.Judged(at, require_manifest(store, at, "mnist/classifier"))
    evaluation = judged.read_evaluation(store)
    if "mean_confidence" not in evaluation:
        return Verdict(False, "It was made before confidence was measured: materialise it again.")
    confidence, accuracy = evaluation["mean_confidence"], evaluation["validation_accuracy"]
    return Verdict(
        passed=confidence <= accuracy + MOST_OVERCONFIDENCE,
        description=(
            f"It is sure of its answers by {confidence:.1%} on average, and {accuracy:.1%} of them "
            "are right."
        ),
        metadata={"mean_confidence": confidence, "validation_accuracy": accuracy},
        severity="warn",
    )
