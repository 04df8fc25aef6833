"""Pictures of digits, answers and mistakes for the materialisations of the digits' chain."""

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from formats import digit_features
from platform_assets.mnist import centroids
from platform_assets.pictures import draw_digits, draw_matrix, to_markdown

_OF_EACH_DIGIT = 20
_MISTAKES = 40
_CENTROIDS_OF_EACH = 12


def contact_sheet(
    features: NDArray[np.float32], labels: NDArray[np.int64]
) -> dg.MarkdownMetadataValue:
    """The first of each digit, a row for each: their ink, as the model is given it."""
    places = [np.flatnonzero(labels == digit)[:_OF_EACH_DIGIT] for digit in range(10)]
    rows = np.concatenate(places)
    tiles = digit_features.picture(features[rows])
    sheet = np.zeros((10, _OF_EACH_DIGIT, 28, 28), np.float32)
    start = 0
    for digit, of_digit in enumerate(places):
        sheet[digit, : len(of_digit)] = tiles[start : start + len(of_digit)]
        start += len(of_digit)
    captions = [str(digit) for digit in range(10) for _ in range(_OF_EACH_DIGIT)]
    image = draw_digits(sheet.reshape(-1, 28, 28), captions, columns=_OF_EACH_DIGIT)
    return to_markdown(image, "The first test digits of each kind, with their labels")


def centroid_sheet(points: NDArray[np.float32]) -> dg.MarkdownMetadataValue:
    """The first centroids of each digit, a row for each.

    Args:
        points: (10·m, 784) float32, laid out by `centroids.renumber`.
    """
    shown = points.reshape(-1, 10, points.shape[1])[:_CENTROIDS_OF_EACH].transpose(1, 0, 2)
    tiles = digit_features.picture(
        np.where(shown >= centroids.OUT_OF_REACH, 0, shown).reshape(-1, points.shape[1])
    )
    columns = shown.shape[1]
    captions = [str(digit) for digit in range(10) for _ in range(columns)]
    image = draw_digits(tiles, captions, columns=columns)
    return to_markdown(image, "The first centroids of each digit")


def confusion_picture(confusion: NDArray[np.int64]) -> dg.MarkdownMetadataValue:
    """The confusion matrix: a row for each digit, a column for each answer.

    Args:
        confusion: (10, 10) int64, as `centroids.confusion` counts.
    """
    image = draw_matrix(confusion, "the digit", "what it was taken for")
    return to_markdown(image, "Confusion matrix")


def worst_mistakes(
    features: NDArray[np.float32], labels: NDArray[np.int64], points: NDArray[np.float32]
) -> dg.MarkdownMetadataValue:
    """The test digits that are nearest to centroids of another digit, the worst first.

    Args:
        features: (n, 784) float32, of test digits.
        labels: (n,) int64 in 0..9.
        points: (10·m, 784) float32, laid out by `centroids.renumber`.
    """
    answers = centroids.digits_of(features, points)
    wrong = np.flatnonzero(answers != labels)
    if not len(wrong):
        return dg.MetadataValue.md(f"None of {len(labels)} test digits is read wrongly.")
    # How much farther the nearest centroid of the right digit is than that of the wrong one, by the
    # squares of distances; what is the same for both is left out.
    exact = points.astype(np.float64)
    squares = np.einsum("kd,kd->k", exact, exact)
    distances = squares - 2 * features[wrong].astype(np.float64) @ exact.T
    by_digit = distances.reshape(len(wrong), -1, 10).min(axis=1)
    rows = np.arange(len(wrong))
    margin = by_digit[rows, labels[wrong]] - by_digit[rows, answers[wrong]]
    worst = wrong[np.argsort(-margin, kind="stable")][:_MISTAKES]
    captions = [f"{labels[row]} as {answers[row]}" for row in worst]
    image = draw_digits(
        digit_features.picture(features[worst]), captions, wrong=[True] * len(worst)
    )
    return to_markdown(image, "The worst mistakes: the digit, and what it was taken for")


def answer_sheet(
    features: NDArray[np.float32], answers: NDArray[np.int64], expected: NDArray[np.int64]
) -> dg.MarkdownMetadataValue:
    """Digits with what the endpoint answered; red, and what it should be, where that differs."""
    wrong = answers != expected
    captions = [
        f"{answer} ({right})" if differs else f"{answer}"
        for answer, right, differs in zip(answers, expected, wrong, strict=True)
    ]
    image = draw_digits(digit_features.picture(features), captions, wrong=wrong.tolist())
    return to_markdown(image, "Test digits with what the endpoint answered")
