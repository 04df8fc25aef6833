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
from numbercruncher.errors import MissingObjectError
from numbercruncher.exclusions import Exclusions, other_ids
from numbercruncher.price_changes import empty_state, fold, has_numbers, state_from_arrow
from numbercruncher.snapshot_index import LEFT_OUT, SnapshotIndex
from numbercruncher.snapshot_rows import Snapshot
from numbercruncher.store import Store

STATE_FILE = "state.parquet"


class PriceHistory:
    """The state that moves from date to date.

    Attributes:
        exclusions: what it goes without.
    """

    def __init__(self, store: Store, index: SnapshotIndex, prefix: str, code_version: str) -> None:
        self._store = store
        self._index = index
        self._prefix = prefix
        self._code_version = code_version
        self._state = empty_state()
        self._date = ""
        self.exclusions = Exclusions(index)

    def as_of(self, snapshot: Snapshot) -> pd.DataFrame:
        """The state made of a day's snapshot and all before it.

        Raises:
            EarlierSnapshotError: one of those before it could not be read.
            SnapshotChangedError: the snapshot is not the one that was there when the run began.
        """
        self._index.confirm(snapshot.date, snapshot.manifest_md5)
        self._catch_up(snapshot.date)
        if self.exclusions.unreadable is not None:
            raise self.exclusions.unreadable
        self._fold(snapshot)
        return self._state

    def _catch_up(self, day: str) -> None:
        """Brings the state up to the snapshot before a day's, by the shortest way."""
        gap = self._gap(day)
        if gap and self.exclusions.unreadable is None:
            self._load_latest(gap)
            gap = self._gap(day)
        for earlier in gap:
            if self.exclusions.unreadable is not None:
                return
            try:
                snapshot = self._index.read(earlier)
                self._index.confirm(snapshot.date, snapshot.manifest_md5)
                self._fold(snapshot)
            except Exception as error:
                self.exclusions.add(earlier, error)

    def _gap(self, day: str) -> list[str]:
        left_out = self.exclusions.left_out
        return [d for d in self._index.references if self._date < d < day and d not in left_out]

    def _fold(self, snapshot: Snapshot) -> None:
        numbers = snapshot.rows["id"].dtype == "int64"
        if len(self._state) and len(snapshot.rows) and has_numbers(self._state) != numbers:
            raise other_ids(snapshot.date, numbers=numbers)
        self._state = fold(self._state, date.fromisoformat(snapshot.date), snapshot.rows)
        self._date = snapshot.date

    def _load_latest(self, gap: list[str]) -> None:
        """Loads the latest stored state within a gap that is still current, if there is one."""
        for manifest in current_states(
            self._store, self._index, self._prefix, self._code_version, gap
        ):
            state = load_state(self._store, self._prefix, manifest)
            if state is not None:
                self._state, self._date = state, manifest.partition
                self.exclusions.left_out = dict(manifest.extra.get(LEFT_OUT, {}))
                return


def current_states(
    store: Store, index: SnapshotIndex, prefix: str, code_version: str, dates: list[str]
) -> Iterator[Manifest]:
    """Manifests of stored states that are still current, the latest first; in growing portions."""
    remaining, portion = sorted(dates, reverse=True), 1
    while remaining:
        keys = [manifest_key(prefix, date_) for date_ in remaining[:portion]]
        contents = store.get_many(keys)
        for key in keys:
            try:
                manifest = decode(contents[key]) if key in contents else None
            except ManifestError:
                continue
            if manifest is None or manifest.code_version != code_version:
                continue
            if index.is_current(manifest):
                yield manifest
        remaining, portion = remaining[portion:], min(portion * 4, 64)


def load_state(store: Store, prefix: str, manifest: Manifest) -> pd.DataFrame | None:
    """A stored state; None where it is damaged, since it can always be made anew."""
    expected = next((f for f in manifest.files if f.name == STATE_FILE), None)
    try:
        data = store.get(f"{prefix}/date={manifest.partition}/{STATE_FILE}")
    except MissingObjectError:
        return None
    if describe_file(STATE_FILE, data) != expected:
        return None
    return state_from_arrow(pq.read_table(pa.BufferReader(data), use_threads=False))
