"""The same digits, measuring and judging for both ways to cluster them."""

from collections.abc import Callable

import numpy as np
from digits import digits
from numpy.typing import NDArray
from stopwatch import Stopwatch

POINTS, CLUSTERS = 50_000, 10
Matrix = NDArray[np.float32]


def compare(train: Callable[[Matrix], Matrix]) -> None:
    """Times `train`, which gives (10, 784) centres, and says the mean squared distance to them."""
    points = digits(POINTS)
    with Stopwatch() as watch:
        centres = train(points)
    watch.say(msd(points, centres.astype(np.float64)))


def msd(points: Matrix, centres: NDArray[np.float64]) -> float:
    """Mean squared distance of the points to their nearest centre, in float64."""
    total = 0.0
    for start in range(0, len(points), 5000):
        part = points[start : start + 5000].astype(np.float64)
        gaps = (part**2).sum(1)[:, None] - 2 * part @ centres.T + (centres**2).sum(1)
        total += gaps.min(axis=1).sum()
    return total / len(points)
