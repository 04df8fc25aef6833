"""Snapshots that are published: where each stands, and the figures in its manifest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta

from pydantic import ValidationError

from resources.postgres import Profile
from resources.s3 import Folder, ManifestInvalidError, ObjectStore, Published

_READERS = 8


def snapshot_folder(store: ObjectStore, date: str) -> Folder:
    """Where a date's snapshot stands."""
    return Folder(store, f"airbnb/listings/date={date}")


def require_snapshot(store: ObjectStore, date: str) -> Published:
    """A date's snapshot.

    Raises:
        resources.s3.NotPublishedError: There is none.
    """
    return snapshot_folder(store, date).require("airbnb/snapshot")


def read_profile(store: ObjectStore, date: str) -> tuple[Published, Profile] | None:
    """A snapshot and its profile; None where there is none that can be read."""
    try:
        snapshot = snapshot_folder(store, date).published()
        if snapshot is None:
            return None
        return snapshot, Profile.model_validate(snapshot.manifest.extra.get("profile"))
    except (ManifestInvalidError, ValidationError):
        return None


class TrailingProfiles:
    """Profiles of the days before a day that are published, or are about to be by the same run.

    Each manifest is read once.

    Args:
        store: Where snapshots stand.
        days: How many days before a day count.
    """

    def __init__(self, store: ObjectStore, days: int) -> None:
        self._store = store
        self._days = days
        self._profiles: dict[str, Profile | None] = {}

    def before(self, date: str) -> list[Profile]:
        """Those that have rows, the latest first."""
        day = Date.fromisoformat(date)
        dates = [(day - timedelta(n)).isoformat() for n in range(1, self._days + 1)]
        unread = [date for date in dates if date not in self._profiles]
        if unread:
            with ThreadPoolExecutor(min(_READERS, len(unread))) as pool:
                self._profiles.update(zip(unread, pool.map(self._read, unread), strict=True))
        profiles = [self._profiles[date] for date in dates]
        return [profile for profile in profiles if profile is not None and profile.rows]

    def add(self, date: str, profile: Profile) -> None:
        """Take note of a day that is about to be published."""
        self._profiles[date] = profile

    def forget(self, dates: Sequence[str]) -> None:
        """Forget days that are exported once more."""
        for date in dates:
            self._profiles.pop(date, None)

    def _read(self, date: str) -> Profile | None:
        snapshot = read_profile(self._store, date)
        return None if snapshot is None else snapshot[1]
