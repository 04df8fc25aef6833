"""Where the ink is in a picture of a digit: polarity, paper and shadow, and which ink is the digit.

Grey values in, an ink map out. Nothing here knows of files, of MNIST's form or of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from formats.digit_parts import Parts, connected_parts, perimeter, running_maximum

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Ink that differs from its paper by less than this share of the range is not told from noise.
_FAINTEST: Final = 0.06
# Strokes are narrower than this share of the picture's longer side, shadows are wider.
_WIDEST_STROKE: Final = 0.34
# From this size on, a picture can spare the detail that smoothing costs.
_SMOOTHED_FROM: Final = 96
# A digit's parts: of this share of the main part's ink at least, no further away than this share
# of its size.
_LEAST_PART: Final = 0.04
_FARTHEST_PART: Final = 0.25
# What a digit's outline can be; a disc, a box, a rule, a page of text or noise is beyond these.
_LEAST_SIDE: Final = 5
_LEAST_SHARE_OF_PICTURE: Final = 0.04
_STOUTEST: Final = 0.38
_WIDEST: Final = 2.2
_MOST_CROSSINGS: Final = 4.0
_MOST_OF_BORDER: Final = 0.4
_LEAST_OF_INK: Final = 0.25


@dataclass(frozen=True)
class Ink:
    """One digit's ink, cut out of its picture.

    Attributes:
        values: (h, w) float32, 0 ground to 1 full ink, without empty margins.
        stroke: Mean width of its strokes in pixels.
    """

    values: Grey
    stroke: float


def find_ink(grey: Grey) -> Ink | None:
    """The ink of the one digit in a picture, or None where no ink looks like a digit's.

    Whether the ink is dark on light or light on dark is found out. Uneven light, and shadows that
    are wider than a stroke, are taken away; specks, and what reaches in from the picture's edge,
    are left out.

    Args:
        grey: (H, W) float32, 0 black to 1 white.
    """
    if min(grey.shape) < _LEAST_SIDE:
        return None
    smooth = _smooth(grey)
    candidates = [_candidate(smooth), _candidate(1 - smooth)]
    likely = max(candidates, key=lambda candidate: candidate.likelihood)
    return likely.ink


@dataclass(frozen=True)
class _Candidate:
    likelihood: float
    ink: Ink | None = None


def _candidate(paper: Grey) -> _Candidate:
    """The digit there would be if the ink were the darker of the two."""
    window = max(3, round(max(paper.shape) * _WIDEST_STROKE)) | 1
    # Ink is what vanishes when the paper around it flows over it; a wide shadow does not.
    ink = _close(paper, window) - paper
    ink = np.maximum(ink - np.median(ink), 0)
    if float(ink.max()) < _FAINTEST:
        return _Candidate(0.0)
    threshold = max(_otsu(ink), _FAINTEST / 2)
    parts = connected_parts(ink > threshold)
    if parts is None:
        return _Candidate(0.0)
    mask = _choose(parts, ink)
    inside = ink[mask]
    noise = float(ink[~mask].std()) if not mask.all() else 0.0
    if float(inside.mean()) < max(_FAINTEST, 3 * noise):
        return _Candidate(0.0)
    rim = _rim(mask.shape)
    of_border = float(mask[rim].mean())
    of_ink = float(inside.sum() / ink[ink > threshold].sum())
    # The rim of a picture is ground: what is as light as the rim is a hole in a digit, not ink.
    against_rim = max(0.0, float(np.median(paper[rim]) - paper[mask].mean()))
    if of_border > _MOST_OF_BORDER or of_ink < _LEAST_OF_INK:
        return _Candidate(0.0)
    likelihood = of_ink * (1 - of_border) * (against_rim + _FAINTEST)
    return _Candidate(likelihood, _cut_out(ink, mask, threshold))


def _choose(parts: Parts, ink: Grey) -> Mask:
    """The main part and those that belong to it: a broken stroke, the bar of a five."""
    mass = np.bincount(parts.labels.ravel(), weights=ink.ravel(), minlength=parts.count + 1)[1:]
    height, width = ink.shape
    top, left, bottom, right = parts.boxes.T
    inner = (top > 0) & (left > 0) & (bottom < height) & (right < width)
    main = int(np.argmax(mass * np.where(inner, 1.0, 0.15)))
    size = max(bottom[main] - top[main], right[main] - left[main])
    gap_y = np.maximum(np.maximum(top - bottom[main], top[main] - bottom), 0)
    gap_x = np.maximum(np.maximum(left - right[main], left[main] - right), 0)
    belongs = (mass >= mass[main] * _LEAST_PART) & (
        np.maximum(gap_y, gap_x) <= size * _FARTHEST_PART
    )
    if inner[main]:
        belongs &= inner
    return np.concatenate(([False], belongs))[parts.labels]


def _cut_out(ink: Grey, mask: Mask, threshold: float) -> Ink | None:
    """The chosen ink without what surrounds it, if its outline can be a digit's."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    longer = max(height, width)
    stroke = 2 * float(mask.sum()) / perimeter(mask)
    crossings = float(np.diff(mask.astype(np.int8), axis=1, prepend=0).clip(0).sum()) / height
    if (
        longer < max(_LEAST_SIDE, _LEAST_SHARE_OF_PICTURE * max(mask.shape))
        or stroke > _STOUTEST * longer
        or width > _WIDEST * height
        or crossings > _MOST_CROSSINGS
    ):
        return None
    # A stroke's soft edge lies just outside its mask.
    soft = np.where(_grown(mask), ink, 0)
    full = float(np.percentile(ink[mask], 60))
    values = np.clip((soft - threshold / 4) / max(full - threshold / 4, 1e-6), 0, 1)
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    cut = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Ink(cut.astype(np.float32), stroke)


def _smooth(grey: Grey) -> Grey:
    """Without the grain of a camera, where there are pixels enough."""
    if max(grey.shape) < _SMOOTHED_FROM:
        return grey
    picture = Image.fromarray((grey * 255).astype(np.uint8))
    smooth = picture.filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def _close(grey: Grey, window: int) -> Grey:
    """Morphological closing with a square: dark marks narrower than the window disappear."""
    widest = running_maximum(grey, window)
    return -running_maximum(-widest, window)


def _otsu(values: Grey) -> float:
    """The threshold that parts the values into two classes of least variance (Otsu, 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[int(np.nanargmax(between)) + 1])


def _rim(shape: tuple[int, ...]) -> Mask:
    """The outermost pixels of a picture of this shape."""
    rim = np.ones(shape, dtype=np.bool_)
    rim[1:-1, 1:-1] = False
    return rim


def _grown(mask: Mask) -> Mask:
    """A mask and all that touches it."""
    padded = np.pad(mask, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    return tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]
