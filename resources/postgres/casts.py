"""From a column's type in Postgres to its Arrow type, in Parquet and CSV alike.

`_ARROW_TYPES` and `SourceColumn.type` are the table of supported types; all others become text.
A column can also be cast to another type (`can_cast`, `cast`). Only builds SQL. A cast never fails
in the database: a value that it would change or cannot take becomes null there, and `lossless_if`
is false for it, so that whoever exports can refuse it by name.
"""

from dataclasses import dataclass

from psycopg2 import sql

_ARROW_TYPES = {
    "smallint": "int64",
    "integer": "int64",
    "bigint": "int64",
    "real": "double",
    "double precision": "double",
    "date": "date32",
    "boolean": "bool",
    "timestamp without time zone": "timestamp[us]",
    "timestamp with time zone": "timestamp[us, tz=UTC]",
}
# Types that leave the database as they are; everything else leaves as its text.
PLAIN_TYPES = frozenset(_ARROW_TYPES.values())
POSTGRES_TYPES = {
    "int64": "bigint",
    "double": "double precision",
    "date32": "date",
    "string": "text",
}
"""The type of Postgres for a constant, by Arrow's name, and the target of a cast."""

_STRINGS, _ENUMS = "S", "E"  # pg_type.typcategory
_NUMBER_TYPES = frozenset({"smallint", "integer", "bigint", "real", "double precision", "money"})
_TIMESTAMPS = frozenset({"timestamp without time zone", "timestamp with time zone"})
_LARGEST_EXACT = sql.SQL("9007199254740992")  # 2**53: a double has all whole numbers up to it
_LARGEST_EXACT_REAL = sql.SQL("16777216")  # 2**24
_WHOLE = r"^\s*[-+]?[0-9]{1,200}(\.0{0,200})?\s*$"
_NUMBER = r"^\s*[-+]?([0-9]{1,200}(\.[0-9]{0,200})?|\.[0-9]{1,200})([eE][-+]?[0-9]{1,2})?\s*$"
_DAY = r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


@dataclass(frozen=True)
class SourceColumn:
    """A column of a table, a view or a query.

    Attributes:
        name: Its name there.
        declared: Its type as Postgres spells it, that of domains being what they are made of.
        category: The type's `typcategory` in Postgres: "S" for strings, "E" for enums, …
        readable: Whether the user may read it.
    """

    name: str
    declared: str
    category: str = ""
    readable: bool = True

    @property
    def type(self) -> str:
        """Arrow's name for the type that it has as it is.

        All integers are int64 and all floats double: a column that is widened changes nothing for
        readers. A real becomes the double of its text in every format: 0.1, not
        0.10000000149011612. numeric(p, s) is decimal128(p, s); what has no equal in a file is its
        text.
        """
        if self.declared.startswith("numeric("):
            precision, scale = self.declared[len("numeric(") : -1].split(",")
            if 0 <= int(scale) <= int(precision) <= 38:
                return f"decimal128({precision}, {scale})"
        return _ARROW_TYPES.get(self.declared, "string")

    @property
    def is_text(self) -> bool:
        """Whether its values are texts: of any string type, or labels of an enum."""
        return self.category in (_STRINGS, _ENUMS)


@dataclass(frozen=True)
class Cast:
    """How a column's values become another type's.

    Attributes:
        value: The expression of the cast; null where something would be lost.
        lossless_if: The condition that nothing is lost of a value that is not null; None where
            nothing ever is.
    """

    value: sql.Composable
    lossless_if: sql.Composable | None = None


def can_cast(source: SourceColumn, type_: str) -> bool:
    """Whether there are values of the column that can be cast to a type, by Arrow's name."""
    if type_ in (source.type, "string"):
        return True
    if type_ in ("int64", "double"):
        return _is_number(source) or source.is_text
    return type_ == "date32" and (source.declared in _TIMESTAMPS or source.is_text)


def cast(source: SourceColumn, type_: str) -> Cast:
    """The cast of a column (of the table `t`) to a type for which `can_cast` holds.

    - int64: of whole numbers within its range; of floats only as far as these have all of them,
      up to 2**53, or 2**24 of a real.
    - double: of numbers whose whole digits it has, all up to 2**53. Of a fraction it has 15
      significant digits; those behind them are rounded to the nearest double.
    - date32: of timestamps at midnight (UTC), and of texts like 2026-11-26.
    - string: of everything, as Postgres prints it.
    """
    value = sql.Identifier("t", source.name)
    if type_ == "string":
        return Cast(sql.SQL("{}::text").format(value))
    if type_ == "date32":
        return _guarded(*_date(source, value))
    if source.is_text:
        text = sql.SQL("{}::text").format(value)
        form = sql.SQL("{} ~ {}").format(text, sql.Literal(_WHOLE if type_ == "int64" else _NUMBER))
        # Not `and`: that is evaluated in any order, and what is no number cannot be cast to one.
        inner = _number(sql.SQL("{}::numeric").format(text), "numeric", type_)
        condition = sql.SQL("case when {} then {} else false end").format(
            form, inner.lossless_if or _TRUE
        )
        return _guarded(inner.value, condition)
    declared = "numeric" if source.declared == "money" else source.declared
    number = sql.SQL("{}::numeric").format(value) if source.declared == "money" else value
    inner = _number(number, declared, type_)
    return inner if inner.lossless_if is None else _guarded(inner.value, inner.lossless_if)


_TRUE = sql.SQL("true")


def _guarded(value: sql.Composable, condition: sql.Composable) -> Cast:
    condition = sql.SQL("({})").format(condition)
    return Cast(sql.SQL("case when {} then {} end").format(condition, value), condition)


def _number(value: sql.Composable, declared: str, type_: str) -> Cast:
    """A number of a declared type as int64 or double; the value is not yet guarded."""
    number = sql.SQL("({}::{})").format(value, sql.SQL(POSTGRES_TYPES[type_]))
    if type_ == "double":
        if declared in ("smallint", "integer"):
            return Cast(number)
        form = "{value} between -{largest} and {largest}"
    elif declared in ("real", "double precision"):
        form = "{value} between -{largest} and {largest} and {value} = trunc({value})"
    else:
        form = (
            "{value} between -9223372036854775808 and 9223372036854775807"
            " and {value} = trunc({value})"
        )
    real = declared == "real" and type_ == "int64"
    largest = _LARGEST_EXACT_REAL if real else _LARGEST_EXACT
    return Cast(number, sql.SQL(form).format(value=value, largest=largest))


def _date(source: SourceColumn, value: sql.Composable) -> tuple[sql.Composable, sql.Composable]:
    if source.is_text:
        text = sql.SQL("{}::text").format(value)
        # The month's last day, since a cast of one after it would fail.
        condition = sql.SQL(
            "case when {text} ~ {form} then substr({text}, 9)::int <= extract(day from"
            " (substr({text}, 1, 8) || '01')::date + interval '1 month' - interval '1 day')"
            " else false end"
        ).format(text=text, form=sql.Literal(_DAY))
        return sql.SQL("{}::date").format(text), condition
    if source.declared == "timestamp with time zone":
        value = sql.SQL("({} at time zone 'UTC')").format(value)
    condition = sql.SQL("isfinite({value}) and {value} = date_trunc('day', {value})").format(
        value=value
    )
    return sql.SQL("{}::date").format(value), condition


def _is_number(source: SourceColumn) -> bool:
    return source.declared in _NUMBER_TYPES or source.declared.startswith("numeric")
