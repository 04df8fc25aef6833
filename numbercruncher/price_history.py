"""The state of prices as of one date after another: from a stored state, or from the snapshots.

Dates are requested in ascending order; a range of them takes one pass over its snapshots.
"""

from collections.abc import Iterator
from datetime import date

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from formats.manifest import Manifest, ManifestError, decode, describe_file
from numbercruncher.dated import manifest_key
from numbercruncher.errors import CruncherError, MissingObjectError, SnapshotInvalidError
from numbercruncher.price_changes import empty_state, fold, has_numbers, state_from_arrow
from numbercruncher.snapshot_index import LEFT_OUT, SnapshotIndex
from numbercruncher.snapshot_rows import Snapshot
from numbercruncher.store import Store

STATE_FILE = "state.parquet"


class EarlierSnapshotError(CruncherError):
    """Price changes cannot be made since an earlier snapshot could not be read."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class PriceHistory:
    """The state that moves from date to date.

    Attributes:
        left_out: dates so far whose snapshots cannot be used, with their fingerprints.
    """

    def __init__(self, store: Store, index: SnapshotIndex, prefix: str, code_version: str) -> None:
        self._store = store
        self._index = index
        self._prefix = prefix
        self._code_version = code_version
        self._state = empty_state()
        self._date = ""
        self._unreadable: EarlierSnapshotError | None = None
        self.left_out: dict[str, str] = {}

    def as_of(self, snapshot: Snapshot) -> pd.DataFrame:
        """The state made of a day's snapshot and all before it.

        Raises:
            EarlierSnapshotError: one of those before it could not be read.
            SnapshotChangedError: the snapshot is not the one that was there when the run began.
        """
        self._index.confirm(snapshot)
        self._catch_up(snapshot.date)
        if self._unreadable is not None:
            raise self._unreadable
        self._fold(snapshot)
        return self._state

    def go_without(self, day: str, error: Exception) -> None:
        """Records that a date's snapshot could not be read.

        A bad one is left out until it is written anew. One that could not be fetched may be good,
        so nothing that needs it is made.
        """
        try:
            if day not in self._index.references:
                return
        except CruncherError as unlisted:
            error = unlisted
        may_be_good = isinstance(error, CruncherError) and not isinstance(
            error, SnapshotInvalidError
        )
        if not may_be_good:
            self.left_out[day] = self._index.references[day].fingerprint
        elif self._unreadable is None:
            self._unreadable = EarlierSnapshotError(
                f"The prices of {day} are needed for all later dates, and could not be read:"
                f" {error}",
                transient=isinstance(error, CruncherError) and error.transient,
            )

    def _catch_up(self, day: str) -> None:
        """Brings the state up to the snapshot before a day's, by the shortest way."""
        gap = self._gap(day)
        if gap and self._unreadable is None:
            self._load_latest(gap)
            gap = self._gap(day)
        for earlier in gap:
            if self._unreadable is not None:
                return
            try:
                snapshot = self._index.read(earlier)
                self._index.confirm(snapshot)
                self._fold(snapshot)
            except Exception as error:
                self.go_without(earlier, error)

    def _gap(self, day: str) -> list[str]:
        return [
            d for d in self._index.references if self._date < d < day and d not in self.left_out
        ]

    def _fold(self, snapshot: Snapshot) -> None:
        numbers = snapshot.rows["id"].dtype == "int64"
        if len(self._state) and len(snapshot.rows) and has_numbers(self._state) != numbers:
            kinds = ("numbers", "texts") if numbers else ("texts", "numbers")
            raise SnapshotInvalidError(
                f"The ids in the snapshot of {snapshot.date} are {kinds[0]}, those in snapshots "
                f"before it {kinds[1]}. Materialise the snapshots of one kind again."
            )
        self._state = fold(self._state, date.fromisoformat(snapshot.date), snapshot.rows)
        self._date = snapshot.date

    def _load_latest(self, gap: list[str]) -> None:
        """Loads the latest stored state within a gap that is still current, if there is one."""
        for manifest in self._stored(gap):
            if not self._index.is_current(manifest, self._code_version):
                continue
            state = self._load(manifest)
            if state is not None:
                self._state, self._date = state, manifest.partition
                self.left_out = dict(manifest.extra.get(LEFT_OUT, {}))
                return

    def _stored(self, dates: list[str]) -> Iterator[Manifest]:
        """Manifests of stored states, the latest first; in growing portions."""
        remaining, portion = sorted(dates, reverse=True), 1
        while remaining:
            keys = [manifest_key(self._prefix, date_) for date_ in remaining[:portion]]
            contents = self._store.get_many(keys)
            for key in keys:
                try:
                    if key in contents:
                        yield decode(contents[key])
                except ManifestError:
                    continue
            remaining, portion = remaining[portion:], min(portion * 4, 64)

    def _load(self, manifest: Manifest) -> pd.DataFrame | None:
        """A stored state; None where it is damaged, since it can always be made anew."""
        expected = next((f for f in manifest.files if f.name == STATE_FILE), None)
        try:
            data = self._store.get(f"{self._prefix}/date={manifest.partition}/{STATE_FILE}")
        except MissingObjectError:
            return None
        if describe_file(STATE_FILE, data) != expected:
            return None
        return state_from_arrow(pq.read_table(pa.BufferReader(data), use_threads=False))
