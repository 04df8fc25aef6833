"""The asset `airbnb/listings`: the source table, observed day by day.

Which table it is, and what of it may leave the database, stands in `listings.py`.
"""

import dagster as dg

from platform_assets.airbnb.column_descriptions import LISTING_COLUMNS
from platform_assets.airbnb.listings import CONTRACT
from platform_assets.lineage import place
from platform_assets.reports import table_schema
from platform_assets.tables.observed import observed_table

listings = observed_table(
    dg.AssetSpec(
        ["airbnb", "listings"],
        group_name="airbnb",
        kinds={"postgres", "table"},
        owners=["team:data-engineering"],
        tags=place("listings", "source"),
        description=(
            "Listings as downloaded, a row for each listing and day; filled from outside. A "
            "day's data version changes with any of its rows."
        ),
        metadata={"dagster/column_schema": table_schema(CONTRACT, LISTING_COLUMNS)},
    ),
    resource="listings_table",
)


def name_table(table: str) -> dg.AssetsDefinition:
    """The asset with its table's name, which is a setting; empty where a query stands for it."""
    metadata = {"dagster/table_name": table} if table else {}
    return listings.map_asset_specs(lambda spec: spec.merge_attributes(metadata=metadata))
