"""The algorithm alone: its quality, its reproducibility, and several instances."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from embedded.seed_digits import real_digits
from sagemaker_local import kmeans
from sagemaker_local.hyperparameters import KMeansParameters
from sagemaker_local.kmeans import Stream, refine, shrink


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, as in a training process: more of them are slow on a busy machine."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def digits() -> NDArray[np.float32]:
    """2,000 real digits."""
    return (real_digits()[0][::2][:2000] / 256).astype(np.float32)


def train(points: NDArray[np.float32], parameters: KMeansParameters) -> NDArray[np.float32]:
    stream = Stream(parameters)
    size = parameters.mini_batch_size
    batches = [points[start : start + size] for start in range(0, len(points), size)]
    for batch in batches:
        stream.feed(batch)
    return refine(lambda: batches, shrink(*stream.state(), parameters), len(points))


def msd(points: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    total, count = kmeans.squared_distances([points], centres)
    return total / count


@pytest.mark.parametrize(("k", "batch"), [(10, 500), (10, 50), (50, 100)])
def test_the_stream_comes_within_two_percent_of_lloyd(
    digits: NDArray[np.float32], k: int, batch: int
) -> None:
    """Also where a mini-batch has fewer points than there are initial centres."""
    ours = train(digits, KMeansParameters(k, 784, mini_batch_size=batch))
    # scikit-learn's stubs lack numbers for n_init, and the inertia of a fitted model.
    runs: list[Any] = [
        KMeans(k, n_init=1, random_state=seed)  # pyright: ignore[reportArgumentType]
        for seed in range(3)
    ]
    lloyd = float(np.mean([run.fit(digits).inertia_ for run in runs])) / len(digits)
    assert ours.shape == (k, 784)
    assert msd(digits, ours) <= 1.02 * lloyd


def test_the_same_data_make_the_same_model(digits: NDArray[np.float32]) -> None:
    parameters = KMeansParameters(10, 784, mini_batch_size=300, init_method="kmeans++")
    assert np.array_equal(train(digits, parameters), train(digits, parameters))


def test_a_short_half_life_follows_the_newest_points() -> None:
    """Without decay the centre is the mean of all points; with decay it is near the newest."""
    parts = [np.full((100, 2), value, np.float32) for value in (0.0, 0.0, 0.0, 8.0)]
    centres = {}
    for half_life in (0, 10):
        stream = Stream(
            KMeansParameters(1, 2, extra_center_factor=1, half_life_time_size=half_life)
        )
        for part in parts:
            stream.feed(part)
        centres[half_life] = float(stream.state()[0][0, 0])
    assert centres[0] == pytest.approx(2.0)
    assert centres[10] > 7.9


def test_streams_of_two_instances_make_one_model(digits: NDArray[np.float32]) -> None:
    parameters = KMeansParameters(10, 784, mini_batch_size=500)
    states = []
    for half in (digits[:1000], digits[1000:]):
        stream = Stream(parameters)
        stream.feed(half)
        states.append(stream.state())
    centres = np.concatenate([state[0] for state in states])
    weights = np.concatenate([state[1] for state in states])
    assert weights.sum() == len(digits)
    together = shrink(centres, weights, parameters)
    assert msd(digits, together) <= 1.05 * msd(digits, train(digits, parameters))
