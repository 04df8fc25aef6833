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
        """
        hidden = {*NEEDED, self.date_column}.intersection([*self.leave_out, *self.pseudonymise])
        if hidden:
            raise ValueError(
                f"The results are made of {', '.join(sorted(hidden))}: these columns cannot be "
                "left out or pseudonymised."
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
