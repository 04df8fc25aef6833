"""A listings market that moves as a real one does, made from nothing but a seed.

This module decides which listings are on the market on a day, and their values. The words come
from `market_words`; `listings` writes the table.

Nothing is simulated step by step: every value is a function of (seed, listing, day), so that any
day can be made alone, and the next day goes on with the same market. The oddities of real files
are spread over fixed places, so that every day has all of them.
"""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedded import listings, market_words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SEED = 7
PLACES = 2050
_NIGHTS = np.array([1, 1, 2, 2, 2, 3, 3, 4, 5, 7, 14, 30])
_EPOCH = dt.date(2015, 1, 1)


def seed(dsn: str, dates: Sequence[str], *, places: int = PLACES) -> int:
    """Puts the days that are not there yet into the table, in one transaction.

    A day that has rows is left as it is, whoever put them there.

    Args:
        dsn: Of Postgres; the table is made if there is none.
        dates: Days, YYYY-MM-DD.
        places: How many listings the market has room for; some percent of them stand empty.

    Returns:
        How many rows are new.

    Raises:
        embedded.listings.ListingsError: Postgres refuses.
    """
    days = [dt.date.fromisoformat(date) for date in dates]
    with listings.writing(dsn) as opened:
        loaded = listings.days_with_rows(opened, days)
        tables = [market(day, places=places) for day in sorted(set(days) - loaded)]
        for rows in tables:
            listings.copy(opened, rows)
    return sum(rows.num_rows for rows in tables)


def market(day: dt.date, *, places: int = PLACES, seed: int = SEED) -> pa.Table:
    """All listings of a day, in the order of their ids, with the columns of the table."""
    dice = _Dice(seed)
    now = (day - _EPOCH).days
    place, tenant, age = _tenants(dice, now, places)
    who = tenant * 100_003 + place
    # A tenth of the places is odd in one way or another, by its number.
    odd = place % 100
    ids = np.where(dice(who, 1) < 0.5, 20_000 + who * 7, 600_000_000_000_000_000 + who * 1_000_003)
    hosts = _hosts(dice, who, odd)
    reviews = _reviews(dice, who, age, now, odd)
    area = (dice(who, 10) ** 1.7 * len(market_words.AREAS)).astype(np.int64)
    columns: dict[str, object] = {
        "id": ids,
        "name": market_words.names(dice(who, 11), dice(who, 12), area, odd),
        "host_id": hosts,
        "host_profile_id": [str(1_460_000_000_000_000_000 + int(host) * 31) for host in hosts],
        "host_name": market_words.host_names(dice(hosts, 13), odd),
        "neighbourhood_group": pa.nulls(len(who), pa.string()),
        "neighbourhood": [market_words.AREAS[index][0] for index in area],
        "latitude": _near(dice(who, 14), area, 1, 0.012),
        "longitude": _near(dice(who, 15), area, 2, 0.018),
        "room_type": _room_types(dice(who, 16)),
        "price": _prices(dice, who, now, odd),
        "minimum_nights": np.where(odd == 25, 1100, _NIGHTS[_pick(dice(who, 17), len(_NIGHTS))]),
        **reviews,
        "calculated_host_listings_count": _counts(hosts),
        "availability_365": np.where(
            dice(who, 18) < 0.3, 0, (dice(who, 19, (now + who) // 5) * 366).astype(np.int64)
        ),
        "license": _licenses(dice(who, 20), dice(who, 21)),
        "download_date": [day] * len(who),
    }
    arrays = [
        pa.array(columns[field.name], field.type, from_pandas=True) for field in listings.SCHEMA
    ]
    return pa.table(arrays, schema=listings.SCHEMA).sort_by("id")


class _Dice:
    """Numbers that look random and depend on what they are asked for only (splitmix64)."""

    def __init__(self, seed: int) -> None:
        self._seed = np.uint64(seed)

    def __call__(self, who: Ints, what: int, when: Ints | int = 0) -> Floats:
        """Uniform in [0, 1), one for each of `who`."""
        value = np.full(len(who), self._seed)
        for key in (who, np.int64(what), np.asarray(when, np.int64)):
            value = self._mixed(value ^ self._mixed(np.asarray(key).astype(np.uint64)))
        return (value >> np.uint64(11)).astype(np.float64) / 2**53

    @staticmethod
    def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
        with np.errstate(over="ignore"):
            value = value + np.uint64(0x9E3779B97F4A7C15)
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return value ^ (value >> np.uint64(31))


def _pick(dice: Floats, count: int) -> Ints:
    return (dice * count).astype(np.int64)


def _tenants(dice: _Dice, now: int, places: int) -> tuple[Ints, Ints, Ints]:
    """Who is on the market: place, which listing in a row there, and its age in days."""
    place = np.arange(places)
    term = 40 + (dice(place, 2) * 700).astype(np.int64)
    since = now + (dice(place, 3) * term).astype(np.int64)
    tenant, stay = since // term, since % term
    who = tenant * 100_003 + place
    # Between two listings a place stands empty for a while; now and then a scrape misses one.
    present = (stay < term * 0.985) & (dice(who, 4, now) > 0.008)
    age = stay + (dice(who, 5) ** 3 * 2500).astype(np.int64)
    return place[present], tenant[present], age[present]


def _hosts(dice: _Dice, who: Ints, odd: Ints) -> Ints:
    """Most have one listing, some a few, and one company has dozens."""
    alone = 1_000 + who * 11
    few = 900 + _pick(dice(who, 6), 150)
    kind = dice(who, 7)
    host = np.where(kind < 0.65, alone, np.where(kind < 0.97, few, 203_731_852))
    # A host with an odd name has no other listing, where the name would be another.
    return np.where(odd < 10, alone, host)


def _counts(hosts: Ints) -> Ints:
    _, index, counts = np.unique(hosts, return_inverse=True, return_counts=True)
    return counts[index]


def _near(dice: Floats, area: Ints, axis: int, spread: float) -> Floats:
    centre = np.array([entry[axis] for entry in market_words.AREAS])[area]
    return np.round(centre + (dice - 0.5) * spread, 5)


def _room_types(dice: Floats) -> list[str]:
    kinds = ("Entire home/apt", "Private room", "Hotel room", "Shared room")
    return [kinds[index] for index in np.searchsorted([0.75, 0.97, 0.99], dice, side="right")]


def _prices(dice: _Dice, who: Ints, now: int, odd: Ints) -> Floats:
    """Whole amounts; NaN where the listing shows no price.

    A third never changes, a third is looked after every week or month, the rest every day.
    """
    base = 35 + 60 * np.exp(2.2 * dice(who, 22))
    rhythm = np.array([100_000, 100_000, 30, 7, 1, 1])[_pick(dice(who, 23), 6)]
    noise = dice(who, 24, (now + who % 97) // rhythm) - 0.5
    trend = 1 + 0.0008 * (dice(who, 25) - 0.45) * (now // rhythm * rhythm % 365)
    weekend = np.where((rhythm == 1) & ((_EPOCH.weekday() + now) % 7 in (4, 5)), 1.12, 1.0)
    price = np.round(base * trend * weekend * (1 + 0.3 * noise))
    closed = dice(who, 26, (now + who % 13) // 21) < 0.2
    price = np.where(closed, np.nan, price)
    # A listing that is given away, one that nobody is meant to book, and one that flickers.
    price = np.where(odd == 20, 0.0, price)
    price = np.where((odd == 21) & (dice(who, 27, now) < 0.7), 110_000.0, price)
    return np.where((odd == 22) & (dice(who, 28, now) < 0.5), np.nan, price)


def _reviews(dice: _Dice, who: Ints, age: Ints, now: int, odd: Ints) -> dict[str, object]:
    """Reviews come at a listing's own pace and never go; some listings never get any."""
    pace = np.where(dice(who, 30) < 0.12, 0.0, 0.002 + 0.12 * dice(who, 31) ** 3)
    phase = dice(who, 32)
    total = np.floor(pace * age + phase)
    a_year_ago = np.floor(pace * np.maximum(age - 365, 0) + np.where(age > 365, phase, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        last_at = np.ceil((total - phase) / pace)
    per_month = np.round(total / (np.maximum(age, 30) / 30.4), 2)
    none = total == 0
    last = [
        None if missing else _EPOCH + dt.timedelta(days=now - int(days))
        for missing, days in zip(none | (odd == 23), np.nan_to_num(age - last_at), strict=True)
    ]
    return {
        "number_of_reviews": total.astype(np.int64),
        "last_review": last,
        # A few real rows have the one without the other.
        "reviews_per_month": np.where(none | (odd == 24), np.nan, per_month),
        "number_of_reviews_ltm": (total - a_year_ago).astype(np.int64),
    }


def _licenses(kind: Floats, number: Floats) -> list[str | None]:
    digits = (number * 2**52).astype(np.int64)
    return [
        None if k < 0.05 else "Exempt" if k < 0.1 else market_words.license_number(int(n))
        for k, n in zip(kind, digits, strict=True)
    ]
