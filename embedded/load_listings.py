"""Real Inside Airbnb files, in the summary format of any year, into the table `listings`.

Lives here: putting a file's rows in the place of a day's. Does not: understanding the file
(`listings_file`), and the table (`listings`).
"""

import datetime as dt
from pathlib import Path

from psycopg2 import sql

from embedded import listings, listings_file


def load(dsn: str, csv_path: str | Path, date: str | dt.date) -> int:
    """Puts a file's rows into the table in the place of those that the date has.

    All or nothing, in one transaction: loading the same file again changes nothing, and a file
    that is refused leaves the date as it was.

    Args:
        dsn: Of Postgres; the table is made if there is none.
        csv_path: The file, as published or as a spreadsheet saved it; `.gz` too.
        date: The day it was downloaded, YYYY-MM-DD.

    Returns:
        How many rows the date has now.

    Raises:
        embedded.listings.ListingsError: The file or the date is not understood, or Postgres
            refuses; the message names file, row and column, and says what to do.
    """
    day = listings.to_day(date)
    rows = listings_file.read(Path(csv_path), day)
    with listings.writing(dsn) as opened:
        with opened.cursor() as cursor:
            cursor.execute(sql.SQL("DELETE FROM listings WHERE download_date = %s"), (day,))
        listings.copy(opened, rows)
    return rows.num_rows
