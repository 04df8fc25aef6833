"""The preprocessing that training and serving share: its geometry, and what k-means makes of it."""

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans

from embedded.seed_digits import real_digits
from formats.digit_images import PIXELS, SIDE, prepare, upright

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def digits() -> tuple[Images, NDArray[np.int64]]:
    """5,000 real digits, shuffled."""
    images, labels = real_digits()
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order] / 256).astype(np.float32), labels[order]


def moments(image: Images) -> tuple[float, float, float, float, float]:
    """Centre and second moments of an image's ink, written down anew as an oracle."""
    total, y0, x0 = image.sum(), 0.0, 0.0
    for y in range(SIDE):
        for x in range(SIDE):
            y0, x0 = y0 + y * image[y, x], x0 + x * image[y, x]
    y0, x0 = y0 / total, x0 / total
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return (
        float(y0),
        float(x0),
        float((image * (y - y0) ** 2).sum() / total),
        float((image * (x - x0) ** 2).sum() / total),
        float((image * (y - y0) * (x - x0)).sum() / total),
    )


def test_digits_are_centred_upright_and_of_one_size(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    images, labels = digits
    others = images[labels != 1][:200].reshape(-1, SIDE, SIDE)
    for image in upright(others):
        y, x, up, across, slant = moments(image)
        assert (y, x) == pytest.approx((13.5, 13.5), abs=0.35)
        assert np.sqrt(up) == pytest.approx(5.4, abs=0.5)
        assert np.sqrt(across) == pytest.approx(3.6, abs=1.5)
        assert abs(slant / up) < 0.12


def sampled(image: Images, matrix: list[list[float]], offset: list[float]) -> Images:
    """SciPy's affine transform, bilinear."""
    moved: Any = ndimage.affine_transform
    return moved(image, matrix, offset, order=1)


def test_one_digit_is_placed_as_an_independent_resampling_would(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    """By the matrices that the moments ask for."""
    for image in digits[0][:20].reshape(-1, SIDE, SIDE):
        y, x, up, across, both = moments(image)
        slant = np.clip(both / up, -1, 1)
        wide = np.clip(np.sqrt(max(across - slant * both, 0.3)) / 3.6, 0.6, 1.6)
        tall = np.clip(np.sqrt(up) / 5.4, 0.6, 1.6)
        deskewed = sampled(image, [[1, 0], [slant, wide]], [0, x - slant * y - wide * 13.5])
        placed = sampled(deskewed, [[tall, 0], [0, 1]], [y - tall * 13.5, 0])
        expected = np.clip(placed * 7 / np.linalg.norm(placed), 0, 1)
        (got,) = upright(image[None])
        # At the border SciPy and we differ by how a half pixel outside counts.
        np.testing.assert_allclose(got[1:-1, 1:-1], expected[1:-1, 1:-1], atol=0.02)


@pytest.mark.parametrize("factor", [0.3, 0.9, 1.1])
def test_fainter_or_bolder_ink_makes_no_difference(
    digits: tuple[Images, NDArray[np.int64]], factor: float
) -> None:
    images = digits[0][:100]
    np.testing.assert_allclose(prepare(images * factor), prepare(images), atol=1e-4)


def test_a_shift_by_whole_pixels_makes_no_difference(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    images = digits[0][:100].reshape(-1, SIDE, SIDE)
    room = [ink for ink in images if not ink[:4].any() and not ink[:, :4].any()]
    moved = [np.roll(ink, (-3, -2), axis=(0, 1)) for ink in room]
    assert len(room) > 50
    first, second = (prepare(np.reshape(item, (-1, PIXELS))) for item in (room, moved))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_rows_do_not_depend_on_their_neighbours(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    """Chunks are an inner matter: 2,050 rows are several of them."""
    images = digits[0][:2050]
    alone = np.concatenate([prepare(images[row : row + 1]) for row in range(0, 2050, 41)])
    np.testing.assert_allclose(prepare(images)[::41], alone, atol=1e-6)


def test_values_stay_within_0_and_1_and_the_input_stays_as_it_was(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    images = digits[0][:500].copy()
    before = images.copy()
    prepared = prepare(images)
    assert prepared.dtype == np.float32
    assert prepared.min() >= 0
    assert prepared.max() <= 1
    np.testing.assert_array_equal(images, before)


def test_extreme_pictures_give_finite_numbers() -> None:
    rng = np.random.default_rng(0)
    dot = np.zeros(PIXELS)
    dot[0] = 1
    odd = np.stack([np.zeros(PIXELS), np.ones(PIXELS), dot, rng.random(PIXELS)])
    prepared = prepare(odd)
    assert np.isfinite(prepared).all()
    assert not prepared[0].any()
    np.testing.assert_allclose(np.linalg.norm(prepared[1:], axis=1), 1, rtol=1e-5)
    assert prepare(np.empty((0, PIXELS))).shape == (0, PIXELS)


@pytest.mark.parametrize(
    "images",
    [
        pytest.param(np.zeros(PIXELS), id="one digit without its row"),
        pytest.param(np.zeros((2, SIDE, SIDE)), id="pictures instead of rows"),
        pytest.param(np.full((1, PIXELS), np.nan), id="no numbers"),
        pytest.param(np.full((1, PIXELS), np.inf), id="infinite"),
    ],
)
def test_what_is_no_row_of_digits_is_refused(images: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="Digits"):
        prepare(images)


def test_kmeans_on_prepared_digits_recognises_unseen_ones(
    digits: tuple[Images, NDArray[np.int64]],
) -> None:
    """On the pixels as they are it is 0.86."""
    images, labels = digits
    features = prepare(images)
    kmeans: Any = KMeans(128, n_init=cast(Any, 1), max_iter=15, random_state=0)
    kmeans.fit(features[:4000])
    votes = np.zeros((128, 10))
    np.add.at(votes, (kmeans.labels_, labels[:4000]), 1)
    predicted = votes.argmax(axis=1)[kmeans.predict(features[4000:])]
    assert np.mean(predicted == labels[4000:]) >= 0.94
