"""The source table `listings`: what readers rely on, and what of it may leave the database."""

from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta
from typing import Literal

import dagster as dg
from pydantic import Field

from formats.columns import Column, ColumnDifferences, Retyped
from platform_assets.airbnb.limits import Limits
from platform_assets.errors import PlatformError
from platform_assets.partitions import DAILY
from resources.postgres import (
    Constant,
    DatabaseAccessDeniedError,
    DatabaseRequestError,
    Extract,
    HalfOpen,
    Query,
    Session,
    SourceColumn,
    Table,
    can_cast,
)

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
# What the results are made of: these cannot be left out or hashed, and a table has to have them
# and the day. Others that it lacks are null in the snapshots.
NEEDED = frozenset({"id", "neighbourhood", "room_type", "price"})
_CONTRACT_IDS = frozenset({"id", "host_id"})


class PastDayError(PlatformError):
    """The table says nothing of that day."""


class ColumnNamesError(PlatformError):
    """What is to be left out, pseudonymised or renamed is not in the table, or cannot be."""


class ListingsTable(dg.ConfigurableResource):
    """Which table, and what of it leaves the database in which form."""

    table: str = Field(
        default="listings",
        description="Name of the table, view or materialised view, with or without schema.",
    )
    query: str = Field(
        default="",
        description="A SELECT whose rows are taken in the place of a table's; without a semicolon.",
    )
    columns: dict[str, str] = Field(
        default={},
        description="Names of the table's columns → the names with which they leave.",
    )
    id_type: Literal["int64", "string"] = Field(
        default="int64",
        description="What ids of listings and hosts leave as; texts are ordered by their bytes.",
    )
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
    def source(self) -> Table:
        """What rows are read from.

        Raises:
            resources.postgres.errors.DatabaseRequestError: The query cannot be one SELECT.
        """
        try:
            return Query(self.query) if self.query else self.table
        except DatabaseRequestError as error:
            raise DatabaseRequestError(
                f"{error} Correct PLATFORM_LISTINGS_QUERY, or make a view of it and name that by "
                "PLATFORM_LISTINGS_TABLE."
            ) from None

    @property
    def day(self) -> str:
        """The name with which the column of the day leaves; empty where there is none."""
        return self.columns.get(self.date_column, self.date_column)

    @property
    def contract(self) -> tuple[Column, ...]:
        """What readers rely on, by this table's name for the day."""
        plain = tuple(
            Column(name=column.name, type=self.id_type) if column.name in _CONTRACT_IDS else column
            for column in CONTRACT
            if column.name != DATE_COLUMN
        )
        return (*plain, Column(name=self.day, type="date32")) if self.day else plain

    @property
    def exported_contract(self) -> tuple[Column, ...]:
        """What readers of a snapshot rely on: without what is left out, pseudonyms as text."""
        return tuple(
            Column(name=column.name, type="string") if column.name in self._hashed else column
            for column in self.contract
            if column.name not in self._left_out
        )

    @property
    def _left_out(self) -> set[str]:
        """Names of columns that never leave, by whichever of its two names one is left out."""
        return {*self.leave_out, *(self.columns.get(name, name) for name in self.leave_out)}

    @property
    def _hashed(self) -> set[str]:
        """Likewise of those of which only a hash leaves."""
        return {*self.pseudonymise, *(self.columns.get(name, name) for name in self.pseudonymise)}

    def compare(self, session: Session) -> tuple[tuple[SourceColumn, ...], ColumnDifferences]:
        """The table's columns, and how they differ from the contract.

        A column whose type can be cast to the contract's is as promised; whether its values can
        be, only they tell. What is left out is not compared.

        Raises:
            resources.postgres.errors.TableMissingError: There is no such table.
            ColumnNamesError: What is to be left out, pseudonymised or renamed cannot be.
        """
        columns = session.describe(self.source)
        available = self._leaving(columns)
        promised = {c.name: c for c in self.contract if c.name not in self._left_out}
        lacking = [column for name, column in promised.items() if name not in available]
        needed = {*NEEDED, self.day}
        return columns, ColumnDifferences(
            missing=tuple(column for column in lacking if column.name in needed),
            retyped=tuple(
                Retyped(name, promised[name].type, column.declared)
                for name, column in available.items()
                if name in promised
                and name not in self._hashed
                and column.readable
                and not can_cast(column, promised[name].type)
            ),
            new=tuple(
                Column(name=name, type=column.type)
                for name, column in available.items()
                if name not in promised and column.readable
            ),
            absent=tuple(column for column in lacking if column.name not in needed),
        )

    def where(self, columns: tuple[SourceColumn, ...], date: str) -> dict[str, object]:
        """Which rows are a day's: from midnight to midnight in UTC, where there are times.

        Args:
            columns: The table's, as `compare` gives them.
            date: The day.

        Raises:
            PastDayError: The table has no days, and this one is not the newest: today's rows
                would be written into history.
        """
        if self.day:
            column = self._leaving(columns)[self.day]
            if column.type.startswith("timestamp"):
                next_day = (Date.fromisoformat(date) + timedelta(1)).isoformat()
                return {column.name: HalfOpen(date, next_day)}
            return {column.name: date}
        newest = DAILY.get_last_partition_key()
        if date != newest:
            raise PastDayError(
                f"The table {self.source} has no date column and holds what is now: only {newest}, "
                f"the day that has just ended, can be snapshotted, and not {date}."
            )
        return {}

    def extract(self, columns: tuple[SourceColumn, ...], date: str) -> Extract:
        """A day's rows with every column that may leave, in the order of their ids.

        Columns of the contract leave with its types, those that the table lacks as nulls; further
        ones as they are, if they may be read.

        Raises:
            PastDayError: As `where` does.
            ColumnNamesError: What is to stay in the database is not there, or cannot stay.
            resources.postgres.errors.DatabaseAccessDeniedError: Columns of the contract may not
                be read.
        """
        promised = {column.name: column for column in self.exported_contract}
        available = self._leaving(columns)
        if denied := sorted(
            column.name
            for name, column in available.items()
            if name in promised and not column.readable
        ):
            raise DatabaseAccessDeniedError(
                f"The DSN's user may not read all that is exported of {self.source}: GRANT SELECT "
                f"({', '.join(denied)}) on it, or leave out what is private by PLATFORM_LEAVE_OUT."
            )
        leaving: list[Column] = []
        sources: dict[str, SourceColumn | Constant] = {}
        for name, column in available.items():
            if not column.readable:
                continue
            as_it_is = name not in promised or name in self._hashed
            type_ = column.type if as_it_is else promised[name].type
            leaving.append(Column(name=name, type=type_))
            if name == self.day and type_ != column.type:
                sources[name] = Constant(date)
            elif (name, type_) != (column.name, column.type):
                sources[name] = column
        for name, column in promised.items():
            if name not in available:
                leaving.append(column)
                sources[name] = Constant(None)
        return Extract(
            table=self.source,
            columns=tuple(leaving),
            order_by=("id",),
            where=self.where(columns, date),
            pseudonymised=frozenset(self._hashed.intersection(column.name for column in leaving)),
            sources=sources,
        )

    def days(self, columns: tuple[SourceColumn, ...]) -> Extract | None:
        """The column of the day, of all rows, where it is a text; None where it is none."""
        column = self._leaving(columns)[self.day] if self.day else None
        if column is None or not column.is_text:
            return None
        day = Column(name=self.day, type="date32")
        return Extract(self.source, (day,), (self.day,), sources={self.day: column})

    def content(self, columns: tuple[SourceColumn, ...]) -> tuple[Extract, SourceColumn | None]:
        """All rows with what a snapshot has of them as it is, and the column of the day, if any.

        Pseudonymised columns are not among it: no other digest of them than the keyed one leaves.
        """
        available = {
            name: column
            for name, column in self._leaving(columns).items()
            if column.readable and name not in self._hashed
        }
        content = Extract(
            table=self.source,
            columns=tuple(Column(name=n, type=column.type) for n, column in available.items()),
            order_by=("id",),
            sources=available,
        )
        return content, available[self.day] if self.day else None

    def _leaving(self, columns: tuple[SourceColumn, ...]) -> dict[str, SourceColumn]:
        """The columns that may leave, by the names with which they do."""
        own = [column.name for column in columns]
        names = [self.columns.get(name, name) for name in own]
        if odd := sorted(
            {name for name in self.columns if name not in own}
            | {name for name in names if names.count(name) > 1}
        ):
            raise ColumnNamesError(
                f"{', '.join(odd)} cannot be renamed: {self.source} has no such column, or another "
                "one leaves with this name. Correct PLATFORM_LISTINGS_COLUMNS."
            )
        hidden = [*self.leave_out, *self.pseudonymise]
        kept = {*NEEDED, self.day}
        if wrong := sorted(kept & (self._left_out | self._hashed)):
            raise ColumnNamesError(
                f"The results are made of {', '.join(wrong)}: these columns cannot be "
                "left out or pseudonymised. Correct PLATFORM_LEAVE_OUT or PLATFORM_PSEUDONYMISE."
            )
        # One that readers know and this table never had cannot be misspelt.
        known = {*own, *names, *(column.name for column in CONTRACT)}
        if unknown := sorted({n for n in hidden if n not in known or hidden.count(n) > 1}):
            raise ColumnNamesError(
                f"{', '.join(unknown)} cannot be left out or pseudonymised: the table "
                f"{self.source} has no such column, or it is named twice. Correct "
                "PLATFORM_LEAVE_OUT or PLATFORM_PSEUDONYMISE."
            )
        leaving = zip(names, columns, strict=True)
        return {name: column for name, column in leaving if name not in self._left_out}


def id_columns(extract: Extract) -> frozenset[str]:
    """The columns with ids of anything, by the names with which they leave.

    Whole numbers or texts that are called `id` or `…_id`, in the table or as they leave.
    """
    names = {
        column.name: (column.name, getattr(extract.sources.get(column.name), "name", column.name))
        for column in extract.columns
        if column.type in ("int64", "string") or column.type.endswith(", 0)")
    }
    return frozenset(
        leaving for leaving, both in names.items() if any(f"_{n}".endswith("_id") for n in both)
    )
