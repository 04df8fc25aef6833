"""Where the ink is in a picture of a digit: polarity, paper and shadow, and which ink is the digit.

Grey values in, an ink map out. Nothing here knows of files, of MNIST's form or of the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from formats.digit_parts import Parts, connected_parts, is_photograph, perimeter, running_maximum

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Ink that differs from its paper by less than this share of the range is not told from noise.
_FAINTEST: Final = 0.06
# Strokes are narrower than this share of the picture's longer side, shadows are wider. A pen's
# strokes are much narrower than a mouse's, and what is told as paper by the second measure
# may be a shadow that the first takes for ink.
_WIDEST_STROKES: Final = (0.34, 0.12)
# Paper that is darker than this is not made out to be lit less.
_DARKEST_PAPER: Final = 0.25
# A digit's parts: of this share of the main part's ink at least, no further away than this share
# of its size.
_LEAST_PART: Final = 0.04
_FARTHEST_PART: Final = 0.25
# Another digit, rather than a part of this one or a blot: farther away than a part is, and of such
# a share of the main part's ink and height at least; or else nearly as high, on one line with it,
# and so far to its side as a share of its height: the two strokes of an open 4 are nearer.
_LIKE_MASS: Final = 0.1
_LIKE_HEIGHT: Final = 0.35
_ON_ONE_LINE: Final = 0.7
_APART: Final = 0.2
_THIN_AS_A_ONE: Final = 0.25
# What a digit's outline can be; a disc, a box, a rule, a page of text or noise is beyond these.
_LEAST_SIDE: Final = 5
_LEAST_SHARE_OF_PICTURE: Final = 0.04
_STOUTEST: Final = 0.38
_WIDEST: Final = 2.2
_MOST_CROSSINGS: Final = 4.0
_MOST_OF_BORDER: Final = 0.4
_LEAST_OF_INK: Final = 0.25
# How much of what lies around a digit's strokes has to be paper: a shadow fades, a piece of
# something larger goes on.
_LEAST_AROUND: Final = 0.6
# A pen that is lifted leaves less ink: what reaches this share of the threshold between ink and
# ground belongs to a stroke, too, and half of that again is ground that the ink has soaked.
# Measured on scikit-learn's digits at 56 pixels: 1 and 1/4 read .88 rightly, these .89.
_OF_OTSU: Final = 0.85
_SOAKED: Final = 0.5
# What a photograph's ink has of crispness. Measured on photographs, scans and MNIST's digits at
# 400 pixels: 0.58 at least; a gradient has 0.46 to 0.57 along the border, a vignette 0.33.
_SOFTEST: Final = 0.4
_SOFTEST_ALONG_BORDER: Final = 0.62
_ALONG_BORDER: Final = 0.1
# Ink that stands apart so clearly is not looked for by another measure.
_CLEAR: Final = 0.8
# A sheet with a digit on it has "strokes" of a third of its side.
_THIN: Final = 0.15
# A sheet of paper: shares of the picture, of its own box, and of its sides that are left off.
_LEAST_SHEET: Final = 0.08
_LARGEST_SHEET: Final = 0.92
_LEAST_OF_SHEET: Final = 0.55
_SHEET_MARGIN: Final = 0.04


@dataclass(frozen=True)
class Ink:
    """One digit's ink, cut out of its picture.

    Attributes:
        values: (h, w) float32, 0 ground to 1 full ink, without empty margins.
        stroke: Mean width of its strokes in pixels.
        box: Where in the picture it was: left, top, right, bottom; the last two exclusive.
        touches_edge: Whether it reaches to an edge of the picture.
        beside: How many others in the picture look like digits themselves, cut off or not.
        clarity: How clearly it stands apart, from 0 to 1.
        likelihood: How much speaks for its being the digit; only good for comparing.
    """

    values: Grey
    stroke: float
    box: tuple[int, int, int, int]
    touches_edge: bool
    beside: int = 0
    clarity: float = 0.0
    likelihood: float = 0.0

    @property
    def is_surely_strokes(self) -> bool:
        """Whether it stands apart and is thin: not a sheet of paper, whatever is written on it."""
        return self.clarity > _CLEAR and self.stroke < _THIN * max(self.values.shape)


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
    widths = _WIDEST_STROKES if is_photograph(grey) else _WIDEST_STROKES[:1]
    best: Ink | None = None
    for widest in widths:
        for paper in (smooth, 1 - smooth):
            ink = _candidate(paper, widest)
            if ink is not None and (best is None or ink.likelihood > best.likelihood):
                best = ink
        if best is not None and best.clarity > _CLEAR:
            break
    return best


def find_paper(grey: Grey) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) of a light sheet that lies on something darker.

    None where no sheet stands out, or where it is all of the picture.

    Args:
        grey: (H, W) float32, 0 black to 1 white.
    """
    if not is_photograph(grey) or np.ptp(grey) < _FAINTEST:
        return None
    parts = connected_parts(_smooth(grey) > _otsu(grey))
    if parts is None:
        return None
    areas = np.bincount(parts.labels.ravel())[1:]
    largest = int(np.argmax(areas))
    top, left, bottom, right = (int(edge) for edge in parts.boxes[largest])
    height, width = bottom - top, right - left
    of_box = areas[largest] / (height * width)
    of_picture = height * width / grey.size
    if of_box < _LEAST_OF_SHEET or not _LEAST_SHEET < of_picture < _LARGEST_SHEET:
        return None
    margin_x, margin_y = round(width * _SHEET_MARGIN), round(height * _SHEET_MARGIN)
    return left + margin_x, top + margin_y, right - margin_x, bottom - margin_y


def _candidate(paper: Grey, widest: float) -> Ink | None:
    """The digit there would be if the ink were the darker of the two."""
    window = max(3, round(max(paper.shape) * widest)) | 1
    # Ink is what vanishes when the paper around it flows over it; a wide shadow does not. Relative
    # to the paper it is as dark in a shadow as in the light.
    closed = _close(paper, window)
    ink = (closed - paper) / np.maximum(closed, _DARKEST_PAPER)
    ink = np.maximum(ink - np.median(ink), 0)
    if float(ink.max()) < _FAINTEST:
        return None
    threshold = max(_OF_OTSU * _otsu(ink), _FAINTEST / 2)
    parts = connected_parts(ink > threshold)
    if parts is None:
        return None
    mask, others, beside = _choose(parts, ink)
    inside = ink[mask]
    noise = float(ink[~mask].std()) if not mask.all() else 0.0
    if float(inside.mean()) < max(_FAINTEST, 3 * noise):
        return None
    rim = _rim(mask.shape)
    of_border = float(mask[rim].mean())
    of_ink = float(inside.sum() / (inside.sum() + ink[others].sum()))
    around = _around(paper, closed, mask)
    if of_border > _MOST_OF_BORDER or of_ink < _LEAST_OF_INK or around < _LEAST_AROUND:
        return None
    crispest = _SOFTEST if of_border < _ALONG_BORDER else _SOFTEST_ALONG_BORDER
    if is_photograph(paper) and _crispness(paper, closed, mask) < crispest:
        return None
    # The rim of a picture is ground: what is as light as the rim is a hole in a digit, not ink.
    against_rim = max(0.0, float(np.median(paper[rim]) - paper[mask].mean()))
    clarity = of_ink * (1 - of_border) * around**2
    cut = _cut_out(ink, mask, threshold)
    likelihood = clarity * (against_rim + _FAINTEST)
    return cut and replace(cut, beside=beside, clarity=clarity, likelihood=likelihood)


def _around(paper: Grey, closed: Grey, mask: Mask) -> float:
    """The share of what lies just outside the mask that is nearer to its paper than to its ink."""
    near = _grown(_grown(mask))
    ring = _grown(near) & ~near
    if not ring.any():
        return 0.0
    middle = float(paper[mask].mean() + closed[mask].mean()) / 2
    return float((paper[ring] > middle).mean())


def _crispness(paper: Grey, closed: Grey, mask: Mask) -> float:
    """How much of the difference between ink and paper happens within five pixels of its outline:
    shading spreads over many more."""
    outline = _grown(mask) & ~mask
    if not outline.any():
        return 0.0
    nearby = running_maximum(paper, 5) + running_maximum(-paper, 5)
    return float(np.median(nearby[outline])) / max(float((closed - paper)[mask].mean()), 1e-6)


def _choose(parts: Parts, ink: Grey) -> tuple[Mask, Mask, int]:
    """The main part and those that belong to it (a broken stroke, the bar of a five); the others,
    without those that reach in from the edge where the main part does not; and how many of these
    look like digits themselves."""
    mass = np.bincount(parts.labels.ravel(), weights=ink.ravel(), minlength=parts.count + 1)[1:]
    height, width = ink.shape
    top, left, bottom, right = parts.boxes.T
    tall = bottom - top
    inner = (top > 0) & (left > 0) & (bottom < height) & (right < width)
    main = int(np.argmax(mass * np.where(inner, 1.0, 0.15)))
    size = max(tall[main], right[main] - left[main])
    gap_y = np.maximum(np.maximum(top - bottom[main], top[main] - bottom), 0)
    gap_x = np.maximum(np.maximum(left - right[main], left[main] - right), 0)
    near = np.maximum(gap_y, gap_x) <= size * _FARTHEST_PART
    shared = np.minimum(bottom, bottom[main]) - np.maximum(top, top[main])
    on_one_line = (shared >= np.maximum(tall, tall[main]) * _ON_ONE_LINE) & (
        gap_x >= tall[main] * _APART
    )
    alike = (mass >= mass[main] * _LIKE_MASS) & (tall >= tall[main] * _LIKE_HEIGHT)
    # At the left or right edge, a thin stroke on one line with the main part is a 1.
    thin = right - left < tall * _THIN_AS_A_ONE
    one = (top > 0) & (bottom < height) & thin & on_one_line
    digits = alike & ((inner & (on_one_line | ~near)) | one)
    belongs = near & (mass >= mass[main] * _LEAST_PART)
    others = ~belongs
    if inner[main]:
        belongs &= inner
        others = inner & ~belongs
    chosen, left_out = (np.append(False, members)[parts.labels] for members in (belongs, others))
    return chosen, left_out, int(digits.sum())


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
    ground = threshold * _SOAKED
    values = np.clip((soft - ground) / max(full - ground, 1e-6), 0, 1)
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cut = values[top:bottom, left:right].astype(np.float32)
    box = (int(left), int(top), int(right), int(bottom))
    touches = bool(mask[_rim(mask.shape)].any())
    return Ink(cut, stroke, box, touches)


def _smooth(grey: Grey) -> Grey:
    """Without the grain of a camera, where there are pixels enough."""
    if not is_photograph(grey):
        return grey
    picture = Image.fromarray((grey * 255).astype(np.uint8))
    smooth = picture.filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def _close(grey: Grey, window: int) -> Grey:
    """Morphological closing with a square: dark marks narrower than the window disappear.

    Beyond its edges a photograph is mirrored: what gets darker towards them is mostly a shadow.
    A small picture may be a digit that was cut out closely: beyond its edges is ground, without
    which strokes along them would be taken for twice as wide.
    """
    beyond = window // 2
    if is_photograph(grey):
        padded = np.pad(grey, beyond, mode="symmetric")
    else:
        ground = float(np.median(grey[_rim(grey.shape)]))
        padded = np.pad(grey, beyond, constant_values=ground)
    closed = -running_maximum(-running_maximum(padded, window), window)
    height, width = grey.shape
    return closed[beyond : beyond + height, beyond : beyond + width]


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
