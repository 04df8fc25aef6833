"""Which digit a cluster stands for, and what follows from it: pure functions on arrays.

A cluster is not a digit. Train digits are marked before k-means sees them, so that each cluster is
of one digit; the centroids are then laid out anew so that whoever asks the endpoint reads the digit
off the answer itself: `digit = cluster mod 10`.
"""

import numpy as np
from numpy.typing import NDArray

DIGITS = 10
# How far apart marks put two digits, compared with the length of a digit's features, which is 1.
# Two digits with different marks are at least 1.41 away from each other, two of one digit at most
# that: with 1, all of 256 clusters were pure; with 2, as well, and 0.1 % fewer digits were right.
MARK = np.float32(1)
# A digit without any cluster gets a centroid that no picture (values 0..1) is ever nearest to.
OUT_OF_REACH = np.float32(1e6)
_ROWS_AT_ONCE = 4096


def nearest(images: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """The index of each image's nearest centroid by Euclidean distance, the lowest where equal.

    Args:
        images: (n, d) float32.
        centroids: (k, d) float32.

    Returns:
        (n,) int64.
    """
    points = centroids.astype(np.float64)
    squares = np.einsum("kd,kd->k", points, points)
    indices = np.empty(len(images), np.int64)
    for start in range(0, len(images), _ROWS_AT_ONCE):
        block = images[start : start + _ROWS_AT_ONCE].astype(np.float64)
        indices[start : start + len(block)] = np.argmin(squares - 2 * (block @ points.T), axis=1)
    return indices


def digits_of(images: NDArray[np.float32], renumbered: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digits that a classifier reads in images.

    Args:
        images: (n, d) float32.
        renumbered: (10·m, d) float32, laid out by `renumber`.

    Returns:
        (n,) int64 in 0..9.
    """
    return nearest(images, renumbered) % DIGITS


def marked(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features that say which digit they are of, in ten more numbers: k-means parts digits by them.

    So one training job finds clusters within each digit, as many as its shapes ask for.

    Args:
        features: (n, d) float32, each row of length 1.
        labels: (n,) int64 in 0..9.

    Returns:
        (n, d + 10) float32.
    """
    return np.concatenate([features, _marks(labels)], axis=1)


def are_marked(
    marked_features: NDArray[np.float32],
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> bool:
    """Whether the first are the second as `marked` marks them; nothing is copied."""
    without_marks, marks = np.split(marked_features, [-DIGITS], axis=1)
    return np.array_equal(without_marks, features) and np.array_equal(marks, _marks(labels))


def unmarked(
    centroids: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centroids of marked features without their marks, and the digit that most of each are of.

    Args:
        centroids: (k, d + 10) float32.

    Returns:
        (k, d) float32 and (k,) int64 in 0..9, the lower digit where two are equal.
    """
    features, marks = np.split(centroids, [-DIGITS], axis=1)
    return features, marks.argmax(axis=1)


def _marks(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    return MARK * np.eye(DIGITS, dtype=np.float32)[labels]


def renumber(centroids: NDArray[np.float32], digits: NDArray[np.int64]) -> NDArray[np.float32]:
    """Lay the centroids out so that number `digit + 10·j` belongs to `digit`.

    A digit with fewer clusters than others repeats its first one; a digit with none gets one that
    is out of reach. Which picture gets which digit stays as it was.

    Args:
        centroids: (k, d) float32.
        digits: (k,) int64, the digit of each.

    Returns:
        (10·m, d) float32, m the most clusters that any digit has.
    """
    most = int(np.bincount(digits, minlength=DIGITS).max())
    laid_out = np.full((most, DIGITS, centroids.shape[1]), OUT_OF_REACH, np.float32)
    for digit in range(DIGITS):
        of_digit = centroids[digits == digit]
        if len(of_digit):
            laid_out[: len(of_digit), digit] = of_digit
            laid_out[len(of_digit) :, digit] = of_digit[0]
    return laid_out.reshape(most * DIGITS, -1)


def confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often the digit of the row was taken for the digit of the column: (10, 10) int64."""
    counts = np.zeros((DIGITS, DIGITS), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
