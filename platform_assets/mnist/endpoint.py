"""The endpoint: serves the newest classifier that passed its gate and that nobody keeps out.

It is no partition but a reconciliation, which stands in `platform_assets.models.serving`: here is
what is special about digits.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from platform_assets.errors import PlatformError
from platform_assets.lineage import place
from platform_assets.mnist import centroids, classifier, dataset, deployed, model
from platform_assets.mnist.digit_sheets import answer_sheet
from platform_assets.mnist.gate import AccuracyMargin
from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.served_models import ServedModels
from platform_assets.models.serving import Serving
from platform_assets.partitions import DUE_DAILY, ONE_RUN
from resources.s3 import ObjectStore
from resources.sagemaker import (
    Invoke,
    Log,
    ModelContainer,
    SageMakerResource,
    SmokeTest,
    builtin_image_uri,
)

CODE_VERSION = "1"
# Of all that changes the endpoint: one at a time.
POOL = "mnist_endpoint"
# Few enough for one request, enough that each digit is likely among them.
_SMOKE_DIGITS = 100


@dg.asset(
    key=["mnist", "endpoint"],
    deps=[classifier.mnist_classifier],
    group_name="mnist",
    kinds={"sagemaker"},
    owners=["team:machine-learning"],
    tags=place("digits", "served"),
    description=(
        "The SageMaker endpoint, serving the newest classifier that passes its gate, was approved "
        "where that is asked for, and was not rolled back. Its answer's closest_cluster mod 10 is "
        "the digit."
    ),
    code_version=CODE_VERSION,
    backfill_policy=ONE_RUN,
    freshness_policy=DUE_DAILY,
    pool=POOL,
    # As long as nothing was ever approved, there is none.
    output_required=False,
)
def mnist_endpoint(
    context: dg.AssetExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> Iterator[dg.MaterializeResult]:
    yield from serve(endpoint, digits_store, sagemaker, context.log).materialize(context)


def serve(
    endpoint: Endpoint, store: ObjectStore, sagemaker: SageMakerResource, log: Log
) -> Serving[PublishedClassifier]:
    """The endpoint with the digits' classifiers."""
    return Serving(Digits(store), endpoint, sagemaker, log)


class Digits(ServedModels[PublishedClassifier]):
    """The digits' classifiers."""

    pipeline = "mnist"
    judged = classifier.mnist_classifier.key
    check = classifier.GATE
    served = dg.AssetKey(["mnist", "endpoint"])
    dates = classifier.DATES
    trained_prefix = model.PREFIX

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.deployed = deployed.classifiers(store)
        self.decisions = deployed.decisions(store)

    def is_current(self, model: PublishedClassifier) -> bool:
        """Whether a classifier reads the features that are sent today, by its code version."""
        return model.files.manifest.code_version == classifier.CODE_VERSION

    def margin(self, live: PublishedClassifier | None) -> AccuracyMargin:
        """By the accuracies on the same digits."""
        return AccuracyMargin(live)

    def container(self, region: str, model: PublishedClassifier) -> ModelContainer:
        """SageMaker's own k-means."""
        return ModelContainer(
            image=builtin_image_uri("kmeans", region), model_data_url=model.artifact_uri
        )

    def proof(self, model: PublishedClassifier) -> SmokeTest:
        """It has to read test digits as the classifier does."""
        return Proof.read(model).require

    def describe(self, model: PublishedClassifier) -> dict[str, Any]:
        """Its centroids, date and accuracy."""
        manifest = model.files.manifest
        return {
            # Of centroids that it answers with.
            "dagster/row_count": manifest.rows,
            "classifier_date": model.date,
            "accuracy": manifest.extra["accuracy"],
        }

    def show(
        self, endpoint: Endpoint, sagemaker: SageMakerResource, model: PublishedClassifier
    ) -> dict[str, Any]:
        """Test digits with what the endpoint answers now, and what it should: its proof."""
        proof = Proof.read(model)
        answers = proof.answers(partial(sagemaker.invoke, endpoint.name))
        return {"proof": answer_sheet(proof.images, answers, proof.digits)}


class WrongAnswersError(PlatformError):
    """The endpoint's answers are not those of the classifier that it is said to serve."""


@dataclass(frozen=True)
class Proof:
    """Some test digits, and what a classifier reads in them.

    Attributes:
        images: (n, 784) float32.
        digits: (n,) int64.
    """

    date: str
    images: NDArray[np.float32]
    digits: NDArray[np.int64]

    @classmethod
    def read(cls, served: PublishedClassifier) -> "Proof":
        """The test digits of a classifier's date, and its own answers.

        Raises:
            NotPublishedError: The date has no digits any more.
            WrongAnswersError: It was made for other features than are sent today.
        """
        if served.files.manifest.code_version != classifier.CODE_VERSION:
            raise WrongAnswersError(
                f"The classifier of {served.date} was made by an earlier version of the code, for "
                "other features of digits than the API sends: materialise this date anew, or roll "
                "back to a later version."
            )
        store = served.files.folder.store
        channels = dataset.folder(store, served.date).require("mnist/dataset")
        images, _ = dataset.read_channel(channels, "test")
        images = images[:_SMOKE_DIGITS]
        return cls(served.date, images, centroids.digits_of(images, served.read_centroids()))

    def answers(self, invoke: Invoke) -> NDArray[np.int64]:
        """What the endpoint reads in the images, right or wrong: (n,) int64.

        Raises:
            WrongAnswersError: It did not answer as k-means does, or not once for each.
        """
        answers = ask(invoke, self.images)
        if len(answers) != len(self.digits):
            raise WrongAnswersError(
                f"The endpoint gave {len(answers)} answers to {len(self.digits)} test digits."
            )
        return answers

    def require(self, invoke: Invoke) -> None:
        """Have the endpoint read the images as the classifier does.

        Raises:
            WrongAnswersError: It answered something else than the classifier.
        """
        wrong = int(np.count_nonzero(self.answers(invoke) != self.digits))
        if wrong:
            raise WrongAnswersError(
                f"{wrong} of {len(self.images)} test digits are classified otherwise by the "
                f"endpoint than by the classifier of {self.date}."
            )


def ask(invoke: Invoke, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digits that the endpoint reads in images (n, 784): (n,) int64.

    Raises:
        WrongAnswersError: It did not answer as k-means does.
    """
    rows = (",".join(f"{value:.9g}" for value in image) for image in images.tolist())
    answer = invoke("\n".join(rows).encode(), content_type="text/csv")
    try:
        predictions = json.loads(answer.body)["predictions"]
        clusters = np.array([item["closest_cluster"] for item in predictions], np.int64)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise WrongAnswersError(
            f"The endpoint did not answer as k-means does, but began with {answer.body[:100]!r}."
        ) from error
    return clusters % centroids.DIGITS
