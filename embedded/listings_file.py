"""Reading Inside Airbnb's files of listings, published ones and those saved by a spreadsheet.

This module knows which columns a file has, and why a whole file is refused. `listings_csv` turns
bytes into texts, `listings_values` texts into values. A message never shows the content of a field:
it may be private.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from embedded import listings_csv
from embedded.listings import SCHEMA
from embedded.listings_csv import AS_PUBLISHED, ListingsFileError
from embedded.listings_values import DATE_COLUMN, IDS, INTEGER, Column, typed_column
from formats.long_ids import count_long_ids

# Not in every year's files: before 2016, from about 2021, and from late 2025.
OPTIONAL = frozenset({"neighbourhood_group", "number_of_reviews_ltm", "license", "host_profile_id"})
# The detailed file has these columns of the summary file under another name. Its own
# `neighbourhood` is a free text of the host's: "Town, Country", "Neighborhood highlights".
_DETAILED = {
    "neighbourhood": "neighbourhood_cleansed",
    "neighbourhood_group": "neighbourhood_group_cleansed",
}
# Columns that the detailed file has, of any year, and the summary file never had. From its data
# dictionary and the headers of published files, 2015 to 2026.
_DETAILED_ONLY = frozenset(
    {
        "listing_url", "scrape_id", "last_scraped", "source", "summary", "space", "description",
        "experiences_offered", "neighborhood_overview", "notes", "transit", "access", "interaction",
        "house_rules", "thumbnail_url", "medium_url", "picture_url", "xl_picture_url", "host_url",
        "host_profile_url", "host_since", "host_location", "host_about", "host_response_time",
        "host_response_rate", "host_acceptance_rate", "host_is_superhost", "host_thumbnail_url",
        "host_picture_url", "host_neighbourhood", "host_listings_count",
        "host_total_listings_count", "host_verifications", "host_has_profile_pic",
        "host_identity_verified", "hosts_time_as_user_years", "hosts_time_as_user_months",
        "hosts_time_as_host_years", "hosts_time_as_host_months", "street", "neighbourhood_cleansed",
        "neighbourhood_group_cleansed", "city", "state", "zipcode", "market", "smart_location",
        "country_code", "country", "is_location_exact", "property_type", "accommodates",
        "bathrooms", "bathrooms_text", "bedrooms", "beds", "bed_type", "amenities", "square_feet",
        "weekly_price", "monthly_price", "security_deposit", "cleaning_fee", "guests_included",
        "extra_people", "maximum_nights", "minimum_minimum_nights", "maximum_minimum_nights",
        "minimum_maximum_nights", "maximum_maximum_nights", "minimum_nights_avg_ntm",
        "maximum_nights_avg_ntm", "calendar_updated", "has_availability", "availability_30",
        "availability_60", "availability_90", "availability_eoy", "calendar_last_scraped",
        "number_of_reviews_l30d", "number_of_reviews_ly", "estimated_occupancy_l365d",
        "estimated_revenue_l365d", "first_review", "review_scores_rating", "review_scores_accuracy",
        "review_scores_cleanliness", "review_scores_checkin", "review_scores_communication",
        "review_scores_location", "review_scores_value", "requires_license", "jurisdiction_names",
        "instant_bookable", "is_business_travel_ready", "cancellation_policy",
        "require_guest_profile_picture", "require_guest_phone_verification",
        "calculated_host_listings_count_entire_homes",
        "calculated_host_listings_count_private_rooms",
        "calculated_host_listings_count_shared_rooms",
    }
)  # fmt: skip
_HIGHLIGHTS = "Neighborhood highlights"
# Of a column's long ids, where these are also more than chance would have.
_ROUNDED_SHARE = 0.1


def read(
    path: Path, day: dt.date, say: Callable[[str], None], *, allow_rounded_ids: bool = False
) -> pa.Table:
    """A file's rows with the columns and types of the table.

    Args:
        path: The summary or the detailed file, UTF-8, gzip or not.
        day: The day it was downloaded; becomes `download_date`.
        say: Gets a line about what of the file is left out.
        allow_rounded_ids: Whether ids that look rounded are taken all the same.

    Raises:
        ListingsFileError: See there; the message names file, row (the header is row 1, a row with
            line breaks inside quotes counts as one), and column.
    """
    raw = listings_csv.content(path)
    header = listings_csv.header(path, raw)
    source = _columns(path, header, say)
    index = header[0] if _is_index(header[0]) else None
    texts = listings_csv.texts(path, raw, [*source.values(), *([] if index is None else [index])])
    if not texts.num_rows:
        raise ListingsFileError(f"{path} has a header and no rows: there is nothing to load.")
    if index is not None:
        _require_row_numbers(path, texts[index].to_pylist())
        say("The first column, which has no name and numbers the rows, is left out.")
    columns = {
        name: Column(path, column, texts[column].to_pylist()) for name, column in source.items()
    }
    _require_real_neighbourhoods(path, source, columns)
    rows = pa.table(
        [typed_column(field, columns, texts.num_rows, day) for field in SCHEMA], schema=SCHEMA
    )
    if not allow_rounded_ids:
        for name in IDS:
            _require_exact_ids(path, name, rows[name].to_pylist())
    _require_each_once(path, rows["id"].to_pylist())
    return rows


def _columns(path: Path, header: list[str], say: Callable[[str], None]) -> dict[str, str]:
    """The file's column for each of the table's that it has."""
    detailed = _DETAILED["neighbourhood"] in header
    names: list[str] = [field.name for field in SCHEMA if field.name != DATE_COLUMN]
    source = {name: _DETAILED.get(name, name) if detailed else name for name in names}
    needed = [column for name, column in source.items() if name not in OPTIONAL]
    missing = [column for column in needed if column not in header]
    # In this order: of a file without a header, the "names" are the first listing.
    if missing == needed:
        raise ListingsFileError(
            f"{path} does not begin with the names of Inside Airbnb's columns: give a summary file "
            "(visualisations/listings.csv) or a detailed file (data/listings.csv.gz), as published."
        )
    if missing:
        raise ListingsFileError(
            f"{path} lacks {_listed(missing)}: give a summary file of Inside Airbnb "
            "(visualisations/listings.csv) or a detailed one (data/listings.csv.gz), as published."
        )
    present = {name: column for name, column in source.items() if column in header}
    twice = [
        column
        for column in dict.fromkeys([*present.values(), header[0]])
        if header.count(column) > 1
    ]
    if twice:
        raise ListingsFileError(
            f"{path} has the column {_listed(twice)} more than once. {AS_PUBLISHED}"
        )
    if not detailed:
        _leave_out_unknown(path, header[_is_index(header[0]) :], names, say)
    return present


def _leave_out_unknown(
    path: Path, header: list[str], names: list[str], say: Callable[[str], None]
) -> None:
    """Say which columns of a summary file are left out; refuse those of a detailed one."""
    unknown = list(dict.fromkeys(name for name in header if name not in names))
    foreign = [name for name in unknown if name in _DETAILED_ONLY]
    if foreign:
        # Without them it would pass for a summary file, with a host's words as neighbourhoods.
        raise ListingsFileError(
            f"{path} has {_listed(foreign)}, which no summary file has, and lacks "
            f"{_DETAILED['neighbourhood']}, which every detailed file has. To take columns out or "
            "to rename them does not help, since the two files mean different things by "
            "`neighbourhood`: give one of them, as published."
        )
    if unknown:
        say(f"What the table has no column for is left out: {_listed(unknown)}.")


def _listed(names: Sequence[str]) -> str:
    printable = [name or "a column without a name" for name in names[:5]]
    return ", ".join(printable) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_index(name: str) -> bool:
    """Whether it is what pandas and R write before the columns, or pandas read back."""
    return name in {"", "Unnamed: 0"}


def _require_row_numbers(path: Path, texts: Iterable[str | None]) -> None:
    if not all(text and INTEGER.fullmatch(text) for text in texts):
        raise ListingsFileError(
            f"{path} has a first column without a name that does not number the rows. "
            f"{AS_PUBLISHED}"
        )


def _require_real_neighbourhoods(
    path: Path, source: dict[str, str], columns: dict[str, Column]
) -> None:
    """Refuse a detailed file that was cut down to the columns of a summary file.

    Only the detailed file writes prices with a `$`, but spreadsheets do it, too. What tells is that
    half of the neighbourhoods end in the same country, or are the detailed file's own phrase.
    Neighbourhoods of summary files may have commas (Washington: "Dupont Circle, Connecticut
    Avenue/K Street"), but not one ending.
    """
    if source["neighbourhood"] != "neighbourhood":
        return
    areas = [area for area in columns["neighbourhood"].texts if area]
    endings = Counter(area.rpartition(", ")[2] for area in areas if ", " in area)
    dollars = any(price and price.startswith("$") for price in columns["price"].texts)
    same = max(endings.values(), default=0) if dollars else 0
    if areas and 2 * (areas.count(_HIGHLIGHTS) + same) >= len(areas):
        raise ListingsFileError(
            f"{path} has the columns of a summary file and the contents of a detailed one: its "
            "neighbourhoods are what hosts wrote (town, country). The right ones were in "
            "neighbourhood_cleansed, which is gone. Give the summary file "
            "(visualisations/listings.csv) or the whole detailed file (data/listings.csv.gz), as "
            "published."
        )


def _require_exact_ids(path: Path, name: str, ids: Iterable[object]) -> None:
    """Refuse ids that lost digits: prices of one listing would no longer be one listing's."""
    long = count_long_ids(int(str(value)) for value in ids if INTEGER.fullmatch(str(value)))
    if long.exceed(_ROUNDED_SHARE):
        raise ListingsFileError(
            f"{path}, column {name}: {long.rounded} of {long.ids} ids of more than 15 digits are "
            "rounded, as a spreadsheet (to 15 digits) or a float (to 53 bits) leaves them, so that "
            f"listings can no longer be told apart or followed over time. {AS_PUBLISHED} To load "
            "it all the same, add ALLOW_ROUNDED_IDS=1."
        )


def _require_each_once(path: Path, ids: list[int | None]) -> None:
    seen: dict[int, int] = {}
    for row, listing in enumerate(ids, start=2):
        if listing is None:
            raise ListingsFileError(f"{path}, row {row}, column id: it is empty. {AS_PUBLISHED}")
        first = seen.setdefault(listing, row)
        if first != row:
            raise ListingsFileError(
                f"{path}, column id: rows {first} and {row} have the same one. A file has each "
                "listing once: download it again, or take one of them out."
            )
