"""The source table `listings`: what readers rely on, and what of it may leave the database."""

from typing import Literal

import dagster as dg
from pydantic import Field

from platform_assets.partitions import DAILY
from resources.columns import Column, ColumnDifferences, compare_columns
from resources.postgres import Session
from resources.postgres_query import Extract

DATE_COLUMN = "download_date"
# The columns that Inside Airbnb's summary files have had since 2018, and the day of the download.
# Later files have more; those are taken along as they come.
CONTRACT = (
    Column(name="id", type="int64"),
    Column(name="name", type="string"),
    Column(name="host_id", type="int64"),
    Column(name="host_name", type="string"),
    Column(name="neighbourhood_group", type="string"),
    Column(name="neighbourhood", type="string"),
    Column(name="latitude", type="double"),
    Column(name="longitude", type="double"),
    Column(name="room_type", type="string"),
    Column(name="price", type="double"),
    Column(name="minimum_nights", type="int64"),
    Column(name="number_of_reviews", type="int64"),
    Column(name="last_review", type="date32"),
    Column(name="reviews_per_month", type="double"),
    Column(name="calculated_host_listings_count", type="int64"),
    Column(name="availability_365", type="int64"),
    Column(name=DATE_COLUMN, type="date32"),
)
# What the results are made of: these cannot be left out or hashed.
NEEDED = frozenset({"id", "neighbourhood", "room_type", "price"})


class PastDayError(Exception):
    """The table says nothing of that day."""


class ColumnNamesError(Exception):
    """What is to be left out or pseudonymised is not in the table, or cannot be."""


class Limits(dg.Config):
    """From where on a day is odd (a warning), and from where on it is not published."""

    null_prices_warn: float = Field(
        default=0.5, ge=0, le=1, description="Share of rows without a price that is odd."
    )
    null_prices_block: float = Field(
        default=0.9, ge=0, le=1, description="Share of rows without a price that stops the day."
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
        default=7, ge=1, description="How many of these must have listings for a comparison."
    )


class ListingsTable(dg.ConfigurableResource):
    """Which table, and what of it leaves the database in which form."""

    table: str = Field(default="listings", description="Name of the table, with or without schema.")
    date_column: str = Field(
        default=DATE_COLUMN,
        description=(
            "Column with the day of each row; empty where the table has none and holds what is "
            "now. Then only the newest day can be snapshotted."
        ),
    )
    format: Literal["csv", "csv.gz", "parquet"] = Field(
        default="parquet", description="Format of the snapshots."
    )
    leave_out: list[str] = Field(
        default=["host_name"], description="Columns that never leave the database."
    )
    pseudonymise: list[str] = Field(
        default=[],
        description="Columns of which only a keyed hash leaves it; needs PLATFORM_PSEUDONYM_KEY.",
    )
    connections: int = Field(
        default=2,
        ge=1,
        description=(
            "Connections to the database that a run may have: so many dates of a range are "
            "exported and checked at a time, which pays the more the farther the store is away. "
            "A date by itself is counted over a second one."
        ),
    )
    limits: Limits = Field(
        default_factory=Limits,
        description="Of a day that is published; a run may have others to let a day through.",
    )

    @property
    def contract(self) -> tuple[Column, ...]:
        """What readers rely on, by this table's name for the day."""
        plain = tuple(column for column in CONTRACT if column.name != DATE_COLUMN)
        return (*plain, Column(name=self.date_column, type="date32")) if self.date_column else plain

    @property
    def exported_contract(self) -> tuple[Column, ...]:
        """What readers of a snapshot rely on: without what is left out, pseudonyms as text."""
        return tuple(
            Column(name=column.name, type="string") if column.name in self.pseudonymise else column
            for column in self.contract
            if column.name not in self.leave_out
        )

    def compare(self, session: Session) -> tuple[tuple[Column, ...], ColumnDifferences]:
        """The table's columns, and how they differ from the contract.

        Raises:
            resources.postgres_errors.TableMissingError: There is no such table.
        """
        columns = session.table_columns(self.table)
        return columns, compare_columns(self.contract, columns)

    def where(self, date: str) -> dict[str, object]:
        """Which rows are a day's.

        Raises:
            PastDayError: The table has no days, and this one is not the newest: today's rows
                would be written into history.
        """
        if self.date_column:
            return {self.date_column: date}
        newest = DAILY.get_last_partition_key()
        if date != newest:
            raise PastDayError(
                f"The table {self.table} has no date column and holds what is now: only {newest}, "
                f"the day that has just ended, can be snapshotted, and not {date}."
            )
        return {}

    def extract(self, columns: tuple[Column, ...], date: str) -> Extract:
        """A day's rows with every column that may leave, in the order of their ids.

        Raises:
            PastDayError: As `where` does.
            ColumnNamesError: What is to stay in the database is not there, or cannot stay.
        """
        names = [*self.leave_out, *self.pseudonymise]
        if hidden := {*NEEDED, self.date_column}.intersection(names):
            raise ColumnNamesError(
                f"The results are made of {', '.join(sorted(hidden))}: these columns cannot be "
                "left out or pseudonymised. Correct PLATFORM_LEAVE_OUT or PLATFORM_PSEUDONYMISE."
            )
        there = {column.name for column in columns}
        if unknown := sorted(
            {name for name in names if name not in there or names.count(name) > 1}
        ):
            raise ColumnNamesError(
                f"{', '.join(unknown)} cannot be left out or pseudonymised: the table {self.table} "
                "has no such column, or it is named twice. Correct PLATFORM_LEAVE_OUT or "
                "PLATFORM_PSEUDONYMISE."
            )
        return Extract(
            table=self.table,
            columns=tuple(column for column in columns if column.name not in self.leave_out),
            order_by=("id",),
            where=self.where(date),
            pseudonymised=frozenset(self.pseudonymise),
        )


listings = dg.AssetSpec(
    key=["airbnb", "listings"],
    group_name="airbnb",
    kinds={"postgres", "table"},
    owners=["team:data-engineering"],
    description="Listings as downloaded, a row for each listing and day; filled from outside.",
    metadata={
        "dagster/table_name": "listings",
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(column.name, column.type) for column in CONTRACT]
        ),
    },
)
