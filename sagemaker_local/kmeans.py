"""SageMaker's k-means on arrays: mini-batches over more centres than asked for, reduced to k.

Numbers in, numbers out: no files, no log, no service. The state of a stream is a weighted set of
centres, so the streams of several instances can be put together.
Source: https://docs.aws.amazon.com/sagemaker/latest/dg/algo-kmeans-tech-notes.html
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

from sagemaker_local.hyperparameters import KMeansParameters

SEED = 0
# Work of the local search (multiplications) beyond which `auto` makes fewer trials than ten.
_AUTO_WORK = 4e10
_AUTO_TRIALS = 10
_USUAL_ITERATIONS = 20
# Points that refinement looks at in all, its steps at most, and the gain that is worth another.
_REFINED_POINTS = 200_000
_REFINEMENTS = 50
_REFINEMENT_GAIN = 1e-5
Matrix = NDArray[np.float32]


@dataclass
class Stream:
    """Centres that follow a stream of mini-batches, each with the weight of what it stands for.

    Attributes:
        centres: (K, D) float32, or None before the first batch.
        weights: (K,) float64, number of points behind each centre.
        seen: Points seen so far.
    """

    parameters: KMeansParameters
    centres: Matrix | None = None
    weights: NDArray[np.float64] | None = None
    seen: int = 0
    _held: list[Matrix] = field(default_factory=list)

    def feed(self, batch: Matrix) -> None:
        """Moves the centres towards one mini-batch of shape (n, D)."""
        self.seen += len(batch)
        if self.centres is None:
            # Mini-batches may be smaller than the number of centres to begin with.
            self._held.append(batch)
            if self.seen < self._wanted:
                return
            batch = self._begin()
        self._move(batch)

    def state(self) -> tuple[Matrix, NDArray[np.float64]]:
        """Centres and weights once the stream is over.

        Raises:
            ValueError: There was no batch.
        """
        if self.centres is None and self._held:
            self._move(self._begin())
        if self.centres is None or self.weights is None:
            raise ValueError("there are no points to train on")
        return self.centres, self.weights

    @property
    def _wanted(self) -> int:
        return self.parameters.k * self.parameters.extra_center_factor

    def _begin(self) -> Matrix:
        points = np.concatenate(self._held)
        self._held.clear()
        self.centres = _first_centres(points, min(len(points), self._wanted), self.parameters)
        self.weights = np.zeros(len(self.centres))
        return points

    def _move(self, batch: Matrix) -> None:
        if self.centres is None or self.weights is None:
            raise ValueError("the stream has not begun")
        nearest = pairwise_distances_argmin(batch, self.centres)
        counts, sums = _sums(batch, nearest, len(self.centres))
        self.centres, self.weights = _moved(
            self.centres, self.weights * self._decay(len(batch)), counts, sums
        )

    def _decay(self, points: int) -> float:
        """What a batch leaves of the weight of all that came before it."""
        half_life = self.parameters.half_life_time_size
        return 0.5 ** (points / half_life) if half_life else 1.0


def shrink(centres: Matrix, weights: NDArray[np.float64], parameters: KMeansParameters) -> Matrix:
    """Local search: the best k centres for a weighted set of centres.

    Args:
        centres: (K, D) float32.
        weights: (K,) float64.
        parameters: Number of clusters, trials, iterations and tolerance.

    Returns:
        (k, D) float32.

    Raises:
        ValueError: Fewer than k centres have any weight.
    """
    weighted = weights > 0
    points, mass = np.ascontiguousarray(centres[weighted]), weights[weighted]
    k = parameters.k
    if len(points) < k:
        raise ValueError(
            f"k = {k} clusters were asked for, but there are only {len(points)} distinct points."
        )
    if len(points) == k:
        return points
    init = "k-means++" if parameters.local_lloyd_init_method == "kmeans++" else "random"
    fitted = KMeans(
        n_clusters=k,
        init=init,
        # The stubs know only "auto" here.
        n_init=_trials(len(points), points.shape[1], parameters),  # pyright: ignore[reportArgumentType]
        max_iter=parameters.local_lloyd_max_iter,
        tol=parameters.local_lloyd_tol,
        random_state=SEED,
    ).fit(points, sample_weight=mass)
    return np.asarray(fitted.cluster_centers_, dtype=np.float32)


def refine(batches: Callable[[], Iterable[Matrix]], centres: Matrix, points: int) -> Matrix:
    """Exact Lloyd steps over all the data: the shrunk centres stand for centres, not for points.

    Few steps where the data are many, since each reads them all; they end early once they gain
    little.

    Args:
        batches: Begins a new pass over the data.
        centres: (k, D) float32.
        points: How many points a pass has.
    """
    before = float("inf")
    for _ in range(max(1, min(_REFINEMENTS, _REFINED_POINTS // points))):
        counts, sums = np.zeros(len(centres)), np.zeros(centres.shape)
        distance = 0.0
        for batch in batches():
            nearest, distances = pairwise_distances_argmin_min(batch, centres)
            distance += float(np.square(distances, dtype=np.float64).sum())
            batch_counts, batch_sums = _sums(batch, nearest, len(centres))
            counts += batch_counts
            sums += batch_sums
        centres, _ = _moved(centres, np.zeros(len(centres)), counts, sums)
        if before - distance < _REFINEMENT_GAIN * distance:
            break
        before = distance
    return centres


def squared_distances(batches: Iterable[Matrix], centres: Matrix) -> tuple[float, int]:
    """Sum of squared distances of all points to their nearest centre, and the number of points."""
    total, count = 0.0, 0
    for batch in batches:
        _, distance = pairwise_distances_argmin_min(batch, centres)
        total += float(np.square(distance, dtype=np.float64).sum())
        count += len(batch)
    return total, count


def _moved(
    centres: Matrix,
    weights: NDArray[np.float64],
    counts: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> tuple[Matrix, NDArray[np.float64]]:
    """Centres and weights after a batch: each the weighted mean of where it was and its points.

    A centre without points stays where it was.
    """
    after = centres.copy()
    hit = counts > 0
    total = weights + counts
    after[hit] = (centres[hit] * weights[hit, None] + sums[hit]) / total[hit, None]
    return after, total


def _first_centres(batch: Matrix, count: int, parameters: KMeansParameters) -> Matrix:
    if parameters.init_method == "kmeans++":
        centres, _ = kmeans_plusplus(batch, count, random_state=SEED)
        return np.array(centres, dtype=np.float32)
    chosen = np.random.default_rng(SEED).choice(len(batch), count, replace=False)
    return batch[np.sort(chosen)].copy()


def _sums(
    batch: Matrix, nearest: NDArray[np.intp], centres: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number and sum of the points of each centre."""
    counts = np.bincount(nearest, minlength=centres).astype(np.float64)
    ones = np.ones(len(batch), dtype=np.float32)
    rows = np.arange(len(batch) + 1)
    member = sparse.csr_matrix((ones, nearest, rows), shape=(len(batch), centres))
    return counts, np.asarray(member.T @ batch, dtype=np.float64)


def _trials(points: int, dimensions: int, parameters: KMeansParameters) -> int:
    """Trials of the local search: as many as asked; `auto` is ten, fewer where each is long."""
    if parameters.local_lloyd_num_trials is not None:
        return parameters.local_lloyd_num_trials
    work = float(points) * dimensions * parameters.k * _USUAL_ITERATIONS
    return max(1, min(_AUTO_TRIALS, int(_AUTO_WORK / work)))
