"""What is published already: where a date's snapshot stands, and the figures in its manifest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta

from pydantic import ValidationError

from resources.postgres import Profile
from resources.s3 import Manifest, ManifestInvalidError, ObjectStore, read_manifest

PREFIX = "airbnb/listings"


def prefix(date: str) -> str:
    """Where a date's snapshot stands."""
    return f"{PREFIX}/date={date}"


class Trailing:
    """Profiles of the days before a day that are published, or are about to be by the same run.

    Each manifest is read once.
    """

    def __init__(self, store: ObjectStore, days: int) -> None:
        self._store = store
        self._days = days
        self._known: dict[str, Profile | None] = {}

    def before(self, date: str) -> list[Profile]:
        """Those that have rows, the latest first."""
        day = Date.fromisoformat(date)
        dates = [(day - timedelta(n)).isoformat() for n in range(1, self._days + 1)]
        unknown = [each for each in dates if each not in self._known]
        if unknown:
            with ThreadPoolExecutor(min(8, len(unknown))) as pool:
                self._known.update(zip(unknown, pool.map(self._read, unknown), strict=True))
        found = [self._known[each] for each in dates]
        return [profile for profile in found if profile is not None and profile.rows]

    def add(self, date: str, profile: Profile) -> None:
        """Take note of a day that is about to be published."""
        self._known[date] = profile

    def forget(self, dates: Sequence[str]) -> None:
        """Days that are exported once more."""
        for date in dates:
            self._known.pop(date, None)

    def _read(self, date: str) -> Profile | None:
        published = read_profile(self._store, date)
        return None if published is None else published[1]


def read_profile(store: ObjectStore, date: str) -> tuple[Manifest, Profile] | None:
    """A published snapshot's manifest and profile; None where there is none that can be read."""
    try:
        manifest = read_manifest(store, prefix(date))
        found = manifest and Profile.model_validate(manifest.extra.get("profile"))
    except (ManifestInvalidError, ValidationError):
        return None
    return (manifest, found) if manifest and found else None
