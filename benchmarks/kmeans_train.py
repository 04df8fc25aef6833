"""k-means of the embedded SageMaker on 50,000 × 784 with k = 10, against a full Lloyd run.

Both sides cluster the same digits in memory and on one thread. The mean squared distances of the
digits to their centroids must be within two percent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.harness import ONE_THREAD, Benchmark, Stopwatch, run_side, side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

BENCHMARKS = (
    Benchmark(
        name="kmeans_train",
        reference_name='scikit-learn, KMeans(10, algorithm="lloyd", n_init=1), one thread',
        ours=side("kmeans_train", "ours", **ONE_THREAD),
        reference=side("kmeans_train", "reference", **ONE_THREAD),
        tolerance=0.02,
    ),
)
_POINTS, _CLUSTERS = 50_000, 10


def ours() -> None:
    """What the embedded trainer does between reading its channel and writing its model."""
    from sagemaker_local import kmeans
    from sagemaker_local.hyperparameters import KMeansParameters

    def train(points: Matrix) -> Matrix:
        parameters = KMeansParameters(_CLUSTERS, points.shape[1])
        size = parameters.mini_batch_size
        batches = [points[start : start + size] for start in range(0, len(points), size)]
        stream = kmeans.Stream(parameters)
        for batch in batches:
            stream.feed(batch)
        centroids = kmeans.shrink(*stream.state(), parameters)
        return kmeans.refine(lambda: batches, centroids, len(points))

    _time(train)


def reference() -> None:
    """scikit-learn's Lloyd with one initialisation."""
    from sklearn.cluster import KMeans

    # The stubs know only "auto" for n_init.
    model = KMeans(_CLUSTERS, algorithm="lloyd", n_init=1, random_state=0)  # pyright: ignore[reportArgumentType]
    _time(lambda points: model.fit(points).cluster_centers_)


def _time(train: Callable[[Matrix], Matrix]) -> None:
    """Times `train`, which returns (10, 784) centroids; reports the mean squared distance."""
    from benchmarks.digits import digits

    points = digits(_POINTS)
    with Stopwatch() as watch:
        centroids = train(points)
    watch.report(_mean_squared_distance(points, centroids))


def _mean_squared_distance(points: Matrix, centroids: Matrix) -> float:
    """Of the points to their nearest centroid, computed in float64."""
    import numpy as np

    exact = centroids.astype(np.float64)
    total = 0.0
    for start in range(0, len(points), 5000):
        part = points[start : start + 5000].astype(np.float64)
        squares = (part**2).sum(1)[:, None] - 2 * part @ exact.T + (exact**2).sum(1)
        total += squares.min(axis=1).sum()
    return total / len(points)


if __name__ == "__main__":
    run_side(ours, reference)
