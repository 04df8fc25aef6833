"""The limits of a day that is published, and their defaults; a setting may change each.

What is compared with them stands in `quality.py`.
"""

from typing import Annotated

import dagster as dg
from pydantic import ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Limits(dg.Config):
    """From where on a day is odd (a warning), and from where on it is not published."""

    # A limit with a misspelt name would hold nowhere.
    model_config = ConfigDict(extra="forbid")

    null_prices_warn: Share = Field(
        default=0.5, description="Share of rows without a price that is odd."
    )
    null_prices_block: Share = Field(
        default=0.9, description="Share of rows without a price that stops the day."
    )
    null_keys_warn: Share = Field(
        default=0,
        description=(
            "Share of rows that lack a value of a required column (of the listings: the "
            "neighbourhood or the room type) that is odd."
        ),
    )
    null_keys_block: Share = Field(
        default=0.05,
        description="Share of rows that lack a value of a required column that stops the day.",
    )
    negative_prices_warn: Share = Field(
        default=0, description="Share of prices below 0 that is odd."
    )
    negative_prices_block: Share = Field(
        default=0, description="Share of prices below 0 that stops the day."
    )
    lost_values_warn: Share = Field(
        default=0,
        description="Share of a column's values without a place in its type that is odd.",
    )
    lost_values_block: Share = Field(
        default=0,
        description=(
            "Share of a column's values without a place in its type that stops the day; such as "
            "are let through are null."
        ),
    )
    rounded_ids_warn: Share = Field(
        default=0.05,
        description="Share of a column's ids beyond 2**53 that look rounded which is odd.",
    )
    rounded_ids_block: Share = Field(
        default=0.1,
        description="Share of a column's ids beyond 2**53 that look rounded which stops the day.",
    )
    price_warn: float = Field(default=200_000, gt=0, description="A price that is odd.")
    price_block: float = Field(default=10_000_000, gt=0, description="A price that stops the day.")
    drift_warn: float = Field(
        default=3,
        gt=0,
        description="Robust standard deviations from the trailing days' median that are odd.",
    )
    drift_block: float = Field(
        default=10,
        gt=0,
        description="Robust standard deviations from the trailing days' median that stop the day.",
    )
    drift_days: int = Field(
        default=28, ge=1, description="How many days before the day it is compared with."
    )
    drift_least_days: int = Field(
        default=7, ge=1, description="How many of these must have rows for a comparison."
    )
