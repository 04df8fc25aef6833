"""Ids that lost digits: a spreadsheet keeps 15 of them, a double 53 bits.

Pure arithmetic. Where ids come from, and what becomes of a table whose ids were rounded, is not
known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LARGEST_EXACT: Final = 2**53
"""Up to here every whole number is a double, and has at most 16 digits."""

KEPT_DIGITS: Final = 15
"""What spreadsheets keep of a number (Microsoft: "Excel specifications and limits")."""

# Below this, rounded ids may be so by chance: 1 in 2**24, some 17 million.
_LEAST_BITS: Final = 24


@dataclass(frozen=True)
class LongIds:
    """A column's ids beyond 2**53, in figures.

    Attributes:
        ids: How many there are.
        rounded: How many of them are exactly a double, or have only zeros after 15 digits.
        bits: How many bits these would have lost in a double: with so many coin throws, all
            heads, untouched ids would look like that by chance.
    """

    ids: int
    rounded: int
    bits: int

    @property
    def share(self) -> float:
        """Share of rounded ids among the long ones: 1 in 128 of untouched ones with 18 digits."""
        return self.rounded / self.ids if self.ids else 0.0

    def exceed(self, limit: float) -> bool:
        """Whether more than the share `limit` was rounded, and by more than chance."""
        return self.bits >= _LEAST_BITS and self.share > limit


def count_long_ids(ids: Iterable[int]) -> LongIds:
    """Count the ids beyond 2**53, and those of them that look rounded."""
    long = rounded = bits = 0
    for number in map(abs, ids):
        if number <= LARGEST_EXACT:
            continue
        long += 1
        if is_rounded(number):
            rounded += 1
            bits += number.bit_length() - 53
    return LongIds(long, rounded, bits)


def is_rounded(number: int) -> bool:
    """Whether a number beyond 2**53 is exactly a double, or has only zeros after 15 digits."""
    return int(float(number)) == number or number % 10 ** (len(str(number)) - KEPT_DIGITS) == 0
