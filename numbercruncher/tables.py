"""Tables as Parquet bytes and as records: the same table always gives the same bytes.

What the columns mean is not known here.
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
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        buffer,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        # What repeats; a dictionary of ids and prices costs time and gains nothing.
        use_dictionary=_repeating(table.schema),  # pyright: ignore[reportArgumentType]
        row_group_size=ROWS_PER_GROUP,
        store_schema=True,
    )
    return buffer.getvalue()


def _repeating(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if field.type in (pa.string(), pa.date32())]


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns of a schema by Arrow's names, without the unit of dates."""
    return tuple(Column(field.name, _type_name(field.type)) for field in schema)


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


def _type_name(type_: pa.DataType) -> str:
    return {"date32[day]": "date32"}.get(str(type_), str(type_))
