"""The gate: the accuracy a classifier must reach, and how much worse than the live one it may be.

The least accuracy is measured once, with the classifier, and written beside it. The comparison
depends on which classifier is live at the moment: it is made by the check and once more before a
deploy, and is not recorded, since the record would be wrong as soon as another one is live.
"""

import dagster as dg
import numpy as np
from pydantic import Field

from platform_assets.checks import Verdict
from platform_assets.mnist import centroids, dataset
from platform_assets.mnist.published_classifier import PublishedClassifier

# Rounds differences of floats, so that 0.97 - 0.95 is not more than 0.02.
_DECIMALS = 9


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


class Margin:
    """Compares classifiers with the live one, on the test digits of the candidate's date.

    Both classify the same digits: accuracies that were measured on different ones say nothing.

    Args:
        live: The classifier that is live; None where nothing is.
    """

    def __init__(self, live: PublishedClassifier | None) -> None:
        self._live = live
        # By the sha256 of the digits, since many dates have the same.
        self._live_accuracy: dict[str, float] = {}

    def judge(self, candidate: PublishedClassifier) -> Verdict:
        """Whether a classifier is no worse than the live one by more than its gate allows.

        A candidate that is older than the live one would not replace it, and passes.

        Raises:
            NotPublishedError: Its date has no digits any more.
        """
        live = self._live
        if live is None:
            return Verdict(True, "Nothing is live that it could be compared with.")
        if live.sha256 == candidate.sha256:
            return Verdict(True, "It is what is live.")
        if candidate.date < live.date:
            return Verdict(True, f"It does not replace the newer one of {live.date}, that is live.")
        max_drop = candidate.read_evaluation()["max_drop"]
        own_accuracy, live_accuracy = self._accuracies(candidate, live)
        return Verdict(
            passed=round(live_accuracy - own_accuracy, _DECIMALS) <= max_drop,
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
