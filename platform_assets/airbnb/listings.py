"""The source table `listings`: its columns, the rules for it alone, and what of it may leave."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from formats.columns import Column
from platform_assets.airbnb.column_descriptions import LISTING_COLUMNS
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.tables.source_table import Rules, SourceTable
from resources.postgres import Profile
from resources.s3 import Folder, Manifest, ObjectStore

DATE_COLUMN = "download_date"
# The columns that Inside Airbnb's summary files have had since 2018, and the day of the download.
# Later files have more; those are taken along as they come.
CONTRACT = (
    Column(name="id", type="int64"),
    Column(name="name", type="string"),
    Column(name="host_id", type="int64"),
    Column(name="host_name", type="string"),
    Column(name="neighbourhood_group", type="string"),
    Column(name="neighbourhood", type="string"),
    Column(name="latitude", type="double"),
    Column(name="longitude", type="double"),
    Column(name="room_type", type="string"),
    Column(name="price", type="double"),
    Column(name="minimum_nights", type="int64"),
    Column(name="number_of_reviews", type="int64"),
    Column(name="last_review", type="date32"),
    Column(name="reviews_per_month", type="double"),
    Column(name="calculated_host_listings_count", type="int64"),
    Column(name="availability_365", type="int64"),
    Column(name=DATE_COLUMN, type="date32"),
)
# What the results are made of: these cannot be left out or hashed, and a table has to have them
# and the day. Others that it lacks are null in the snapshots.
NEEDED = frozenset({"id", "neighbourhood", "room_type", "price"})
RULES = Rules(
    key="id",
    needed=NEEDED,
    required=frozenset({"neighbourhood", "room_type"}),
    measure="price",
    resource="listings_table",
    columns_setting="PLATFORM_LISTINGS_COLUMNS",
    key_remedy="Where ids are no numbers, set PLATFORM_LISTINGS_ID_TYPE=string.",
)
_CONTRACT_IDS = frozenset({"id", "host_id"})
_SETTINGS = {
    "table": "PLATFORM_LISTINGS_TABLE",
    "query": "PLATFORM_LISTINGS_QUERY",
    "columns": "PLATFORM_LISTINGS_COLUMNS",
    "leave_out": "PLATFORM_LEAVE_OUT",
    "pseudonymise": "PLATFORM_PSEUDONYMISE",
}


class ListingsTable(SourceTable):
    """Which table, and what of it leaves the database in which form."""

    table: str = Field(
        default="listings",
        description="Name of the table, view or materialised view, with or without schema.",
    )
    id_type: Literal["int64", "string"] = Field(
        default="int64",
        description="What ids of listings and hosts leave as; texts are ordered by their bytes.",
    )
    date_column: str = Field(
        default=DATE_COLUMN,
        description=(
            "Column with the day of each row; empty where the table has none and holds what is "
            "now. Then only the newest day can be snapshotted."
        ),
    )
    leave_out: list[str] = Field(
        default=["host_name"], description="Columns that never leave the database."
    )

    @property
    def rules(self) -> Rules:
        return RULES

    @property
    def asset(self) -> str:
        return "airbnb/snapshot"

    @property
    def descriptions(self) -> Mapping[str, str]:
        return LISTING_COLUMNS

    @property
    def promised(self) -> tuple[Column, ...]:
        return tuple(
            Column(name=column.name, type=self.id_type) if column.name in _CONTRACT_IDS else column
            for column in CONTRACT
            if column.name != DATE_COLUMN
        )

    @property
    def file(self) -> str:
        return f"listings.{self.format}"

    def folder(self, store: ObjectStore, date: str) -> Folder:
        return snapshot_folder(store, date)

    def setting(self, field: str) -> str:
        """The variable of the environment."""
        return _SETTINGS[field]

    def describe(self, manifest: Manifest, profile: Profile) -> dict[str, object]:
        """What a snapshot is in figures."""
        figures = super().describe(manifest, profile)
        if "null_share" in figures:
            figures["unpriced_share"] = profile.nulls.get("price", 0) / manifest.rows
        return figures
