"""What the modules of digit pictures share: small pictures, their parts, outlines and maxima.

SciPy's `ndimage` has most of the analysis; it is left out because it would be most of the package
that the online API uploads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Nothing finer than this is of use for a digit of 20 pixels, where it fills half of the picture;
# where it is smaller, it is looked at again from closer by.
WORKING_SIDE: Final = 192
# From this size on, a picture is taken for a photograph: it can spare the detail that smoothing
# costs, and has shadows.
_PHOTOGRAPH_FROM: Final = 96
# Noise has thousands of runs where a page of handwriting has hundreds: the work stays bounded.
_MOST_RUNS: Final = 8000


@dataclass(frozen=True)
class Parts:
    """The 8-connected parts of a mask.

    Attributes:
        labels: (H, W) int32, 0 outside, else 1 to count.
        boxes: (count, 4) int: top, left, bottom, right of each; the last two exclusive.
    """

    labels: NDArray[np.int32]
    boxes: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self.boxes)


def shrink(picture: Image.Image) -> Image.Image:
    """A copy, at most 192 pixels wide and high."""
    small = picture.copy()
    small.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BILINEAR, reducing_gap=2)
    return small


def values_of(grey: Image.Image) -> NDArray[np.float32]:
    """(H, W) float32, 0 black to 1 white, of a picture of mode L."""
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def is_photograph(grey: NDArray[np.float32]) -> bool:
    """Whether a small picture, (H, W), is large enough to be taken for a photograph."""
    return max(grey.shape) >= _PHOTOGRAPH_FROM


def connected_parts(mask: NDArray[np.bool_]) -> Parts | None:
    """Labels the parts of an (H, W) mask; None where it is empty or nothing but noise."""
    row, start, stop = _runs(mask)
    if not 0 < len(row) <= _MOST_RUNS:
        return None
    part = _join(row.tolist(), start.tolist(), stop.tolist())
    _, number = np.unique(part, return_inverse=True)
    count = int(number.max()) + 1
    boxes = np.empty((count, 4), dtype=np.int64)
    boxes[:, :2] = max(mask.shape)
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], number, row)
    np.minimum.at(boxes[:, 1], number, start)
    np.maximum.at(boxes[:, 2], number, row + 1)
    np.maximum.at(boxes[:, 3], number, stop)
    labels = np.zeros(mask.shape, dtype=np.int32)
    # Row-major order of pixels is the order of runs.
    labels[mask] = np.repeat(number + 1, stop - start)
    return Parts(labels, boxes)


def perimeter(mask: NDArray[np.bool_]) -> float:
    """Length of a mask's outlines, in pixels.

    Counting pixel edges takes a slanted line for a staircase, 4/π times too long on average over
    all directions (Cauchy–Crofton); that is taken back.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    return float(edges) * np.pi / 4


def running_maximum(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Maximum over a centred (window × window) square; outside the picture nothing counts."""
    for _ in range(2):
        half = window // 2
        edge = ((half, window - 1 - half), (0, 0))
        running = np.pad(values, edge, constant_values=-np.inf)
        # Windows double: the maximum over 2n is that of two maxima over n.
        reach = 1
        while reach < window:
            step = min(reach, window - reach)
            running = np.maximum(running[:-step], running[step:])
            reach += step
        values = running.T
    return values


def _runs(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, first column and column after the last of every horizontal run, in row-major order."""
    change = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(change == 1)
    _, stop = np.nonzero(change == -1)
    return row, start, stop


def _join(row: list[int], start: list[int], stop: list[int]) -> list[int]:
    """The first run of each run's part: union-find over runs that touch from row to row."""
    parent = list(range(len(row)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    above = 0
    for run in range(len(row)):
        while above < run and (
            row[above] < row[run] - 1 or (row[above] == row[run] - 1 and stop[above] < start[run])
        ):
            above += 1
        touching = above
        while touching < run and row[touching] == row[run] - 1 and start[touching] <= stop[run]:
            first, second = root(touching), root(run)
            parent[max(first, second)] = min(first, second)
            touching += 1
    return [root(run) for run in range(len(row))]
