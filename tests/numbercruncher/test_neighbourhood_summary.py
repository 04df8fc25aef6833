"""The neighbourhood summary, against exact arithmetic in plain Python."""

from typing import Any

import pandas as pd
import pytest

from numbercruncher.neighbourhood_summary import summarise
from numbercruncher.tables import records_of
from tests.numbercruncher.listings import Row, expected_summary, market, row


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    table = pd.DataFrame(
        {
            "id": [item["id"] for item in rows],
            "price": pd.array(
                [float("nan") if item["price"] is None else item["price"] for item in rows],
                dtype="float64",
            ),
            "neighbourhood": pd.Categorical([item["neighbourhood"] for item in rows]),
            "room_type": pd.Categorical([item["room_type"] for item in rows]),
        }
    )
    return [dict(record) for record in records_of(summarise(table))]


def assert_same(result: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(result) == len(expected)
    for one, other in zip(result, expected, strict=True):
        assert one == {
            name: pytest.approx(value, rel=1e-14) if isinstance(value, float) else value
            for name, value in other.items()
        }
        assert one["mean"] == other["mean"]  # exact sum, one rounding: equal to the last bit


def test_a_market_gives_what_exact_arithmetic_gives() -> None:
    rows = market(["2026-01-01"], 1500)["2026-01-01"]
    assert_same(summary(rows), expected_summary(rows))


def test_quartiles_lie_between_neighbours_as_in_sql() -> None:
    (result,) = summary([row(i, price) for i, price in enumerate([1, 2, 4, 8])])
    assert result == {
        "neighbourhood": "Centrum-West",
        "room_type": "Entire home/apt",
        "listings": 4,
        "priced": 4,
        "lower_quartile": 1.75,
        "median": 3.0,
        "upper_quartile": 5.0,
        "mean": 3.75,
        "entire_home_share": 1.0,
    }


def test_unpriced_listings_count_as_listings_and_in_no_price() -> None:
    (result,) = summary([row(1, None), row(2, 0), row(3, 10)])
    assert (result["listings"], result["priced"], result["mean"]) == (3, 2, 5.0)


def test_a_group_without_prices_has_none_and_not_zero() -> None:
    (result,) = summary([row(1, None)])
    assert [result[name] for name in ("lower_quartile", "median", "upper_quartile", "mean")] == [
        None
    ] * 4


def test_the_share_of_entire_homes_is_that_of_the_neighbourhood() -> None:
    rows = [row(1, 5), row(2, 5, room_type="Private room"), row(3, 5, room_type="Private room")]
    assert [item["entire_home_share"] for item in summary(rows)] == [1 / 3, 1 / 3]


def test_null_and_empty_neighbourhoods_are_different_and_null_comes_last() -> None:
    rows = [row(1, 5, None), row(2, 5, ""), row(3, 5, "Zuid"), row(4, 5, "Zuid", None)]
    assert [(item["neighbourhood"], item["room_type"]) for item in summary(rows)] == [
        ("", "Entire home/apt"),
        ("Zuid", "Entire home/apt"),
        ("Zuid", None),
        (None, "Entire home/apt"),
    ]


def test_no_listings_give_no_rows() -> None:
    assert summary([]) == []
