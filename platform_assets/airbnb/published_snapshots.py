"""Snapshots of the listings that are published: where each stands.

How they are read is the same for all tables: `platform_assets.tables.published_snapshots`.
"""

from resources.s3 import Folder, ObjectStore, Published


def snapshot_folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's snapshot stands."""
    return Folder(store, f"airbnb/listings/date={date}")


def require_snapshot(store: ObjectStore, date: str) -> Published:
    """A date's snapshot.

    Raises:
        resources.s3.NotPublishedError: There is none.
    """
    return snapshot_folder(store, date).require("airbnb/snapshot")
