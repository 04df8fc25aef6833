"""The gate: a floor, and a margin to the classifier that is live.

The floor belongs to a classifier and is written with it. The margin is a relation to whatever is
live at the moment. It is judged anew where it counts, by the check and once more before a deploy,
and recorded nowhere: a record would be wrong as soon as something else is live.
"""

import numpy as np

from platform_assets.checks import Verdict
from platform_assets.mnist import centroids, classifier, dataset
from platform_assets.mnist.classifier import Judged
from platform_assets.upstream import require_manifest
from resources.s3 import ObjectStore

# Of differences of shares, so that 0.97 - 0.95 is no more than 0.02.
_DECIMALS = 9


class Margin:
    """Holds classifiers up against the live one, each on the test digits of its own date.

    Both are asked for the same digits: an accuracy that was measured on others is no measure.

    Args:
        store: Where classifiers and digits stand.
        live: The classifier that is live; None where nothing is.
    """

    def __init__(self, store: ObjectStore, live: Judged | None) -> None:
        self._store = store
        self._live = live
        # By the sha256 of the digits, since many dates have the same.
        self._live_accuracy: dict[str, float] = {}

    def judge(self, candidate: Judged) -> Verdict:
        """Whether a classifier is no worse than the live one by more than its gate allows.

        What is older than the live one does not take its place and is not compared with it.

        Raises:
            UpstreamMissingError: Its date has no digits any more.
        """
        live = self._live
        if live is None:
            return Verdict(True, "Nothing is live that it could be compared with.")
        if live.sha256 == candidate.sha256:
            return Verdict(True, "It is what is live.")
        if candidate.date < live.date:
            return Verdict(True, f"It does not replace the newer one of {live.date}, that is live.")
        most = candidate.read_evaluation(self._store)["max_drop"]
        own_accuracy, live_accuracy = self._accuracies(candidate, live)
        drop = live_accuracy - own_accuracy
        return Verdict(
            passed=round(drop, _DECIMALS) <= most,
            description=(
                f"The live one of {live.date} classifies {live_accuracy:.1%} of its test digits "
                f"rightly and this one {own_accuracy:.1%}; at most {most:.1%} less are allowed."
            ),
            metadata={"live_accuracy": live_accuracy, "live_date": live.date, "max_drop": most},
        )

    def _accuracies(self, candidate: Judged, live: Judged) -> tuple[float, float]:
        channels = require_manifest(self._store, dataset.prefix(candidate.date), "mnist/dataset")
        images, labels = classifier.read_channel(self._store, candidate.date, channels, "test")

        def accuracy(judged: Judged) -> float:
            found = centroids.digits_of(images, judged.read_centroids(self._store))
            return float(np.mean(found == labels))

        digits = channels.file(dataset.channel_file("test")).sha256
        if digits not in self._live_accuracy:
            self._live_accuracy[digits] = accuracy(live)
        return accuracy(candidate), self._live_accuracy[digits]
