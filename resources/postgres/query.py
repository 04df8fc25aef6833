"""Which rows and columns of a table leave the database, as SQL.

Only builds statements; `session.py` and `export.py` run them. Names become
identifiers and values literals by `psycopg2.sql`, which is how psycopg2 binds parameters too
(COPY takes none on the server's side): no text is ever pasted into SQL.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2 import sql

from formats.columns import Column
from resources.postgres.casts import PLAIN_TYPES, POSTGRES_TYPES, Cast, SourceColumn, cast
from resources.postgres.errors import DatabaseRequestError

# The key's two HMAC blocks reach the database as settings of the connection (see `key_settings`).
_INNER_SETTING = "platform.pseudonym_inner"
_OUTER_SETTING = "platform.pseudonym_outer"
_SHA256_BLOCK = 64
# Behind comments and brackets.
_SELECT = re.compile(r"(?>\s|--.*\n|/\*(?s:.*?)\*/|\()*(select|with)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Query:
    """One SELECT in the place of a table, as whoever runs the platform has written it."""

    text: str

    def __post_init__(self) -> None:
        """Refuses what cannot be one SELECT: it becomes a part of other statements.

        Raises:
            DatabaseRequestError: it begins otherwise, or has a semicolon.
        """
        if ";" in self.text or not _SELECT.match(self.text):
            raise DatabaseRequestError(
                "A query in the place of a table has to be one SELECT without a semicolon, not "
                "even in a literal or a comment (chr(59) gives one)."
            )

    def __str__(self) -> str:
        """As messages name it."""
        return "(a query)"


@dataclass(frozen=True)
class Constant:
    """What stands in all rows of a column that the table does not have; None for nulls."""

    value: object


@dataclass(frozen=True)
class HalfOpen:
    """A range of a column's values, the upper bound excluded."""

    low: object
    high: object


Table = str | Query


@dataclass(frozen=True)
class Extract:
    """A part of a table.

    Attributes:
        table: its name, "listings" or "schema.listings", or a query.
        columns: the columns that leave the database, in this order; leave out what is to stay.
        order_by: names of the key's columns as they leave, so that the same rows come in the same
            order: that of numbers, or of the bytes of text.
        where: column of the table → the value it must have, or a `HalfOpen` range; empty for all
            rows.
        pseudonymised: names of columns of which only a keyed hash leaves the database:
            HMAC-SHA256 of the value's text in hexadecimal, null for null.
        sources: what columns are made of that leave with another name or type than the table's.
            The others are the columns of these names.
    """

    table: Table
    columns: tuple[Column, ...]
    order_by: tuple[str, ...]
    where: Mapping[str, object] = field(default_factory=dict[str, object])
    pseudonymised: frozenset[str] = frozenset()
    sources: Mapping[str, SourceColumn | Constant] = field(
        default_factory=dict[str, SourceColumn | Constant]
    )

    def __post_init__(self) -> None:
        """Refuses an extract that would be empty of columns, unordered, or not pseudonymised."""
        if not self.columns or not self.order_by:
            raise ValueError(f"An extract of {self.table} needs columns and a key to order by.")
        unknown = self.pseudonymised.difference(column.name for column in self.columns)
        if unknown:
            raise ValueError(
                f"{', '.join(sorted(unknown))} of {self.table} cannot be pseudonymised: the "
                "extract has no such column. Correct the name."
            )

    @property
    def exported_columns(self) -> tuple[Column, ...]:
        """The columns as they leave: a pseudonym is a string whatever it was made of."""
        return tuple(
            Column(name=column.name, type="string") if column.name in self.pseudonymised else column
            for column in self.columns
        )


def relation(table: Table) -> sql.Composable:
    """What stands behind FROM: a name, with its schema if it has one, quoted; or a query."""
    if isinstance(table, Query):
        return sql.SQL("({}\n)").format(sql.SQL(table.text))
    return sql.Identifier(*table.split("."))


def select_rows(extract: Extract) -> sql.Composed:
    """SELECT of an extract's rows, ordered by its key."""
    return sql.SQL("select {columns} from {table} as t{where} order by {order}").format(
        columns=sql.SQL(", ").join(_expression(extract, column) for column in extract.columns),
        table=relation(extract.table),
        where=where_clause(extract.where),
        order=sql.SQL(", ").join(key_of(extract)),
    )


def key_of(extract: Extract) -> list[sql.Composable]:
    """The expressions that an extract is ordered by: numbers as such, all text by its bytes."""
    types = {column.name: column.type for column in extract.exported_columns}
    by_bytes = sql.SQL('{}::text collate "C"')
    values = {name: cast_of(extract, name).value for name in extract.order_by}
    return [
        by_bytes.format(value) if types.get(name) == "string" else value
        for name, value in values.items()
    ]


def cast_of(extract: Extract, name: str) -> Cast:
    """What a column is made of, by the name and of the type with which it leaves.

    Qualified: an unqualified name in ORDER BY would mean what is selected, not the table's column.
    """
    source = extract.sources.get(name)
    if source is None:
        return Cast(sql.Identifier("t", name))
    (type_,) = (column.type for column in extract.columns if column.name == name)
    if isinstance(source, Constant):
        kind = sql.SQL(POSTGRES_TYPES[type_])
        return Cast(sql.SQL("{}::{}").format(sql.Literal(source.value), kind))
    if type_ == source.type or name in extract.pseudonymised:
        return Cast(sql.Identifier("t", source.name))
    return cast(source, type_)


def count_rows(table: Table, where: Mapping[str, object]) -> sql.Composed:
    """SELECT of the number of rows."""
    return sql.SQL("select count(*) from {table} as t{where}").format(
        table=relation(table), where=where_clause(where)
    )


def select_lost(extract: Extract, name: str) -> sql.Composed:
    """SELECT of one value of a column that its cast would change or cannot take."""
    source, lossless_if = extract.sources[name], cast_of(extract, name).lossless_if
    if not isinstance(source, SourceColumn) or lossless_if is None:
        raise ValueError(f"Nothing is lost of column {name}.")
    value = sql.Identifier("t", source.name)
    return sql.SQL(
        "select {value}::text from {table} as t{where} {and_} {value} is not null "
        "and not {lossless_if} limit 1"
    ).format(
        value=value,
        table=relation(extract.table),
        where=where_clause(extract.where),
        and_=sql.SQL("and" if extract.where else "where"),
        lossless_if=lossless_if,
    )


def copy_as_csv(select: sql.Composed, *, header: bool) -> sql.Composed:
    """COPY of a SELECT: UTF-8, null as nothing and the empty string as two quotes."""
    return sql.SQL("copy ({}) to stdout (format csv, header {}, encoding 'UTF8')").format(
        select, sql.Literal(header)
    )


def key_settings(key: str) -> dict[str, str]:
    """The settings of a connection that let it compute pseudonyms under `key`.

    They go with the connection's start, so that the key is part of no statement: statements show
    in pg_stat_activity and in the server's log.
    """
    secret = key.encode()
    if len(secret) > _SHA256_BLOCK:
        secret = hashlib.sha256(secret).digest()
    block = secret.ljust(_SHA256_BLOCK, b"\0")
    return {
        _INNER_SETTING: bytes(byte ^ 0x36 for byte in block).hex(),
        _OUTER_SETTING: bytes(byte ^ 0x5C for byte in block).hex(),
    }


def _expression(extract: Extract, column: Column) -> sql.Composed:
    value = cast_of(extract, column.name).value
    if column.name in extract.pseudonymised:
        # HMAC by its definition (RFC 2104). The subselects are evaluated once, not for each row.
        form = (
            "encode(sha256((select decode(current_setting({outer}), 'hex')) || "
            "sha256((select decode(current_setting({inner}), 'hex')) || "
            "convert_to({value}::text, 'UTF8'))), 'hex') as {name}"
        )
    elif column.type in PLAIN_TYPES or isinstance(extract.sources.get(column.name), Constant):
        form = "{value} as {name}"
    else:
        form = "{value}::text as {name}"
    return sql.SQL(form).format(
        value=value,
        name=sql.Identifier(column.name),
        inner=sql.Literal(_INNER_SETTING),
        outer=sql.Literal(_OUTER_SETTING),
    )


def where_clause(conditions: Mapping[str, object]) -> sql.Composable:
    """WHERE of columns that must have these values; nothing where there are no conditions."""
    if not conditions:
        return sql.SQL("")
    return sql.SQL(" where {}").format(
        sql.SQL(" and ").join(
            _condition(sql.Identifier("t", name), value) for name, value in conditions.items()
        )
    )


def _condition(column: sql.Composable, value: object) -> sql.Composable:
    if isinstance(value, HalfOpen):
        bounds = (sql.Literal(value.low), sql.Literal(value.high))
        return sql.SQL("{0} >= {1} and {0} < {2}").format(column, *bounds)
    return sql.SQL("{} = {}").format(column, sql.Literal(value))
