"""The features of digits, against their definition written out, and what is drawn of them."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embedded.seed_digits import real_digits
from formats.digit_features import FEATURES, describe, picture
from formats.digit_images import upright

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def digits() -> Images:
    """50 real digits, upright: (50, 28, 28)."""
    images, _ = real_digits()
    return upright((images[::100] / 256).astype(np.float32).reshape(-1, 28, 28))


def gathered(layer: NDArray[np.float64], places: int, reach: float) -> NDArray[np.float64]:
    """Weighted means around evenly spread places, one place after the other."""
    out = np.zeros((places, places))
    pixel = np.arange(28)
    for row in range(places):
        for column in range(places):
            middle_y, middle_x = ((at + 0.5) * 28 / places - 0.5 for at in (row, column))
            along_y = np.exp(-((pixel - middle_y) ** 2) / (2 * reach**2))
            along_x = np.exp(-((pixel - middle_x) ** 2) / (2 * reach**2))
            weights = np.outer(along_y / along_y.sum(), along_x / along_x.sum())
            out[row, column] = (weights * layer).sum()
    return out


def described(digit: Images) -> NDArray[np.float64]:
    """One digit's features by their definition, in float64."""
    room = np.pad(digit.astype(np.float64), 1)
    layers = np.zeros((12, 28, 28))
    for y in range(28):
        for x in range(28):
            down = room[y + 2, x + 1] - room[y, x + 1]
            right = room[y + 1, x + 2] - room[y + 1, x]
            direction = (np.degrees(np.arctan2(down, right)) % 360) / 30
            before, share = int(direction) % 12, direction % 1
            layers[before, y, x] += np.hypot(down, right) * (1 - share)
            layers[(before + 1) % 12, y, x] += np.hypot(down, right) * share
    edges = np.sqrt(np.concatenate([gathered(layer, 7, 1.4).ravel() for layer in layers]))
    ink = gathered(digit.astype(np.float64), 14, 1.1).ravel()
    both = np.concatenate([edges / np.linalg.norm(edges), 0.5 * ink / np.linalg.norm(ink)])
    return both / np.linalg.norm(both)


def test_features_are_those_of_their_definition(digits: Images) -> None:
    for digit, features in zip(digits[:5], describe(digits[:5]), strict=True):
        np.testing.assert_allclose(features, described(digit), atol=2e-5)


def test_features_are_of_length_1_within_0_and_1_and_zeros_without_ink(digits: Images) -> None:
    features = describe(np.concatenate([digits, np.zeros((1, 28, 28), np.float32)]))
    assert features.shape == (len(digits) + 1, FEATURES)
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert features.max() <= 1
    np.testing.assert_allclose(np.linalg.norm(features[:-1], axis=1), 1, rtol=1e-5)
    assert not features[-1].any()


def test_a_stroke_and_its_mirror_image_differ_in_direction_only(digits: Images) -> None:
    """A slash's edges run in other directions than a backslash's."""
    slash = np.clip(2 - np.abs(np.add.outer(np.arange(28), np.arange(28)) - 27), 0, 1)
    pair = np.stack([slash, slash[:, ::-1]]).astype(np.float32)
    one, other = describe(pair)[:, :588].reshape(2, 12, 49)
    assert one.argmax(axis=0)[24] % 6 != other.argmax(axis=0)[24] % 6


def test_the_picture_of_features_looks_like_the_digit(digits: Images) -> None:
    """As Pillow makes it small and large again: alike up to soft edges."""
    for digit, shown in zip(digits, picture(describe(digits)), strict=True):
        small = Image.fromarray(digit).resize((14, 14), Image.Resampling.BOX)
        soft = np.asarray(small.resize((28, 28), Image.Resampling.BILINEAR))
        assert np.corrcoef(soft.ravel(), shown.ravel())[0, 1] > 0.95
        assert shown.max() == pytest.approx(1)


def test_no_ink_is_an_empty_picture() -> None:
    assert not picture(np.zeros((2, FEATURES), np.float32)).any()
