"""What a table's rows look like in a few figures, computed where they are: inside the database."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from psycopg2 import sql
from pydantic import BaseModel, ConfigDict, Field

from formats.columns import Column
from formats.long_ids import LARGEST_EXACT, chance
from resources.postgres.casts import SourceColumn
from resources.postgres.query import Extract, cast_of, key_of, relation, where_clause

# An id's value as bigint: of a text that may be one beyond 2**53, also as a spreadsheet writes it.
_ID_OF_TEXT = (
    "case when length({value}) > 15 or strpos({value}, '+') > 0 then "
    "case when {value} ~ '^-?([0-9]{{16,19}}(\\.0{{0,9}})?"
    "|[0-9](\\.[0-9]{{0,18}})?[eE]\\+1[5-8])$' then "
    "case when {value}::numeric between -9223372036854775807 and 9223372036854775807 "
    "then {value}::numeric::bigint end end end"
)
_LONG = "{id} not between -{exact} and {exact}"
# What is odd of a double fits into 53 bits; `id & -id` is its lowest bit. The other way to lose
# digits is zeros after the 15th.
_ROUNDED = (
    "(abs({id} / ({id} & -{id})) <= {exact} or {id} % case when abs({id}) >= 1000000000000000000 "
    "then 10000 when abs({id}) >= 100000000000000000 then 1000 when abs({id}) >= 10000000000000000 "
    "then 100 else 10 end = 0)"
)
# Sizes from which on the chance to look rounded is another, and these chances in a unit of which
# all are whole: a sum of floats would depend on the order in which rows are read.
_SIZES = sorted({LARGEST_EXACT + 1, *(2**bits for bits in range(54, 63)), 10**16, 10**17, 10**18})
_CHANCE_UNIT = 2**10 * 10**4
_CHANCES = [round(chance(size.bit_length(), len(str(size))) * _CHANCE_UNIT) for size in _SIZES]
# What is rounded is even; the smallest of all ids has no positive counterpart.
_LONG_IDS = (
    f"count(*) filter (where {_LONG}), "
    f"count(*) filter (where case when {_LONG} and {{id}} & 1 = 0 "
    f"and {{id}} > -9223372036854775808 then {_ROUNDED} end), "
    f"sum(case when {_LONG} and {{id}} > -9223372036854775808 then "
    "({chances}::int[])[width_bucket(abs({id}), {sizes}::bigint[])] end), "
    "min({id}) < max({id})"
)


class Profile(BaseModel):
    """The rows of an extract in figures.

    Attributes:
        rows: How many there are.
        distinct_keys: How many different values the columns have that the extract is ordered by.
        nulls: Column → how many rows have no value there.
        least, median, largest: Of the column of interest, nulls apart; None where all are null.
            The largest is NaN if any is.
        negative: How many rows have less than 0 there.
        lost: Column → how many values its cast would have changed; they are null in what leaves.
        long_ids: Column of ids → how many are beyond 2**53, how many of these look rounded, and
            how many would by chance (as `formats.long_ids.LongIds`). Older profiles have the bits
            that the rounded ones lost in the last place: at least one each, which passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=0)
    distinct_keys: int = Field(ge=0)
    nulls: dict[str, int]
    least: float | None
    median: float | None
    largest: float | None
    negative: int = 0
    lost: dict[str, int] = {}
    long_ids: dict[str, tuple[int, int, float]] = {}


def select_profile(extract: Extract, column: str | None, ids: Collection[str] = ()) -> sql.Composed:
    """SELECT of a profile as one row, for `read_profile`."""
    of_interest = cast_of(extract, column).value if column else sql.NULL
    value = sql.SQL("{}::double precision").format(of_interest)
    counts = [sql.SQL("count({})").format(cast_of(extract, c.name).value) for c in extract.columns]
    lost = [
        sql.SQL("count({}) filter (where not {})").format(sql.Identifier("t", source), lossless_if)
        for _, source, lossless_if in _casts(extract)
    ]
    return sql.SQL("select {figures} from {table} as t{where}").format(
        figures=sql.SQL(", ").join(
            [
                sql.SQL(
                    "count(*), count(distinct ({key})), min({value}), percentile_cont(0.5) "
                    "within group (order by {value}), max({value}), "
                    "count(*) filter (where {value} < 0)"
                ).format(key=sql.SQL(", ").join(key_of(extract)), value=value),
                *counts,
                *lost,
                *(_long_ids(extract, column) for column in _ids(extract, ids)),
            ]
        ),
        table=relation(extract.table),
        where=where_clause(extract.where),
    )


def read_profile(extract: Extract, ids: Collection[str], row: Sequence[Any]) -> Profile:
    """The row of `select_profile` as a profile."""
    rows, keys, least, median, largest, negative, *counts = row
    figures = iter(counts)
    nulls = {column.name: rows - next(figures) for column in extract.columns}
    lost = {name: next(figures) for name, _, _ in _casts(extract)}
    return Profile(
        rows=rows,
        distinct_keys=keys,
        nulls=nulls,
        least=least,
        median=median,
        largest=largest,
        negative=negative,
        lost={name: count for name, count in lost.items() if count},
        long_ids={
            column.name: _read_long_ids(*islice(figures, 4)) for column in _ids(extract, ids)
        },
    )


def _read_long_ids(
    ids: int, rounded: int, chances: int | None, varied: bool | None
) -> tuple[int, int, float]:
    """The figures of `_LONG_IDS`: one id in all rows (a scrape's) looks rounded once, or never."""
    expected = (chances or 0) / _CHANCE_UNIT
    if varied or not ids:
        return ids, rounded, expected
    return 1, min(rounded, 1), expected / ids


def _casts(extract: Extract) -> Iterator[tuple[str, str, sql.Composable]]:
    """The columns whose cast may lose something.

    Yields:
        The name, that of the table's column, and the condition that nothing is lost.
    """
    for column in extract.columns:
        source = extract.sources.get(column.name)
        lossless_if = cast_of(extract, column.name).lossless_if
        if isinstance(source, SourceColumn) and lossless_if is not None:
            yield column.name, source.name, lossless_if


def _ids(extract: Extract, ids: Collection[str]) -> list[Column]:
    return [column for column in extract.columns if column.name in ids]


def _long_ids(extract: Extract, column: Column) -> sql.Composable:
    value = cast_of(extract, column.name).value
    if column.type != "int64":
        text = sql.SQL("{}::text").format(value)
        value = sql.SQL(_ID_OF_TEXT).format(value=text)
    # A narrower integer has no type in common with the bounds, to Postgres before 14.
    return sql.SQL(_LONG_IDS).format(
        id=sql.SQL("({})::bigint").format(value),
        exact=sql.Literal(LARGEST_EXACT),
        chances=sql.Literal(_CHANCES),
        sizes=sql.Literal(_SIZES),
    )
