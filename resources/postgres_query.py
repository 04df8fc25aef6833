"""Which rows and columns of a table leave the database, as SQL.

Only builds statements; who runs them is `postgres.py` and `postgres_export.py`. Names become
identifiers and values literals by `psycopg2.sql`, which is how psycopg2 binds parameters too
(COPY takes none on the server's side): no text is ever pasted into SQL.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from psycopg2 import sql

from resources.columns import Column

# The key's two HMAC blocks reach the database as settings of the connection (see `key_settings`).
_INNER_SETTING = "platform.pseudonym_inner"
_OUTER_SETTING = "platform.pseudonym_outer"
_SHA256_BLOCK = 64

COLUMNS_OF_TABLE = """
    select a.attname, format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid),
                                  case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end)
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = to_regclass({table}) and a.attnum > 0 and not a.attisdropped
    order by a.attnum
"""
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
_PLAIN_TYPES = frozenset(_ARROW_TYPES.values())


@dataclass(frozen=True)
class Extract:
    """A part of a table.

    Attributes:
        table: its name, "listings" or "schema.listings".
        columns: the columns that leave the database, in this order; leave out what is to stay.
        order_by: names of the key's columns, so that the same rows come in the same order.
        where: column → the value it must have; empty for all rows.
        pseudonymised: names of columns of which only a keyed hash leaves the database:
            HMAC-SHA256 of the value's text in hexadecimal, null for null.
    """

    table: str
    columns: tuple[Column, ...]
    order_by: tuple[str, ...]
    where: Mapping[str, object] = field(default_factory=dict[str, object])
    pseudonymised: frozenset[str] = frozenset()

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


def table_name(table: str) -> sql.Identifier:
    """A table's name, with its schema if it has one, quoted."""
    return sql.Identifier(*table.split("."))


def select_rows(extract: Extract) -> sql.Composed:
    """SELECT of an extract's rows, ordered by its key."""
    # Qualified: an unqualified name in ORDER BY would mean the pseudonym, not the column.
    order = sql.SQL(", ").join(sql.Identifier("t", name) for name in extract.order_by)
    return sql.SQL("select {columns} from {table} as t{where} order by {order}").format(
        columns=sql.SQL(", ").join(_expression(extract, column) for column in extract.columns),
        table=table_name(extract.table),
        where=where_clause(extract.where),
        order=order,
    )


def count_rows(table: str, where: Mapping[str, object]) -> sql.Composed:
    """SELECT of the number of rows."""
    return sql.SQL("select count(*) from {table} as t{where}").format(
        table=table_name(table), where=where_clause(where)
    )


def copy_as_csv(select: sql.Composed, *, header: bool) -> sql.Composed:
    """COPY of a SELECT: UTF-8, null as nothing and the empty string as two quotes."""
    return sql.SQL("copy ({}) to stdout (format csv, header {}, encoding 'UTF8')").format(
        select, sql.Literal(header)
    )


def arrow_type(postgres_type: str) -> str:
    """Arrow's name for a type of Postgres.

    All integers are int64 and all floats double: a column that is widened changes nothing for
    readers. A real becomes the double of its text in every format: 0.1, not 0.10000000149011612.
    numeric(p, s) is decimal128(p, s); what has no equal in a file is its text.
    """
    if postgres_type.startswith("numeric("):
        precision, scale = postgres_type[len("numeric(") : -1].split(",")
        if 0 <= int(scale) <= int(precision) <= 38:
            return f"decimal128({precision}, {scale})"
    return _ARROW_TYPES.get(postgres_type, "string")


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
    value = sql.Identifier("t", column.name)
    if column.name in extract.pseudonymised:
        # HMAC by its definition (RFC 2104). The subselects are evaluated once, not for each row.
        form = (
            "encode(sha256((select decode(current_setting({outer}), 'hex')) || "
            "sha256((select decode(current_setting({inner}), 'hex')) || "
            "convert_to({value}::text, 'UTF8'))), 'hex') as {name}"
        )
    elif column.type in _PLAIN_TYPES:
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
            sql.SQL("{} = {}").format(sql.Identifier("t", name), sql.Literal(value))
            for name, value in conditions.items()
        )
    )
