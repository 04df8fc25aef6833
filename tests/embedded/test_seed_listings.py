"""The generated market: always the same, changing from day to day, as irregular as real files."""

import datetime as dt
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from typing import Any

import pandas as pd
import psycopg2
import pytest

from embedded import seed_listings
from embedded.listings import SCHEMA, ListingsError

FIRST = dt.date(2026, 11, 9)
DAYS = [FIRST + dt.timedelta(days) for days in range(14)]
DATES = [day.isoformat() for day in DAYS]


@pytest.fixture(scope="module")
def days() -> list[pd.DataFrame]:
    return [seed_listings.market(day).to_pandas(types_mapper=pd.ArrowDtype) for day in DAYS]


def test_a_day_has_about_two_thousand_listings_each_once(days: list[pd.DataFrame]) -> None:
    for day, rows in zip(DAYS, days, strict=True):
        assert 1_900 < len(rows) < 2_100
        assert rows.id.is_unique
        assert set(rows.download_date) == {day}


def test_a_day_does_not_depend_on_days_generated_before_it() -> None:
    alone = seed_listings.market(DAYS[5])
    seed_listings.market(DAYS[4])
    assert seed_listings.market(DAYS[5]).equals(alone)
    assert not seed_listings.market(DAYS[5], seed=8).equals(alone)


def test_a_day_never_changes_from_one_release_to_the_next() -> None:
    """Later days must continue the market of those that are in the table."""
    row = seed_listings.market(FIRST).slice(1, 1).to_pylist()[0]
    assert (row["id"], row["name"], row["price"]) == (3_525_110, "Tiny studio Noord-West", 131.0)


def test_listings_come_and_go_but_most_stay(days: list[pd.DataFrame]) -> None:
    first, last = set(days[0].id), set(days[-1].id)
    assert 20 < len(last - first) < 200
    assert 20 < len(first - last) < 200
    for before, after in pairwise(days):
        assert len(set(before.id) & set(after.id)) > 1_900


def test_some_prices_change_each_day_and_many_never(days: list[pd.DataFrame]) -> None:
    for before, after in pairwise(days):
        both = before.merge(after, on="id").dropna(subset=["price_x", "price_y"])
        assert 0.1 < (both.price_x != both.price_y).mean() < 0.6
    prices = pd.concat(days).groupby("id").price.nunique()
    assert (prices == 1).mean() > 0.25


def test_the_attributes_of_a_listing_stay_the_same(days: list[pd.DataFrame]) -> None:
    kept = ["name", "host_id", "host_name", "neighbourhood", "latitude", "longitude", "room_type"]
    for column in [*kept, "license"]:
        assert pd.concat(days).groupby("id")[column].nunique(dropna=False).max() == 1, column


def test_reviews_only_grow_and_are_never_from_tomorrow(days: list[pd.DataFrame]) -> None:
    rows = pd.concat(days).sort_values(["id", "download_date"])
    counts = rows.groupby("id").number_of_reviews
    assert counts.apply(lambda values: values.is_monotonic_increasing).all()
    assert (counts.nunique() > 1).sum() > 100
    reviewed = rows.dropna(subset=["last_review"])
    assert (reviewed.last_review <= reviewed.download_date).all()
    none = rows[rows.number_of_reviews == 0]
    assert none.last_review.isna().all()
    assert none.reviews_per_month.isna().all()


def test_the_count_of_a_hosts_listings_is_right(days: list[pd.DataFrame]) -> None:
    for rows in days:
        counts = rows.groupby("host_id").id.transform("size")
        assert (counts == rows.calculated_host_listings_count).all()


ODDITIES: dict[str, Callable[[Any], Any]] = {
    "line break": lambda d: d.name_.str.contains("\n"),
    "quote": lambda d: d.name_.str.contains('"'),
    "comma": lambda d: d.name_.str.contains(","),
    "emoji": lambda d: d.name_.str.contains("🌷"),
    "outer spaces": lambda d: d.name_.str.startswith("  ") & d.name_.str.endswith("  "),
    "empty name": lambda d: d.name_ == "",
    "null name": lambda d: d.name_.isna(),
    "a point": lambda d: d.name_ == ".",
    "=formula": lambda d: d.name_.str.startswith("="),
    "@formula": lambda d: d.name_.str.startswith("@"),
    "+formula": lambda d: d.name_.str.startswith("+"),
    "-formula": lambda d: d.name_.str.startswith("-"),
    "#NAME?": lambda d: d.name_ == "#NAME?",
    "Na": lambda d: d.host_name == "Na",
    "Nan": lambda d: d.host_name == "Nan",
    "null host": lambda d: d.host_name.isna(),
    "empty host": lambda d: d.host_name == "",
    "price 0": lambda d: d.price == 0,
    "no price": lambda d: d.price.isna(),
    "price 110000": lambda d: d.price == 110_000,
    "id beyond 2**53": lambda d: d.id > 2**53,
    "no reviews": lambda d: d.number_of_reviews == 0,
    "a last review without a rate": lambda d: d.last_review.notna() & d.reviews_per_month.isna(),
    "a rate without a last review": lambda d: d.last_review.isna() & d.reviews_per_month.notna(),
    "no licence": lambda d: d.license.isna(),
    "no group": lambda d: d.neighbourhood_group.isna(),
}


@pytest.mark.parametrize("odd", ODDITIES.values(), ids=ODDITIES.keys())
def test_every_day_has_the_irregularities_of_real_files(
    days: list[pd.DataFrame], odd: Callable[[Any], Any]
) -> None:
    for rows in days:
        assert odd(rows.rename(columns={"name": "name_"})).fillna(False).any()


def table(dsn: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(SCHEMA.names)} FROM listings ORDER BY download_date, id")
        return cursor.fetchall()


def test_generated_rows_reach_the_table_unchanged(database: str) -> None:
    rows = [row for day in DAYS[:3] for row in seed_listings.market(day).to_pylist()]
    assert seed_listings.seed(database, DATES[:3]) == len(rows)
    assert table(database) == [tuple(row.values()) for row in rows]


def test_seeding_again_changes_nothing_and_a_new_day_is_added(database: str) -> None:
    seed_listings.seed(database, DATES[:2], places=50)
    first = table(database)
    assert seed_listings.seed(database, DATES[:2], places=50) == 0
    assert table(database) == first
    new = seed_listings.seed(database, DATES[:3], places=50)
    assert new == seed_listings.market(DAYS[2], places=50).num_rows
    assert table(database)[: len(first)] == first


def test_a_day_that_already_has_rows_is_not_changed(database: str) -> None:
    seed_listings.seed(database, DATES[:1], places=50)
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as c:
        c.execute("DELETE FROM listings WHERE id <> (SELECT min(id) FROM listings)")
    assert seed_listings.seed(database, DATES[:1], places=50) == 0
    assert len(table(database)) == 1


def test_a_failure_on_one_day_leaves_none_of_the_days(database: str) -> None:
    seed_listings.seed(database, [], places=50)
    with closing(psycopg2.connect(database)) as connection, connection, connection.cursor() as c:
        c.execute(f"ALTER TABLE listings ADD CHECK (download_date < '{DAYS[1]}')")
    with pytest.raises(ListingsError, match="nothing was changed"):
        seed_listings.seed(database, DATES[:2], places=50)
    assert table(database) == []
