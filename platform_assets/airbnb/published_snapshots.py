"""Snapshots that are published: where each stands, and the figures in its manifest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta

from pydantic import ValidationError

from resources.postgres import Profile
from resources.s3 import Manifest, ManifestInvalidError, ObjectStore, read_manifest

PREFIX = "airbnb/listings"
_READERS = 8


def prefix(date: str) -> str:
    """Where a date's snapshot stands."""
    return f"{PREFIX}/date={date}"


def read_profile(store: ObjectStore, date: str) -> tuple[Manifest, Profile] | None:
    """A snapshot's manifest and profile; None where there is none that can be read."""
    try:
        manifest = read_manifest(store, prefix(date))
        profile = manifest and Profile.model_validate(manifest.extra.get("profile"))
    except (ManifestInvalidError, ValidationError):
        return None
    return (manifest, profile) if manifest and profile else None


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
        published = read_profile(self._store, date)
        return None if published is None else published[1]
