"""Which digit a cluster stands for, against scikit-learn and brute force."""

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier

from platform_assets.mnist import centroids


def some_points(seed: int, count: int, dimensions: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).random((count, dimensions), np.float32)


def test_the_nearest_centroid_is_that_of_another_library() -> None:
    images, points = some_points(0, 9000), some_points(1, 40)
    other = KNeighborsClassifier(1).fit(points, np.arange(40))
    np.testing.assert_array_equal(centroids.nearest(images, points), other.predict(images))


def test_of_equally_near_centroids_the_first_is_taken() -> None:
    point = some_points(0, 1)
    assert centroids.nearest(point, np.repeat(point, 3, axis=0)).tolist() == [0]


def test_clusters_of_marked_features_are_of_one_digit_each_and_say_of_which() -> None:
    """Among points that have nothing to do with their digits, by another library's k-means."""
    random = np.random.default_rng(0)
    points = random.random((600, 20), np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = random.integers(0, 10, 600)
    marked = centroids.marked(points, labels)

    kmeans: Any = KMeans(40, n_init=cast(Any, 1), random_state=0).fit(marked)
    own, digits = centroids.unmarked(kmeans.cluster_centers_.astype(np.float32))

    assert own.shape == (40, 20)
    np.testing.assert_array_equal(digits[kmeans.labels_], labels)
    assert centroids.are_marked(marked, points, labels)
    assert not centroids.are_marked(marked, points, labels[::-1])


@given(
    digits=st.lists(st.integers(0, 9), min_size=1, max_size=40).map(np.array),
    seed=st.integers(0, 2**32 - 1),
)
def test_renumbering_changes_no_answer_and_makes_it_readable(digits: np.ndarray, seed: int) -> None:
    points, images = some_points(seed, len(digits)), some_points(seed + 1, 50)
    laid_out = centroids.renumber(points, digits)
    assert len(laid_out) == 10 * np.bincount(digits).max()
    assert laid_out.dtype == np.float32
    np.testing.assert_array_equal(
        centroids.nearest(images, laid_out) % 10, digits[centroids.nearest(images, points)]
    )


def test_the_confusion_matrix_is_that_of_another_library() -> None:
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 10, 500), random.integers(0, 10, 500)
    np.testing.assert_array_equal(
        centroids.confusion(labels, predicted),
        confusion_matrix(labels, predicted, labels=np.arange(10)),
    )
