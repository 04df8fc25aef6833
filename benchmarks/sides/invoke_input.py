"""The same centroids, digits and measuring for both ways to find the nearest centroids."""

import hashlib
import statistics
import time
from collections.abc import Callable

import numpy as np
from digits import digits
from numpy.typing import NDArray
from stopwatch import Stopwatch

CENTROIDS, BATCH, BATCHES = 400, 1_000, 40
Matrix = NDArray[np.float32]
Nearest = Callable[[Matrix], NDArray[np.intp]]


def centroids() -> Matrix:
    """(400, 784): about as many as the platform's classifier has; digits, so that all are used."""
    return digits(CENTROIDS)


def measure(nearest: Nearest, singles: int) -> tuple[Stopwatch, str, dict[str, float]]:
    """Times `nearest` on batches and, `singles` times, on one digit.

    Returns:
        The watch over the batches, a digest of their answers, and the figures to say.
    """
    points = digits(BATCH * BATCHES)
    batches = [points[start : start + BATCH] for start in range(0, len(points), BATCH)]
    with Stopwatch() as watch:
        answers = [nearest(batch) for batch in batches]
    digest = hashlib.sha256(np.concatenate(answers).astype("<i8").tobytes()).hexdigest()
    taken = []
    for number in range(singles):
        one = points[number % len(points)][None]
        begun = time.perf_counter()
        nearest(one)
        taken.append(1000 * (time.perf_counter() - begun))
    ranked = statistics.quantiles(taken, n=100)
    return (
        watch,
        digest,
        {
            "digits_per_s": round(len(points) / watch.seconds),
            "p50_ms": round(statistics.median(taken), 3),
            "p99_ms": round(ranked[98], 3),
        },
    )
