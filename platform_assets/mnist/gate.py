"""The gate: the accuracy a classifier must reach, and how much worse than the live one it may be.

The least accuracy is measured once, with the classifier, and written beside it. When the comparison
is made, and why it is not recorded, stands in `platform_assets.models.margin`.
"""

from dataclasses import dataclass, field

import dagster as dg
import numpy as np
from pydantic import Field

from platform_assets.checks import Verdict
from platform_assets.mnist import centroids, dataset
from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.models.margin import Margin, is_within


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


@dataclass
class AccuracyMargin(Margin[PublishedClassifier]):
    """Compares classifiers with the live one, on the test digits of the candidate's date.

    Both classify the same digits: accuracies that were measured on different ones say nothing.
    """

    # By the sha256 of the digits, since many dates have the same.
    _live_accuracy: dict[str, float] = field(default_factory=dict[str, float], init=False)

    def compare(self, candidate: PublishedClassifier, live: PublishedClassifier) -> Verdict:
        """Lets both read the candidate's test digits.

        Raises:
            NotPublishedError: Its date has no digits any more.
        """
        max_drop = candidate.read_evaluation()["max_drop"]
        own_accuracy, live_accuracy = self._accuracies(candidate, live)
        return Verdict(
            passed=is_within(live_accuracy - own_accuracy, max_drop),
            description=(
                f"The live one of {live.date} classifies {live_accuracy:.1%} of its test digits "
                f"rightly and this one {own_accuracy:.1%}; at most {max_drop:.1%} less are allowed."
            ),
            metadata={
                "live_accuracy": live_accuracy,
                "live_date": live.date,
                "max_drop": max_drop,
            },
        )

    def _accuracies(
        self, candidate: PublishedClassifier, live: PublishedClassifier
    ) -> tuple[float, float]:
        channels = dataset.folder(candidate.files.folder.store, candidate.date).require(
            "mnist/dataset"
        )
        images, labels = dataset.read_channel(channels, "test")

        def accuracy(classifier: PublishedClassifier) -> float:
            predicted = centroids.digits_of(images, classifier.read_centroids())
            return float(np.mean(predicted == labels))

        digits = channels.manifest.file(dataset.channel_file("test")).sha256
        if digits not in self._live_accuracy:
            self._live_accuracy[digits] = accuracy(live)
        return accuracy(candidate), self._live_accuracy[digits]
