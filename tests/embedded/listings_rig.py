"""Files of listings as tests write them, and what the table then holds."""

from contextlib import closing
from pathlib import Path

import psycopg2

TABLE = (
    "id", "name", "host_id", "host_profile_id", "host_name", "neighbourhood_group",
    "neighbourhood", "latitude", "longitude", "room_type", "price", "minimum_nights",
    "number_of_reviews", "last_review", "reviews_per_month", "calculated_host_listings_count",
    "availability_365", "number_of_reviews_ltm", "license",
)  # fmt: skip
TEXT = {
    "name", "host_profile_id", "host_name", "neighbourhood_group", "neighbourhood", "room_type",
    "license",
}  # fmt: skip
FLOATS = {"latitude", "longitude", "price", "reviews_per_month"}
LATER = ("host_profile_id", "number_of_reviews_ltm", "license")
HEADER_2018 = [name for name in TABLE if name not in LATER]


def write(path: Path, *records: dict[str, str], header: list[str] = HEADER_2018) -> Path:
    """Writes a file with these values, unquoted, and ordinary ones in all other columns."""
    plain = dict.fromkeys(TABLE, "1") | {"name": "Flat", "last_review": "", "price": "10"}
    lines = [",".join(header)]
    for number, record in enumerate(records, start=1):
        values = plain | {"id": str(number)} | record
        lines.append(",".join(values.get(name, "") for name in header))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


DETAILED = {
    "listing_url": "https://example.org/1",
    "description": '"Nice<br />place, ""quiet"""',
    "host_id": "1",
    "host_url": "https://example.org/u",
    "host_about": '"I live\nhere"',
    "neighbourhood": '"Town, Country"',
    "neighbourhood_cleansed": "North",
    "neighbourhood_group_cleansed": "Upper",
    "amenities": '"[""Wifi"", ""Kitchen""]"',
    "price": '"$1,100.00"',
    "accommodates": "4",
    "first_review": "2016-05-01",
    "last_review": "2024-01-15",
    "reviews_per_month": "0.5",
}
"""What a detailed file has and the summary file has not, or otherwise."""


def write_detailed(path: Path, *records: dict[str, str], without: str = "") -> Path:
    names = dict.fromkeys(["id", "name", *DETAILED, *HEADER_2018])
    header = [name for name in names if name not in {"neighbourhood_group", without}]
    return write(path, *(DETAILED | record for record in records), header=header)


def column(dsn: str, name: str) -> list[object]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM listings ORDER BY id")
        return [row[0] for row in cursor.fetchall()]
