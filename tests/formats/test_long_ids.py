"""Ids that lost digits are told from ids that did not."""

import random
from collections.abc import Callable
from decimal import Context, Decimal

import pytest

from formats.long_ids import LARGEST_EXACT, count_long_ids

_DRAW = random.Random(7)
_IDS = [_DRAW.randrange(10**17, 2 * 10**18) for _ in range(20_000)]


def _in_spreadsheet(number: int) -> int:
    return int(Context(prec=15).create_decimal(Decimal(number)))


def _in_double(number: int) -> int:
    return int(float(number))


def _of_bits(bits: int, count: int) -> list[int]:
    draw = random.Random(bits)
    return [draw.randrange(2 ** (bits - 1), 2**bits) for _ in range(count)]


def test_untouched_ids_are_rounded_as_rarely_as_chance_has_it() -> None:
    counted = count_long_ids(_IDS)

    assert counted.ids == len(_IDS)
    assert counted.share < 0.02
    assert counted.rounded == pytest.approx(counted.expected, rel=0.2)
    assert not counted.exceed(0.1)


@pytest.mark.parametrize("bits", range(54, 64))
def test_untouched_ids_of_any_size_do_not_exceed_chance(bits: int) -> None:
    """Of 54 bits half are a double, of 55 a quarter, of 56 an eighth: more than the limit."""
    counted = count_long_ids(_of_bits(bits, 1000))

    assert counted.ids == 1000
    assert not counted.exceed(0.1)


@pytest.mark.parametrize("bits", range(54, 64))
def test_doubles_exceed_chance_the_sooner_the_longer_they_are(bits: int) -> None:
    least = 6 if bits >= 57 else 1000

    assert count_long_ids(map(_in_double, _of_bits(bits, least))).exceed(0.1)


@pytest.mark.parametrize("spoil", [_in_spreadsheet, _in_double])
def test_rounded_ids_are_noticed_among_a_few_and_among_many(
    spoil: Callable[[int], int],
) -> None:
    for ids in (_IDS[:6], _IDS):
        counted = count_long_ids(map(spoil, ids))
        assert counted.rounded == len(ids)
        assert counted.exceed(0.1)


def test_a_fifth_of_rounded_ids_is_enough() -> None:
    mixed = [_in_double(n) if i % 5 == 0 else n for i, n in enumerate(_IDS[:500])]
    assert count_long_ids(mixed).exceed(0.1)


def test_a_few_rounded_ids_may_be_chance() -> None:
    assert not count_long_ids(map(_in_double, _IDS[:3])).exceed(0.1)


def test_ids_that_every_double_holds_do_not_count() -> None:
    counted = count_long_ids([0, 1, 13_913, -5, 10**15, LARGEST_EXACT])
    assert (counted.ids, counted.share, counted.expected) == (0, 0.0, 0.0)


def test_negative_ids_count_as_others_do() -> None:
    assert count_long_ids([-_in_double(n) for n in _IDS[:50]]).rounded == 50
