"""From distances to likelihoods: near is likely, half-way is half, far away is no digit."""

import numpy as np
import pytest

from formats.digit_confidence import likelihoods, reach

# One centroid a digit, each on an axis of its own, a third away from the origin.
CENTROIDS = (np.eye(10, 784) / 3).astype(np.float32)
REACH = np.full(10, 0.3)


def test_a_picture_at_a_centroid_is_that_digit() -> None:
    answer = likelihoods(CENTROIDS, CENTROIDS, REACH)
    assert (answer.argmax(axis=1) == np.arange(10)).all()
    assert answer.max(axis=1).min() > 0.98


def test_a_picture_between_two_digits_is_either_as_likely() -> None:
    answer = likelihoods(CENTROIDS[[3, 5]].mean(axis=0, keepdims=True), CENTROIDS, REACH)
    assert answer[0, 3] == pytest.approx(answer[0, 5])
    assert 0.4 < answer[0, 3] < 0.5


@pytest.mark.parametrize(("squared", "least", "most"), [(0.01, 0.99, 1), (0.3, 0.49, 0.51)])
def test_what_is_as_far_as_its_reach_is_no_digit_as_likely_as_the_nearest(
    squared: float, least: float, most: float
) -> None:
    """Away from one centroid in a direction that takes it away from all others, too."""
    picture = CENTROIDS[7:8] * 4
    picture[0, 700] = np.sqrt(squared)
    far = CENTROIDS.copy()
    far[7] = picture[0] * (np.arange(784) != 700)
    answer = likelihoods(picture, far, REACH)
    assert least <= answer[0, 7] <= most


def test_what_is_far_from_everything_is_no_digit() -> None:
    picture = np.zeros((1, 784), np.float32)
    picture[0, 100] = 100
    assert likelihoods(picture, CENTROIDS, REACH).sum() < 1e-6


def test_the_reach_of_a_digit_follows_from_how_far_its_validation_digits_are() -> None:
    """A hundred of each, at known distances: the 97th and a fifth more, squared."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(9), 100)
    distances = random.permuted(np.tile(np.arange(100) / 1000, (9, 1)), axis=1).ravel()
    pictures = CENTROIDS[labels].copy()
    pictures[:, 300] = distances
    measured = reach(pictures, labels, CENTROIDS)
    expected = 1.2 * np.quantile(np.square(np.arange(100) / 1000), 0.97)
    np.testing.assert_allclose(measured[:9], expected, rtol=1e-3)
    assert measured[9] == 0, "a digit that nobody measured is never sure"
