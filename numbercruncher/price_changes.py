"""How prices changed: first and last price of every listing, and the change per day.

Pure functions of pandas. The state is what a day leaves for the next: one row per listing that
ever had a price, also of those that had only one.
"""

from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa

MOST_SHOWN = 5
"""How many rises and how many falls are shown."""

# Of ids that are whole numbers; they are texts where the snapshots' are.
STATE_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("first_date", pa.date32()),
        ("first_price", pa.float64()),
        ("last_date", pa.date32()),
        ("last_price", pa.float64()),
    ]
)
SCHEMA = STATE_SCHEMA.append(pa.field("price_change_per_day", pa.float64()))

EPOCH = date(1970, 1, 1)


def empty_state() -> pd.DataFrame:
    """The state before the first snapshot: no listing ever had a price."""
    return state_from_arrow(STATE_SCHEMA.empty_table())


def fold(state: pd.DataFrame, date_: date, rows: pd.DataFrame) -> pd.DataFrame:
    """The state after one more day.

    Args:
        state: as of an earlier date; indexed by `id` in ascending order, with `first_day` and
            `last_day` (days since 1970) and `first_price` and `last_price`.
        date_: the day, later than all in the state.
        rows: the day's snapshot: `id` unique, `price` NaN where there is none.

    Returns:
        A new state. A null price is no price and changes nothing; 0 is a price.
    """
    ids, prices = rows["id"].to_numpy(), rows["price"].to_numpy()
    priced = ~np.isnan(prices)
    ids, prices = ids[priced], prices[priced]
    old_ids = state.index.to_numpy()
    all_ids = _union(old_ids, ids)
    before, today = np.searchsorted(all_ids, old_ids), np.searchsorted(all_ids, ids)
    values: dict[str, np.ndarray] = {}
    for name, of_today in (("day", (date_ - EPOCH).days), ("price", prices)):
        old_first = state[f"first_{name}"].to_numpy()
        # Today's values first, then the old ones over them: a first price stays the first. For the
        # last price it is the other way round.
        first, last = np.empty((2, len(all_ids)), dtype=old_first.dtype)
        first[today] = of_today
        first[before] = old_first
        last[before] = state[f"last_{name}"].to_numpy()
        last[today] = of_today
        values |= {f"first_{name}": first, f"last_{name}": last}
    return pd.DataFrame(
        values, index=pd.Index(all_ids, name="id", dtype=all_ids.dtype), columns=state.columns
    )


def _union(old_ids: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Both, ascending. `old_ids` are so already, and on most days hardly any id is new."""
    if not len(old_ids):
        return np.sort(ids)
    places = np.minimum(np.searchsorted(old_ids, ids), len(old_ids) - 1)
    new = np.sort(ids[old_ids[places] != ids])
    return np.insert(old_ids, np.searchsorted(old_ids, new), new)


def changes(state: pd.DataFrame) -> pd.DataFrame:
    """Every listing with prices on two dates at least, in the order of ids.

    The change per day is (last price - first price) / days between the two.
    """
    days = state["last_day"].to_numpy() - state["first_day"].to_numpy()
    moved = days > 0
    change = (state["last_price"].to_numpy() - state["first_price"].to_numpy())[moved]
    return state[moved].assign(price_change_per_day=change / days[moved])


def biggest_increases(table: pd.DataFrame) -> pd.DataFrame:
    """The five biggest rises, real ones only; equal ones in the order of ids."""
    return _most_negative(table, -table["price_change_per_day"].to_numpy())


def biggest_decreases(table: pd.DataFrame) -> pd.DataFrame:
    """The five biggest falls, real ones only; equal ones in the order of ids."""
    return _most_negative(table, table["price_change_per_day"].to_numpy())


def _most_negative(table: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    order = np.argsort(values, kind="stable")[:MOST_SHOWN]
    return table.iloc[order[values[order] < 0]]


def to_arrow(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """A state or a table of changes as it is stored; its ids are what those of the frame are."""
    ids = pa.int64() if has_numbers(frame) else pa.string()
    schema = schema.set(schema.get_field_index("id"), pa.field("id", ids))
    columns = {
        "id": pa.array(frame.index.to_numpy(), ids),
        "first_date": _dates(frame["first_day"]),
        "first_price": pa.array(frame["first_price"].to_numpy(), pa.float64()),
        "last_date": _dates(frame["last_day"]),
        "last_price": pa.array(frame["last_price"].to_numpy(), pa.float64()),
    }
    if "price_change_per_day" in schema.names:
        change = frame["price_change_per_day"].to_numpy()
        columns["price_change_per_day"] = pa.array(change, pa.float64())
    return pa.table(columns, schema=schema)


def has_numbers(state: pd.DataFrame) -> bool:
    """Whether the ids of a state, or of a table of changes, are whole numbers, and not texts."""
    return state.index.dtype == "int64"


def _dates(days: pd.Series) -> pa.Array:
    return pa.array(days.to_numpy(), pa.int32()).view(pa.date32())


def state_from_arrow(table: pa.Table) -> pd.DataFrame:
    """A stored state as a frame."""
    return pd.DataFrame(
        {
            "first_day": table["first_date"].cast(pa.int32()).to_numpy(),
            "first_price": table["first_price"].to_numpy(),
            "last_day": table["last_date"].cast(pa.int32()).to_numpy(),
            "last_price": table["last_price"].to_numpy(),
        },
        index=pd.Index(
            table["id"].to_numpy(),
            name="id",
            dtype="int64" if table.schema.field("id").type == pa.int64() else "object",
        ),
    )
