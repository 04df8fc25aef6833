"""Columns of a table or file by name and type, and the differences between two lists of them.

Types carry Arrow's names, so that a table in Postgres, a CSV and a Parquet file can be compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: its name and its type as Arrow calls it (int64, double, string, date32, …)."""

    name: str
    type: str


@dataclass(frozen=True)
class Retyped:
    """A column whose type is not the expected one."""

    name: str
    expected: str
    actual: str


@dataclass(frozen=True)
class ColumnDifferences:
    """How a table's columns differ from those expected of it; their order does not count.

    Attributes:
        missing: expected columns that the table lacks, with the expected type.
        retyped: columns of another type than expected.
        new: columns that were not expected.
        absent: expected columns that the table lacks, which readers get as nulls.
    """

    missing: tuple[Column, ...]
    retyped: tuple[Retyped, ...]
    new: tuple[Column, ...]
    absent: tuple[Column, ...] = ()

    @property
    def breaking(self) -> bool:
        """True if what was promised to readers is broken; what is new or null breaks nothing."""
        return bool(self.missing or self.retyped)

    def describe(self) -> str:
        """The differences in one line; "as expected" where there are none."""
        parts = [f"column {c.name} ({c.type}) is missing" for c in self.missing]
        parts += [f"column {r.name} is {r.actual} instead of {r.expected}" for r in self.retyped]
        parts += [f"column {c.name} ({c.type}) is new" for c in self.new]
        parts += [f"column {c.name} ({c.type}) is not there, and null" for c in self.absent]
        return "; ".join(parts) or "as expected"


def compare_columns(expected: Iterable[Column], actual: Iterable[Column]) -> ColumnDifferences:
    """Compares a table's columns with the contract its readers rely on.

    Args:
        expected: what readers rely on.
        actual: the table's columns.

    Returns:
        What is missing, retyped or new, in the order of the list that names it.
    """
    required = {column.name: column for column in expected}
    present = {column.name: column for column in actual}
    return ColumnDifferences(
        missing=tuple(column for name, column in required.items() if name not in present),
        retyped=tuple(
            Retyped(name, column.type, present[name].type)
            for name, column in required.items()
            if name in present and present[name].type != column.type
        ),
        new=tuple(column for name, column in present.items() if name not in required),
    )
