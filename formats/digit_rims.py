"""What a picture has around it: a scanner's border, a letterbox, the table beside a sheet.

A straight edge that runs along a side from end to end is looked for at each of the four; what lies
beyond it is taken away. What is left of it where it is slanted is overwritten with what is inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from formats.digit_parts import is_photograph, shrink, values_of

Values = NDArray[np.float32]

# In a picture that is too small for a photograph a digit's own strokes are as long and as straight
# as an edge, so that only a rim that is even and crisp and on all sides is one; in one that is
# smaller still, none is.
_LEAST_SIDE: Final = 40
# How much of a picture's height or width may lie beyond one side's edge.
_DEEPEST: Final = 0.3
# A slant of up to 7 degrees.
_SLANTS: Final = tuple(math.tan(math.radians(degrees)) for degrees in range(-7, 8))
# An edge is a difference of at least so much, along so much of its length.
_LEAST_STEP: Final = 0.05
_CRISP_STEP: Final = 0.2
_LEAST_LENGTH: Final = 0.92
# An edge is soft, and hardly ever slanted by whole degrees: it spreads over so many pixels.
_SOFT: Final = 3
# Where neighbouring sides have rims, too, an edge ends in corners: only its middle is looked at.
_CORNER: Final = 0.15
# Where they have none, it goes on to the end. A digit's stroke, a 1 beside a 7, ends before.
_LEAST_OF_CORNER: Final = 0.5
# Every third pixel along an edge tells enough of it.
_EVERY: Final = 3
# A rim around a rim: a letterbox around a sheet on a table, or the grain of its wood.
_MOST_RIMS: Final = 3


@dataclass(frozen=True)
class Edge:
    """Where one side's rim ends.

    Attributes:
        start: At the side's one end, counted from the side: a share of the picture's height at the
            top and bottom, of its width at the left and right.
        stop: The same at its other end.
        reaches_start: Whether it goes on to that end, rather than just along its middle.
        reaches_stop: The same of its other end.
    """

    start: float
    stop: float
    reaches_start: bool
    reaches_stop: bool


def without_rim(picture: Image.Image) -> Image.Image | None:
    """The part of an L or RGB picture within its rims; None where it has none."""
    inner: Image.Image | None = None
    for _ in range(_MOST_RIMS):
        edges = _edges(picture)
        if not any(edges):
            break
        inner = picture = _cut(picture, edges)
    return inner


def _edges(picture: Image.Image) -> list[Edge | None]:
    """The edges along top, left, bottom and right."""
    grey = values_of(shrink(picture.convert("L")))
    if min(grey.shape) < _LEAST_SIDE:
        return [None] * 4
    edges = [_edge(np.rot90(grey, -turn)) for turn in range(4)]
    if not is_photograph(grey) and not all(edges):
        return [None] * 4
    # A side starts where the next one stops, since each is turned to be the top.
    return [
        edge
        if edge
        and (edge.reaches_start or edges[(turn + 1) % 4])
        and (edge.reaches_stop or edges[turn - 1])
        else None
        for turn, edge in enumerate(edges)
    ]


def _edge(grey: Values) -> Edge | None:
    """The most distinct edge along the top."""
    height, width = grey.shape
    photograph = is_photograph(grey)
    if not photograph and np.ptp(grey[0]) > _LEAST_STEP:
        return None
    least = _LEAST_STEP if photograph else _CRISP_STEP
    deepest = int(height * _DEEPEST)
    # Over some pixels: no soft edge is missed, nor one that is a little more slanted.
    step = grey[_SOFT : deepest + _SOFT] - grey[:deepest]
    sign = (step > least).astype(np.int8) - (step < -least)
    column: NDArray[np.int64] = np.arange(
        round(width * _CORNER), round(width * (1 - _CORNER)), _EVERY, dtype=np.int64
    )
    best, distinct = None, 0.0
    for slant in _SLANTS if photograph else (0.0,):
        fall: NDArray[np.int64] = np.rint((column - width / 2) * slant).astype(np.int64)
        first, last = max(0, -int(fall.min())), deepest - max(0, int(fall.max()))
        if first >= last:
            continue
        rows = np.arange(first, last)[:, None] + fall
        length = np.abs(sign[rows, column].mean(axis=1))
        for index in np.flatnonzero(length >= _LEAST_LENGTH):
            strength = abs(float(np.median(step[rows[index], column])))
            if strength > distinct:
                distinct, middle = strength, first + int(index) + _SOFT + 1
                lower = slant * width / 2
                best = Edge(
                    (middle - lower) / height,
                    (middle + lower) / height,
                    *_reach(sign, first + int(index), slant),
                )
    return best


def _reach(sign: NDArray[np.int8], row: int, slant: float) -> tuple[bool, bool]:
    """Whether an edge goes on through the corners at its start and at its stop.

    Args:
        sign: (rows, width) int8, the sign of the step from each pixel to those below it.
        row: Of the edge, in the middle of its length.
        slant: Rows that it falls a column.
    """
    height, width = sign.shape
    column: NDArray[np.int64] = np.arange(width, dtype=np.int64)
    rows = row + np.rint((column - width / 2) * slant).astype(np.int64)
    corner = round(width * _CORNER)
    inside = (rows >= 0) & (rows < height)
    step = np.where(inside, sign[rows.clip(0, height - 1), column], 0)
    middle = np.sign(int(step[corner : width - corner].sum()))
    goes_on = (step == middle) | ~inside
    start, stop = goes_on[:corner].mean(), goes_on[width - corner :].mean()
    return bool(start >= _LEAST_OF_CORNER), bool(stop >= _LEAST_OF_CORNER)


def _cut(picture: Image.Image, edges: list[Edge | None]) -> Image.Image:
    """What is within the edges; where an edge is slanted, its outside is made like its inside."""
    values = np.asarray(picture)
    for turn, edge in enumerate(edges):
        if edge is not None:
            values = np.rot90(_cut_top(np.rot90(values, -turn), edge), turn)
    return Image.fromarray(np.ascontiguousarray(values))


def _cut_top(values: NDArray[np.uint8], edge: Edge) -> NDArray[np.uint8]:
    """`_cut` for one edge, along the top."""
    height, width = values.shape[:2]
    cut = np.ceil(np.linspace(edge.start, edge.stop, width) * height).astype(np.int64)
    cut = cut.clip(0, height - 2)
    first, last = int(cut.min()), int(cut.max())
    if first == last:
        return values[first:]
    inside = values[cut, np.arange(width)]
    outside = np.arange(first, last)[:, None] < cut
    if values.ndim == 3:
        outside = outside[..., None]
    return np.concatenate([np.where(outside, inside, values[first:last]), values[last:]])
