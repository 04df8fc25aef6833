"""A table of which snapshots are taken: what readers rely on, and what of it may leave."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta
from typing import Literal

import dagster as dg
from pydantic import Field

from formats.columns import Column, ColumnDifferences, Retyped
from platform_assets.errors import PlatformError
from platform_assets.partitions import DAILY
from platform_assets.reports import table_schema
from platform_assets.tables.limits import Limits
from resources.postgres import (
    Constant,
    DatabaseAccessDeniedError,
    DatabaseRequestError,
    Extract,
    HalfOpen,
    Profile,
    Query,
    Session,
    SourceColumn,
    Table,
    can_cast,
)
from resources.s3 import Folder, Manifest, ObjectStore


@dataclass(frozen=True)
class Rules:
    """What the rows of a snapshot must be like, and what its checks say to do about odd ones.

    Attributes:
        key: The column that each row has another value of, as it leaves; rows are in its order.
        needed: The columns that a table has to have, beside the day.
        required: Those of which few rows may lack a value.
        measure: The column of numbers that is judged by its range and its median; None for none.
        resource: Key of the table's resource, whose limits a run may change.
        columns_setting: Where names of columns are mapped.
        key_remedy: What to do where the keys are no numbers, as a sentence.
        usual: The limits of a run that has none of its own: what they would have stopped is marked.
    """

    key: str
    needed: frozenset[str]
    required: frozenset[str]
    measure: str | None
    resource: str
    columns_setting: str
    key_remedy: str
    usual: Limits = field(default_factory=Limits)


class PastDayError(PlatformError):
    """The table says nothing of that day."""


class ColumnNamesError(PlatformError):
    """What is to be left out, pseudonymised or renamed is not in the table, or cannot be."""


class SourceTable(dg.ConfigurableResource):
    """Which table, and what of it leaves the database in which form.

    A subclass says what readers rely on, and where its snapshots stand.
    """

    table: str = Field(
        default="",
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
    date_column: str = Field(
        default="",
        description=(
            "Column with the day of each row; empty where the table has none and holds what is "
            "now. Then only the newest day can be snapshotted."
        ),
    )
    format: Literal["csv", "csv.gz", "parquet"] = Field(
        default="parquet", description="Format of the snapshots."
    )
    leave_out: list[str] = Field(default=[], description="Columns that never leave the database.")
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
    @abstractmethod
    def rules(self) -> Rules:
        """What the rows must be like."""

    @property
    @abstractmethod
    def promised(self) -> tuple[Column, ...]:
        """What readers rely on, beside the day."""

    @property
    @abstractmethod
    def asset(self) -> str:
        """The asset that is made of it, "airbnb/snapshot" for instance."""

    @abstractmethod
    def folder(self, store: ObjectStore, date: str) -> Folder:
        """Where a date's snapshot stands."""

    @property
    @abstractmethod
    def file(self) -> str:
        """The name of the file in it."""

    @property
    def descriptions(self) -> Mapping[str, str]:
        """Column → a line of text, with its unit."""
        return {}

    @abstractmethod
    def setting(self, field: str) -> str:
        """How whoever runs the platform calls a field of this."""

    def describe(self, manifest: Manifest, profile: Profile) -> dict[str, object]:
        """What a snapshot is in figures; Dagster plots those that are numbers over the dates."""
        values = manifest.rows * len(profile.nulls)
        medians = {}
        if profile.median is not None:
            medians[f"median_{self.rules.measure}"] = float(profile.median)
        return {
            "dagster/partition_row_count": manifest.rows,
            **({"null_share": sum(profile.nulls.values()) / values} if values else {}),
            **medians,
            "dagster/column_schema": table_schema(manifest.columns, self.descriptions),
            "bytes": manifest.size,
            **({} if manifest.rows else {"empty": "The table has no rows of this day."}),
        }

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
                f"{error} Correct {self.setting('query')}, or make a view of it and name that by "
                f"{self.setting('table')}."
            ) from None

    @property
    def day(self) -> str:
        """The name with which the column of the day leaves; empty where there is none."""
        return self.columns.get(self.date_column, self.date_column)

    @property
    def contract(self) -> tuple[Column, ...]:
        """What readers rely on, by this table's name for the day."""
        day = (Column(name=self.day, type="date32"),) if self.day else ()
        return (*self.promised, *day)

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
        needed = {*self.rules.needed, self.day}
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
                f"({', '.join(denied)}) on it, or leave out what is private by "
                f"{self.setting('leave_out')}."
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
            order_by=(self.rules.key,),
            where=self.where(columns, date),
            pseudonymised=frozenset(self._hashed.intersection(column.name for column in leaving)),
            sources=sources,
        )

    def days(self, columns: tuple[SourceColumn, ...]) -> Extract | None:
        """Reads the day column of all rows; None unless the table stores days as text."""
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
            order_by=(self.rules.key,),
            sources=available,
        )
        return content, available[self.day] if self.day else None

    def _leaving(self, columns: tuple[SourceColumn, ...]) -> dict[str, SourceColumn]:
        """The columns that may leave, by the names with which they do."""
        table_names = [column.name for column in columns]
        names = [self.columns.get(name, name) for name in table_names]
        if odd := sorted(
            {name for name in self.columns if name not in table_names}
            | {name for name in names if names.count(name) > 1}
        ):
            raise ColumnNamesError(
                f"{', '.join(odd)} cannot be renamed: {self.source} has no such column, or another "
                f"one leaves with this name. Correct {self.setting('columns')}."
            )
        hidden = [*self.leave_out, *self.pseudonymise]
        kept = {*self.rules.needed, self.day}
        if wrong := sorted(kept & (self._left_out | self._hashed)):
            raise ColumnNamesError(
                f"The results are made of {', '.join(wrong)}: these columns cannot be "
                f"left out or pseudonymised. Correct {self.setting('leave_out')} or "
                f"{self.setting('pseudonymise')}."
            )
        # One that readers know and this table never had cannot be misspelt.
        known = {*table_names, *names, *(column.name for column in self.contract)}
        if unknown := sorted({n for n in hidden if n not in known or hidden.count(n) > 1}):
            raise ColumnNamesError(
                f"{', '.join(unknown)} cannot be left out or pseudonymised: the table "
                f"{self.source} has no such column, or it is named twice. Correct "
                f"{self.setting('leave_out')} or {self.setting('pseudonymise')}."
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
