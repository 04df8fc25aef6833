"""Tables as Parquet and JSON: the same table always gives the same bytes.

Does not belong here: what the columns mean.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from formats.columns import Column

ROWS_PER_GROUP = 262_144


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet, every choice pinned that could differ between two machines."""
    repeating = [field.name for field in table.schema if field.type in (pa.string(), pa.date32())]
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        buffer,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        # Ids and prices hardly repeat: a dictionary of them costs time and gains nothing.
        use_dictionary=repeating,  # pyright: ignore[reportArgumentType]
        row_group_size=ROWS_PER_GROUP,
        store_schema=True,
    )
    return buffer.getvalue()


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns of a schema by Arrow's names, without the unit of dates."""
    return tuple(Column(field.name, str(field.type).removesuffix("[day]")) for field in schema)


def json_bytes(table: pa.Table) -> bytes:
    """The rows as a JSON list of objects, a line each, with the keys in the order of columns."""
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in records_of(table)]
    return ("[\n  " + ",\n  ".join(lines) + "\n]\n" if lines else "[]\n").encode()


def records_of(table: pa.Table) -> list[Mapping[str, Any]]:
    """The rows as plain dicts; dates as ISO text, integers exact, null as None."""
    return [
        {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]
