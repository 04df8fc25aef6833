"""How sure a classifier of digits may be of its answer: from distances to likelihoods.

Arrays in, arrays out: the API says it with each answer, and each classifier is judged by it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

DIGITS: Final = 10

# How fast likelihood falls with the squared distance, and the squared distance at which a picture
# is as likely no digit at all as the nearest one. Fitted with classifiers of 3,000 and of 50,000
# train digits, by hands that neither had seen: validation digits as they are, and bent by smooth
# warps until 0.82 of them were read rightly. With these two, mean confidence stayed below the share
# of right answers on each (0.97 of 0.985, 0.73 of 0.82), and answers at 0.9 or more were right in
# 99.9 % and 98.6 %. Measured afterwards on what they were not fitted on: of 43 other writers'
# digits (scikit-learn's) 99 % of the answers at 0.9 or more are right; printed letters get there
# in 5 %.
_SHARPNESS: Final = 35.0
_NO_DIGIT: Final = 0.30


def likelihoods(
    features: NDArray[np.float32], centroids: NDArray[np.float32]
) -> NDArray[np.float64]:
    """How likely each picture is each digit, by the digit's nearest centroid.

    What is far from all of them is likely none: each row sums to 1 less the likelihood of that.

    Args:
        features: (n, 784) float32, by `digit_images.prepare`.
        centroids: (10·m, 784) float32; number `digit + 10·j` belongs to `digit`.

    Returns:
        (n, 10) float64.
    """
    squared = (
        np.square(features, dtype=np.float64).sum(axis=1)[:, None]
        - 2 * (features @ centroids.T).astype(np.float64)
        + np.square(centroids, dtype=np.float64).sum(axis=1)
    )
    nearest = squared.reshape(len(features), -1, DIGITS).min(axis=1)
    least = nearest.min(axis=1, keepdims=True)
    weights = np.exp(-_SHARPNESS * (nearest - least))
    of_no_digit = np.exp(-_SHARPNESS * (_NO_DIGIT - least))
    return weights / (weights.sum(axis=1, keepdims=True) + of_no_digit)
