"""What a night costs where: listings and prices per neighbourhood and room type, for one day.

Pure functions of pandas. The numbers are exact: a mean is the correctly rounded quotient of the
exact sum, so it depends neither on the order of rows nor on the processor. What its columns mean is
told in `platform_assets/airbnb/column_descriptions.py`.
"""

import math

import numpy as np
import pandas as pd
import pyarrow as pa

ENTIRE_HOME = "Entire home/apt"

SCHEMA = pa.schema(
    [
        ("neighbourhood", pa.string()),
        ("room_type", pa.string()),
        ("listings", pa.int64()),
        ("priced", pa.int64()),
        ("lower_quartile", pa.float64()),
        ("median", pa.float64()),
        ("upper_quartile", pa.float64()),
        ("mean", pa.float64()),
        ("entire_home_share", pa.float64()),
    ]
)


def summarise(rows: pd.DataFrame) -> pa.Table:
    """One row per neighbourhood and room type of the day's snapshot.

    Args:
        rows: `neighbourhood` and `room_type` (may be missing, which is a group of its own, after
            all others), `price` NaN where there is none.

    Returns:
        In the order of neighbourhood and room type: `listings`, how many of them are `priced`,
        quartiles (linear between neighbours, as SQL's percentile_cont) and mean of their prices
        (null where none is priced), and `entire_home_share`: the share of entire homes among all
        listings of the neighbourhood, the same on each of its rows.
    """
    if rows.empty:
        return SCHEMA.empty_table()
    places, place_names = _numbered(rows["neighbourhood"])
    kinds, kind_names = _numbered(rows["room_type"])
    groups = places * len(kind_names) + kinds
    order = np.lexsort((rows["price"].to_numpy(), groups))  # NaN, no price, comes last
    prices = rows["price"].to_numpy()[order]
    numbers, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    priced = np.add.reduceat(~np.isnan(prices), starts, dtype=np.int64)
    of_place = numbers // len(kind_names)
    entire = np.array([name == ENTIRE_HOME for name in kind_names])[kinds]
    shares = np.bincount(places, weights=entire) / np.maximum(np.bincount(places), 1)
    return pa.table(
        {
            "neighbourhood": [place_names[number] for number in of_place],
            "room_type": [kind_names[number] for number in numbers % len(kind_names)],
            "listings": sizes,
            "priced": priced,
            "lower_quartile": _quantiles(prices, starts, priced, 0.25),
            "median": _quantiles(prices, starts, priced, 0.5),
            "upper_quartile": _quantiles(prices, starts, priced, 0.75),
            "mean": [
                math.fsum(prices[start : start + count]) / count if count else None
                for start, count in zip(starts, priced, strict=True)
            ],
            "entire_home_share": shares[of_place],
        },
        schema=SCHEMA,
    )


def _numbered(names: pd.Series) -> tuple[np.ndarray, list[str | None]]:
    """Numbers the names in their order, missing ones last; and the name of each number."""
    categories = names.cat.categories.astype(object)
    ordered = sorted(categories)
    number_of = {name: number for number, name in enumerate(ordered)}
    numbers = np.array([*(number_of[name] for name in categories), len(ordered)])
    return numbers[names.cat.codes.to_numpy()], [*ordered, None]  # the code of missing is -1


def _quantiles(
    prices: np.ndarray, starts: np.ndarray, counts: np.ndarray, fraction: float
) -> pa.Array:
    """The quantile of each group's ascending prices; null for a group without any."""
    positions = fraction * np.maximum(counts - 1, 0)
    below = np.floor(positions).astype(np.int64)
    low, high = prices[starts + below], prices[starts + np.ceil(positions).astype(np.int64)]
    return pa.array(low + (positions - below) * (high - low), pa.float64(), mask=counts == 0)
