"""Real Inside Airbnb files, of either format and any year, into the table `listings`.

It replaces a day's rows by a file's. `listings_file` reads the file, `listings` writes the table.
"""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from psycopg2 import sql

from embedded import listings, listings_file
from embedded.plan import FIRST_PARTITION, to_day


def load(
    dsn: str,
    path: Path,
    date: str,
    *,
    first: str = FIRST_PARTITION,
    allow_rounded_ids: bool = False,
    say: Callable[[str], None] = lambda _line: None,
) -> int:
    """Puts a file's rows into the table in the place of those that the date has.

    All or nothing, in one transaction: loading the same file again changes nothing, and a file
    that is refused leaves the date as it was.

    Args:
        dsn: Of Postgres; the table is made if there is none.
        path: The file, as published or as a spreadsheet saved it; gzip or not.
        date: The day it was downloaded, YYYY-MM-DD.
        first: The first day that the platform can materialise, YYYY-MM-DD.
        allow_rounded_ids: Whether ids that look rounded are taken all the same.
        say: Gets a line, for people, about what they may not expect.

    Returns:
        How many rows the date has now.

    Raises:
        embedded.errors.ConfigurationError: A date is not understood.
        embedded.listings.ListingsError: The file is not understood, the date cannot be
            materialised, or Postgres refuses; the message names file, row and column, and says
            what to do.
    """
    day = to_day("DATE", date)
    today = dt.datetime.now(dt.UTC).date()
    _require_partition(day, to_day("PLATFORM_FIRST_PARTITION", first), today)
    rows = listings_file.read(path, day, say, allow_rounded_ids=allow_rounded_ids)
    with listings.writing(dsn) as opened:
        with opened.cursor() as cursor:
            cursor.execute(sql.SQL("DELETE FROM listings WHERE download_date = %s"), (day,))
        listings.copy(opened, rows)
    if day == today:
        say(
            f"{day} is not over yet in UTC: it can be materialised from {day + dt.timedelta(1)} "
            "on; until then its rows may be loaded again."
        )
    return rows.num_rows


def _require_partition(day: dt.date, first: dt.date, today: dt.date) -> None:
    if first <= day <= today:
        return
    why = (
        "lies in the future"
        if day > today
        else "is before the first partition (PLATFORM_FIRST_PARTITION moves it)"
    )
    raise listings.ListingsError(
        f"{day} {why}, so it could not be materialised: DATE is the day on which the file was "
        f"downloaded, from {first} to {today} (today in UTC)."
    )
