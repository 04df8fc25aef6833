"""How good a classifier is: accuracy, confusion matrix and confidence.

Pure functions on arrays. What a classifier must reach is in `gate.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import digit_confidence, digit_features
from platform_assets.mnist import centroids
from platform_assets.mnist.gate import Gate


def evaluate(
    served: NDArray[np.float32],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    gate: Gate,
) -> dict[str, Any]:
    """Accuracy, confusion matrix and whether the gate's floor is reached, on test digits.

    Args:
        served: (10·m, 784) float32, the centroids as they are deployed.
        images: (n, 784) float32, features of the test digits.
        labels: (n,) int64 in 0..9.
        gate: What the classifier must reach.
    """
    predicted = centroids.digits_of(images, served)
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
    served: NDArray[np.float32], images: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, Any]:
    """What confidence the API may show, from validation digits, and how often it is right on them.

    Args:
        served: As of `evaluate`.
        images: (n, 784) float32, features of the validation digits.
        labels: (n,) int64 in 0..9.
    """
    reach = digit_confidence.reach(images, labels, served)
    likelihoods = digit_confidence.likelihoods(images, served, reach)
    return {
        "reach": reach.tolist(),
        "mean_confidence": float(likelihoods.max(axis=1).mean()),
        "validation_accuracy": float(np.mean(likelihoods.argmax(axis=1) == labels)),
    }
