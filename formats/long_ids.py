"""Ids that lost digits: a spreadsheet keeps 15 of them, a double 53 bits.

Pure arithmetic. Where ids come from, and what becomes of a table whose ids were rounded, is not
known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LARGEST_EXACT: Final = 2**53
"""Up to here every whole number is a double, and has at most 16 digits."""

KEPT_DIGITS: Final = 15
"""What spreadsheets keep of a number (Microsoft: "Excel specifications and limits")."""


@dataclass(frozen=True)
class LongIds:
    """A column's ids beyond 2**53, in figures.

    Attributes:
        ids: How many there are.
        rounded: How many of them are exactly a double, or have only zeros after 15 digits.
        expected: How many untouched ids of these sizes look like that by chance (`chance`).
    """

    ids: int
    rounded: int
    expected: float

    @property
    def share(self) -> float:
        """Share of rounded ids among the long ones: half of untouched ones with 54 bits."""
        return self.rounded / self.ids if self.ids else 0.0

    def exceed(self, limit: float) -> bool:
        """Whether more than the share `limit` was rounded, and by more than chance.

        Counts of chance vary by the root of what is expected: beyond four of them, and three ids
        for where next to none are expected, it is none.
        """
        by_chance = self.expected + 4 * math.sqrt(self.expected) + 3
        return self.share > limit and self.rounded > by_chance


def count_long_ids(ids: Iterable[int]) -> LongIds:
    """Count the ids beyond 2**53, and those of them that look rounded."""
    long = rounded = 0
    expected = 0.0
    for number in map(abs, ids):
        if number <= LARGEST_EXACT:
            continue
        long += 1
        rounded += is_rounded(number)
        expected += chance(number.bit_length(), len(str(number)))
    return LongIds(long, rounded, expected)


def chance(bits: int, digits: int) -> float:
    """How likely an untouched id looks rounded, of so many bits (54 or more) and digits.

    The bits after 53 are zeros, or the digits after 15. Both may be, so it is a little less.
    """
    return 2.0 ** (LARGEST_EXACT.bit_length() - 1 - bits) + 10.0 ** (KEPT_DIGITS - digits)


def is_rounded(number: int) -> bool:
    """Whether a number beyond 2**53 is exactly a double, or has only zeros after 15 digits."""
    return int(float(number)) == number or number % 10 ** (len(str(number)) - KEPT_DIGITS) == 0
