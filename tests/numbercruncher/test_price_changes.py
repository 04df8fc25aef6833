"""The maths of price changes, against plain Python over all rows."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import pandas as pd
import pytest

from numbercruncher import price_changes
from numbercruncher.tables import records_of
from tests.numbercruncher.listings import (
    Row,
    days,
    expected_biggest,
    expected_changes,
    market,
    row,
)


def frame(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": pd.array([item["id"] for item in rows], dtype="int64"),
            "price": pd.array(
                [float("nan") if item["price"] is None else item["price"] for item in rows],
                dtype="float64",
            ),
        }
    )


def changes(market_: Mapping[str, list[Row]]) -> pd.DataFrame:
    state = price_changes.empty_state()
    for day in sorted(market_):
        state = price_changes.fold(state, date.fromisoformat(day), frame(market_[day]))
    return price_changes.changes(state)


def records(table: pd.DataFrame) -> list[Mapping[str, Any]]:
    return list(records_of(price_changes.to_arrow(table, price_changes.SCHEMA)))


def test_a_moving_market_gives_what_plain_python_gives() -> None:
    market_ = market(days("2026-02-20", 12), 300)
    table = changes(market_)
    expected = expected_changes(market_, "2026-03-31")
    assert records(table) == expected
    assert records(price_changes.biggest_increases(table)) == expected_biggest(expected, 1)
    assert records(price_changes.biggest_decreases(table)) == expected_biggest(expected, -1)


def test_the_order_of_rows_does_not_matter() -> None:
    market_ = market(days("2026-02-20", 4), 60)
    turned = {day: list(reversed(rows)) for day, rows in market_.items()}
    assert records(changes(market_)) == records(changes(turned))


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        pytest.param([100, 130], 15.0, id="two prices, two days apart"),
        pytest.param([0, 100], 50.0, id="0 is a price"),
        pytest.param([100, 0], -50.0, id="falling to 0 is a fall"),
        pytest.param([100, None], None, id="priced once is no change"),
        pytest.param([None, 100], None, id="priced once, later"),
        pytest.param([None, None], None, id="never priced"),
        pytest.param([100, 100], 0.0, id="an unchanged price is a change of nothing"),
    ],
)
def test_one_listing_over_two_snapshots_two_days_apart(
    prices: list[float | None], expected: float | None
) -> None:
    table = changes({"2026-01-01": [row(1, prices[0])], "2026-01-03": [row(1, prices[1])]})
    result = records(table)
    assert [item["price_change_per_day"] for item in result] == (
        [] if expected is None else [expected]
    )


def test_a_null_price_between_changes_nothing() -> None:
    prices = {"2026-01-01": 10.0, "2026-01-02": None, "2026-01-05": 18.0, "2026-01-09": None}
    (result,) = records(changes({day: [row(1, price)] for day, price in prices.items()}))
    assert result == {
        "id": 1,
        "first_date": "2026-01-01",
        "first_price": 10.0,
        "last_date": "2026-01-05",
        "last_price": 18.0,
        "price_change_per_day": 2.0,
    }


def test_equal_changes_are_named_in_the_order_of_ids() -> None:
    ids = [9, 3, 7, 1, 8, 2]
    table = changes(
        {"2026-01-01": [row(i, 10) for i in ids], "2026-01-02": [row(i, 15) for i in ids]}
    )
    assert price_changes.biggest_increases(table).index.tolist() == [1, 2, 3, 7, 8]


def test_only_real_falls_are_falls_where_fewer_than_five_fell() -> None:
    first = {1: 10, 2: 10, 3: 10, 4: 10, 5: 10, 6: 10}
    last = {1: 9, 2: 12, 3: 10, 4: 8, 5: 11, 6: 10}
    table = changes(
        {
            "2026-01-01": [row(i, price) for i, price in first.items()],
            "2026-01-02": [row(i, price) for i, price in last.items()],
        }
    )
    assert price_changes.biggest_decreases(table).index.tolist() == [4, 1]
    assert price_changes.biggest_increases(table).index.tolist() == [2, 5]
    assert len(table) == 6


def test_ids_beyond_what_a_float_holds_stay_apart() -> None:
    near = [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2]
    table = changes(
        {
            "2026-01-01": [row(i, 10 + n) for n, i in enumerate(near)],
            "2026-01-02": [row(i, 20) for i in near],
        }
    )
    assert [item["id"] for item in records(table)] == sorted(near)
    assert {item["id"]: item["first_price"] for item in records(table)} == {
        i: 10.0 + n for n, i in enumerate(near)
    }


def test_a_state_survives_being_stored() -> None:
    market_ = market(days("2026-02-20", 3), 50)
    state = price_changes.empty_state()
    for day, rows in market_.items():
        state = price_changes.fold(state, date.fromisoformat(day), frame(rows))
    stored = price_changes.to_arrow(state, price_changes.STATE_SCHEMA)
    pd.testing.assert_frame_equal(price_changes.state_from_arrow(stored), state)
