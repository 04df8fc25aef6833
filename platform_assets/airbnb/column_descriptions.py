"""Columns of the listings' tables: a line on each, with its unit, and what they come from.

Which columns there are, and of which types, stands where they are made: in `listings.py`, and in
the number cruncher.
"""

from collections.abc import Mapping

import dagster as dg

_SNAPSHOT = dg.AssetKey(["airbnb", "snapshot"])

LISTING_COLUMNS: Mapping[str, str] = {
    "id": "The listing's number or text at its platform",
    "name": "Its title, as its host wrote it",
    "host_id": "The host's number or text at the platform",
    "host_profile_id": "The host's profile at the platform",
    "host_name": "The host's first name; stays in the database unless it is asked for",
    "neighbourhood_group": "The district, where the city has any above neighbourhoods",
    "neighbourhood": "The neighbourhood by its coordinates",
    "latitude": "Degrees north (WGS 84), moved by up to 150 m for privacy",
    "longitude": "Degrees east (WGS 84), moved by up to 150 m for privacy",
    "room_type": "Entire home/apt, Private room, Shared room or Hotel room",
    "price": "A night's price in the city's currency; null where none is shown",
    "minimum_nights": "Nights that a stay has at least",
    "number_of_reviews": "Reviews since the listing began",
    "last_review": "Day of the latest review",
    "reviews_per_month": "Reviews a month since the first one",
    "calculated_host_listings_count": "Listings that the host has in the city on that day",
    "availability_365": "Nights of the next 365 that can be booked",
    "number_of_reviews_ltm": "Reviews of the last twelve months",
    "license": "Licence or registration, as its host wrote it",
    "download_date": "Day (UTC) on which the listing was seen so",
}
PRICE_CHANGE_COLUMNS: Mapping[str, str] = {
    "id": LISTING_COLUMNS["id"],
    "first_date": "Day (UTC) of its first snapshot with a price",
    "first_price": "A night's price on that day, in the city's currency",
    "last_date": "Day (UTC) of its last snapshot with a price, up to the partition's",
    "last_price": "A night's price on that day, in the city's currency",
    "price_change_per_day": "(last price - first price) / days between them, in currency a day",
}
NEIGHBOURHOOD_COLUMNS: Mapping[str, str] = {
    "neighbourhood": "Of the listings; null for those without one",
    "room_type": "Of the listings; null for those without one",
    "listings": "How many listings there are",
    "priced": "How many of them have a price",
    "lower_quartile": "A quarter of the nights' prices is below, in the city's currency",
    "median": "Half of the nights' prices is below, in the city's currency",
    "upper_quartile": "Three quarters of the nights' prices are below, in the city's currency",
    "mean": "Mean of the nights' prices, in the city's currency",
    "entire_home_share": "Share (0..1) of entire homes among all listings of the neighbourhood",
}


def _lineage(upstream: dg.AssetKey, columns: Mapping[str, list[str]]) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(upstream, source) for source in sources]
            for name, sources in columns.items()
        }
    )


# Each column of a snapshot comes from the table's of that name.
SNAPSHOT_LINEAGE = _lineage(
    dg.AssetKey(["airbnb", "listings"]),
    {name: [name] for name in LISTING_COLUMNS if name != "host_name"},
)
PRICE_CHANGES_LINEAGE = _lineage(
    _SNAPSHOT,
    {
        "id": ["id"],
        "first_date": ["download_date", "price"],
        "first_price": ["price"],
        "last_date": ["download_date", "price"],
        "last_price": ["price"],
        "price_change_per_day": ["price", "download_date"],
    },
)
NEIGHBOURHOOD_LINEAGE = _lineage(
    _SNAPSHOT,
    {
        "neighbourhood": ["neighbourhood"],
        "room_type": ["room_type"],
        "listings": ["id"],
        "priced": ["price"],
        "lower_quartile": ["price"],
        "median": ["price"],
        "upper_quartile": ["price"],
        "mean": ["price"],
        "entire_home_share": ["room_type"],
    },
)
