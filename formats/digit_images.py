"""What a digit looks like to the model: the one preprocessing that training and serving share.

Here digits are brought upright and to size. How a picture's bytes become a digit is in
digit_pictures, by which features upright digits are compared in digit_features.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from formats.digit_features import FEATURES, describe

SIDE: Final = 28
"""Pixels along one side of a digit in MNIST's form."""

PIXELS: Final = SIDE * SIDE

# The standard deviations, in pixels, that every digit's ink is brought to. Measured on pixels, by
# five-fold cross-validation over 5,000 MNIST digits with k-means, k = 256: 0.88 as they are, 0.93
# deskewed, 0.95 deskewed and of equal length, 0.97 with size and width made equal too. From
# (4.6, 2.8) to (6.0, 3.8) the result moves by less than half a point.
_HEIGHT_DEVIATION: Final = 5.4
_WIDTH_DEVIATION: Final = 3.6

# A bar has no width to speak of, and noise no height: beyond these factors nothing is stretched.
_STRETCH: Final = (0.6, 1.6)

_STEEPEST_SLANT: Final = 1.0

# Every digit's Euclidean length. At 7 the brightest pixel of nearly every digit stays below 1.
_LENGTH: Final = 7.0

# 256 digits are 0.8 MB: the working arrays stay in the processor's cache, whatever N is.
_CHUNK: Final = 256


def prepare(images: ArrayLike) -> NDArray[np.float32]:
    """The features of digits in MNIST's form, by which they are trained on and recognised.

    Each digit is brought upright and to size (see `upright`), and described by where its outline
    runs in which direction (see `digit_features.describe`).

    Args:
        images: (N, 784), row-major 28 × 28 pixels, 0 for ground to 1 for full ink.

    Returns:
        (N, 784) float32 within 0..1, each row of length 1; a picture without ink has zeros.

    Raises:
        ValueError: The shape is another, or a value is not finite.
    """
    source = np.asarray(images, dtype=np.float32)
    if source.ndim != 2 or source.shape[1] != PIXELS:
        raise ValueError(f"Digits come as (N, {PIXELS}) arrays, not as {source.shape}.")
    features = np.empty((len(source), FEATURES), dtype=np.float32)
    for start in range(0, len(source), _CHUNK):
        digits = source[start : start + _CHUNK].reshape(-1, SIDE, SIDE)
        features[start : start + _CHUNK] = describe(upright(digits))
    return features


def upright(digits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Digits without what differs between two writers' hands most: place, slant and size.

    Each digit is moved so that its ink's centre of mass is the centre of the picture, deskewed,
    stretched to a common height and width (all by the moments of its ink), and scaled to a common
    Euclidean length. k-means, which knows nothing of shifts and slants, has to find only what
    tells the digits apart.

    Args:
        digits: (n, 28, 28) float32, 0 for ground to 1 for full ink.

    Returns:
        (n, 28, 28) float32 within 0..1. A picture without ink stays without.

    Raises:
        ValueError: A value is not finite.
    """
    pixel = np.arange(SIDE, dtype=np.float32)
    by_row, by_column = digits.sum(axis=2), digits.sum(axis=1)
    ink = by_row.sum(axis=1)
    if not np.isfinite(ink).all():
        raise ValueError("Digits are finite numbers from 0 to 1; here are infinities or NaNs.")
    ink = np.where(ink > 0, ink, np.float32(1))
    centre_y, centre_x = by_row @ pixel / ink, by_column @ pixel / ink
    from_y, from_x = pixel - centre_y[:, None], pixel - centre_x[:, None]
    variance_y = np.maximum((by_row * from_y**2).sum(axis=1) / ink, 0.3)
    variance_x = (by_column * from_x**2).sum(axis=1) / ink
    covariance = ((digits @ from_x[:, :, None])[:, :, 0] * from_y).sum(axis=1) / ink

    slant = np.clip(covariance / variance_y, -_STEEPEST_SLANT, _STEEPEST_SLANT)
    upright_variance_x = np.maximum(variance_x - slant * covariance, 0.3)
    stretch_x = np.clip(np.sqrt(upright_variance_x) / _WIDTH_DEVIATION, *_STRETCH)
    stretch_y = np.clip(np.sqrt(variance_y) / _HEIGHT_DEVIATION, *_STRETCH)

    # Both steps are sums of two neighbours: a slant moves whole rows, so that each row is drawn
    # anew by itself, and after that all columns move alike.
    from_middle = pixel - (SIDE - 1) / 2
    shift = centre_x[:, None] + slant[:, None] * from_y
    columns = shift[:, :, None] + stretch_x[:, None, None] * from_middle
    deskewed = _sample_columns(digits, columns)
    rows = centre_y[:, None] + stretch_y[:, None] * from_middle
    placed = _sample_rows(deskewed, rows)
    length = np.sqrt(np.einsum("nyx,nyx->n", placed, placed))
    placed *= (_LENGTH / np.where(length > 0, length, np.float32(1)))[:, None, None]
    return np.clip(placed, 0, 1, out=placed)


def _sample_columns(
    digits: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Digits (n, 28, 28) read at fractional columns (n, 28, 28), ground outside."""
    left, share = _split(columns)
    padded = np.pad(digits, ((0, 0), (0, 0), (1, 2))).ravel()
    row_starts = np.arange(len(digits) * SIDE, dtype=np.int32) * (SIDE + 3)
    index = left + row_starts.reshape(-1, SIDE, 1)
    return _between(padded.take(index), padded.take(index + 1), share)


def _sample_rows(digits: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Digits (n, 28, 28) read at fractional rows (n, 28), ground outside."""
    above, share = _split(rows)
    padded = np.pad(digits, ((0, 0), (1, 2), (0, 0))).reshape(-1, SIDE)
    index = above + np.arange(len(digits), dtype=np.int32)[:, None] * (SIDE + 3)
    following = padded.take(index + 1, axis=0)
    return _between(padded.take(index, axis=0), following, share[:, :, None])


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Linear interpolation; `second` is overwritten."""
    second -= first
    second *= share
    second += first
    return second


def _split(position: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Fractional positions as an index into pixels padded by (1, 2), and the next one's share."""
    # One pixel off either edge is ground already, so positions further out are brought there.
    bounded = np.clip(position, -1, SIDE) + 1
    whole = np.floor(bounded)
    return whole.astype(np.int32), bounded - whole
