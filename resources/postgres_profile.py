"""What a table's rows look like in a few figures, computed where they are: inside the database."""

from psycopg2 import sql
from pydantic import BaseModel, ConfigDict, Field

from resources.postgres_query import Extract, table_name, where_clause


class Profile(BaseModel):
    """The rows of an extract in figures.

    Attributes:
        rows: How many there are.
        distinct_keys: How many different values the columns have that the extract is ordered by.
        nulls: Column → how many rows have no value there.
        least, median, largest: Of the column of interest, nulls apart; None where all are null.
            The largest is NaN if any is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(ge=0)
    distinct_keys: int = Field(ge=0)
    nulls: dict[str, int]
    least: float | None
    median: float | None
    largest: float | None


def select_profile(extract: Extract, column: str) -> sql.Composed:
    """SELECT of a profile as one row: the rows, the keys, three figures of `column`, the counts."""
    key = sql.SQL(", ").join(sql.Identifier("t", name) for name in extract.order_by)
    counts = [
        sql.SQL("count({})").format(sql.Identifier("t", each.name)) for each in extract.columns
    ]
    return sql.SQL(
        "select count(*), count(distinct ({key})), min({value}), "
        "percentile_cont(0.5) within group (order by {value}), max({value}), {counts} "
        "from {table} as t{where}"
    ).format(
        key=key,
        value=sql.SQL("{}::double precision").format(sql.Identifier("t", column)),
        counts=sql.SQL(", ").join(counts),
        table=table_name(extract.table),
        where=where_clause(extract.where),
    )
