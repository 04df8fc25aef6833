"""Snapshots as the platform writes them, made by hand, and what should come out of them.

The expectations are plain Python over all rows, written from the definition of the results; they
share nothing with the number cruncher.
"""

import gzip
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Row = Mapping[str, Any]
Objects = Callable[[str], dict[str, bytes]]
OUTPUTS = ("airbnb/price_changes/", "airbnb/neighbourhood_summary/")

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("neighbourhood", pa.string()),
        ("room_type", pa.string()),
        ("price", pa.float64()),
    ]
)
ROOM_TYPES = ("Entire home/apt", "Private room", "Shared room", "Hotel room")


def row(
    id_: int,
    price: float | None,
    neighbourhood: str | None = "Centrum-West",
    room_type: str | None = "Entire home/apt",
) -> Row:
    """A listing's row."""
    return {
        "id": id_,
        "name": f'"Lovely", place {id_}\nby the canal',
        "neighbourhood": neighbourhood,
        "room_type": room_type,
        "price": price,
    }


def days(first: str, count: int) -> list[str]:
    """ISO dates, one after the other."""
    start = date.fromisoformat(first)
    return [(start + timedelta(days=n)).isoformat() for n in range(count)]


def market(dates: Iterable[str], listings: int, seed: int = 7) -> dict[str, list[Row]]:
    """A market that moves: prices change, vanish and come back; listings come and go."""
    random_ = random.Random(seed)
    places = [f"Neighbourhood {n}" for n in range(12)] + [None]
    homes = {
        9_007_199_254_740_993 + n: (
            random_.choice(places),
            random_.choice(ROOM_TYPES),
            random_.randint(20, 900),
        )
        for n in range(listings)
    }
    rows: dict[str, list[Row]] = {}
    for date_ in dates:
        present = random_.sample(sorted(homes), int(listings * 0.9))
        rows[date_] = [
            row(
                id_,
                None
                if random_.random() < 0.3
                else max(0, homes[id_][2] + random_.choice((0, 0, 0, -7, 5, 12.5))),
                homes[id_][0],
                homes[id_][1],
            )
            for id_ in sorted(present)
        ]
    return rows


def encode(rows: Iterable[Row], format_: str) -> bytes:
    """A snapshot's file: csv, csv.gz as COPY writes them, or parquet."""
    if format_ == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink, compression="zstd")
        return sink.getvalue()
    text = io.StringIO(newline="")
    text.write(",".join(SCHEMA.names) + "\n")
    for item in rows:
        text.write(",".join(_csv_field(item[name]) for name in SCHEMA.names) + "\n")
    data = text.getvalue().encode()
    return gzip.compress(data, mtime=0) if format_ == "csv.gz" else data


def put_snapshot(
    client: "S3Client",
    bucket: str,
    date_: str,
    rows: Iterable[Row],
    *,
    format_: str = "csv",
    manifest: Mapping[str, Any] | None = None,
) -> str:
    """Writes a snapshot and its manifest, parts of which can be made wrong.

    Returns:
        The key of the data file.
    """
    rows = list(rows)
    data = encode(rows, format_)
    folder = f"airbnb/listings/date={date_}"
    name = f"listings.{format_}"
    content = {
        "version": 1,
        "partition": date_,
        "rows": len(rows),
        "columns": [{"name": field.name, "type": str(field.type)} for field in SCHEMA],
        "files": [{"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}],
        "code_version": "1",
        "inputs": {},
        "extra": {},
        **(manifest or {}),
    }
    text = json.dumps(content, sort_keys=True, indent=2) + "\n"
    client.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=data)
    client.put_object(Bucket=bucket, Key=f"{folder}/manifest.json", Body=text.encode())
    return f"{folder}/{name}"


def expected_changes(market_: Mapping[str, Iterable[Row]], up_to: str) -> list[dict[str, Any]]:
    """The whole table of price changes as of a date, by id."""
    seen: dict[int, list[tuple[str, float]]] = {}
    for date_ in sorted(market_):
        if date_ <= up_to:
            for item in market_[date_]:
                if item["price"] is not None:
                    seen.setdefault(item["id"], []).append((date_, float(item["price"])))
    table = []
    for id_, prices in sorted(seen.items()):
        (first_date, first_price), (last_date, last_price) = prices[0], prices[-1]
        if first_date == last_date:
            continue
        between = (date.fromisoformat(last_date) - date.fromisoformat(first_date)).days
        table.append(
            {
                "id": id_,
                "first_date": first_date,
                "first_price": first_price,
                "last_date": last_date,
                "last_price": last_price,
                "price_change_per_day": (last_price - first_price) / between,
            }
        )
    return table


def expected_biggest(table: list[dict[str, Any]], sign: int) -> list[dict[str, Any]]:
    """The five biggest rises (sign 1) or falls (sign -1)."""
    real = [item for item in table if item["price_change_per_day"] * sign > 0]
    return sorted(real, key=lambda item: (-sign * item["price_change_per_day"], item["id"]))[:5]


def expected_summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The neighbourhood summary of one day, in exact arithmetic."""
    rows = list(rows)
    keys = {(item["neighbourhood"], item["room_type"]) for item in rows}
    ordered = sorted(keys, key=lambda k: (k[0] is None, k[0] or "", k[1] is None, k[1] or ""))
    summary = []
    for neighbourhood, room_type in ordered:
        local = [item for item in rows if item["neighbourhood"] == neighbourhood]
        group = [item for item in local if item["room_type"] == room_type]
        prices = sorted(Fraction(item["price"]) for item in group if item["price"] is not None)
        entire = sum(item["room_type"] == "Entire home/apt" for item in local)
        summary.append(
            {
                "neighbourhood": neighbourhood,
                "room_type": room_type,
                "listings": len(group),
                "priced": len(prices),
                "lower_quartile": _quantile(prices, Fraction(1, 4)),
                "median": _quantile(prices, Fraction(1, 2)),
                "upper_quartile": _quantile(prices, Fraction(3, 4)),
                "mean": float(sum(prices) / len(prices)) if prices else None,
                "entire_home_share": entire / len(local),
            }
        )
    return summary


def _quantile(prices: list[Fraction], fraction: Fraction) -> float | None:
    if not prices:
        return None
    position = fraction * (len(prices) - 1)
    below = int(position)
    above = min(below + 1, len(prices) - 1)
    return float(prices[below] + (position - below) * (prices[above] - prices[below]))


def _csv_field(value: object) -> str:
    """As PostgreSQL's COPY writes it: nothing for NULL, quotes around the empty text."""
    if value is None:
        return ""
    text = str(value)
    if not text or any(character in text for character in '",\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text


def table(data: bytes) -> list[dict[str, Any]]:
    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    return [
        {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in item.items()}
        for item in rows
    ]


def outputs(objects: Objects) -> dict[str, bytes]:
    return {key: data for prefix in OUTPUTS for key, data in objects(prefix).items()}


def remove(client: "S3Client", bucket: str, keys: Mapping[str, bytes]) -> None:
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)
