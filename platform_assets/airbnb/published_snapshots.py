"""Snapshots of the listings that are published: where each stands.

How they are read is the same for all tables: `platform_assets.tables.published_snapshots`.
"""

from collections.abc import Iterable

from resources.s3 import Folder, ObjectStore, Published

_FOLDER = "airbnb/listings"


def snapshot_folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's snapshot stands."""
    return Folder(store, f"{_FOLDER}/date={date}")


def count_bytes(store: ObjectStore, dates: Iterable[str]) -> int:
    """How large the snapshots of dates are together, as a listing of the bucket says."""
    folders = {snapshot_folder(store, date).prefix for date in dates}
    objects = store.list(f"{_FOLDER}/")
    return sum(info.size for info in objects if info.key.rpartition("/")[0] in folders)


def require_snapshot(store: ObjectStore, date: str) -> Published:
    """A date's snapshot.

    Raises:
        resources.s3.NotPublishedError: There is none.
    """
    return snapshot_folder(store, date).require("airbnb/snapshot")
