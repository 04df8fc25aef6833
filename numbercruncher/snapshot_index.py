"""Which snapshots a day's price changes are made of, and whether that is still so.

A stored state of price changes may be used only while every snapshot it was made of is unchanged.
It names them by one digest over the MD5s of their manifests (which hold the sha256 of their files).
On most stores a listing shows these MD5s as ETags, so a single request tells whether the snapshot
of any past day was added, replaced or removed.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from formats import manifest as manifests
from formats.manifest import Manifest
from numbercruncher.dated import ForeignObjects, dated, manifest_key
from numbercruncher.errors import (
    MissingObjectError,
    SnapshotChangedError,
    SnapshotInvalidError,
    SnapshotMissingError,
)
from numbercruncher.snapshot_rows import Snapshot, Source, md5, read_snapshot
from numbercruncher.store import Store

LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Reference:
    """A snapshot as a listing of the bucket shows it.

    Attributes:
        manifest_md5: of its manifest.
        fingerprint: changes as soon as any object of it is written anew.
    """

    manifest_md5: str
    fingerprint: str


class SnapshotIndex:
    """The snapshots in a bucket; safe to read from several threads.

    They are listed once in a run. Before a snapshot that was read earlier or later is used,
    `confirm` makes sure that it is the listed one.

    Attributes:
        foreign: objects in the platform's folders that are not the platform's.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self.foreign = ForeignObjects()
        self._ahead: Future[dict[str, Reference]] | None = None
        self._digests: dict[frozenset[str], dict[str, str]] = {}

    def list_ahead(self, pool: Executor) -> None:
        """Begins to list in the background: with many days it takes as long as crunching one."""
        self._ahead = pool.submit(_list_snapshots, self._store, self._prefix, self.foreign)

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """All snapshots by date, in the order of dates; waits until they are listed.

        Raises:
            StoreError: they could not be listed.
        """
        if self._ahead:
            return self._ahead.result()
        return _list_snapshots(self._store, self._prefix, self.foreign)

    def manifests(self, dates: list[str]) -> dict[str, bytes]:
        """The manifests' bytes of those of the dates that have a snapshot."""
        keys = {manifest_key(self._prefix, date): date for date in dates}
        return {keys[key]: data for key, data in self._store.get_many(list(keys)).items()}

    def read(self, date: str, data: bytes | None = None) -> Snapshot:
        """Reads a day's snapshot.

        Args:
            date: the day.
            data: the bytes of its manifest, where they have been read already.

        Raises:
            SnapshotMissingError: there is none.
            SnapshotInvalidError: it is not what its manifest promises, or cannot be crunched.
            SnapshotChangedError: the same, but another one is listed.
            StoreError: it could not be read.
        """
        key = manifest_key(self._prefix, date)
        try:
            manifest = data or self._store.get(key)
        except MissingObjectError as error:
            raise SnapshotMissingError(
                f"There is no snapshot of {date}: it has no manifest. Materialise the snapshot of"
                f" {date} first."
            ) from error
        try:
            return read_snapshot(self._store, date, key, manifest)
        except SnapshotInvalidError:
            if self._ahead:  # without price changes, nothing is listed
                self.confirm(date, md5(manifest))
            raise

    def confirm(self, date: str, manifest_md5: str) -> None:
        """Makes sure that a snapshot is the one that was listed.

        Raises:
            SnapshotChangedError: it was replaced meanwhile.
        """
        reference = self.references.get(date)
        if reference is None or manifest_md5 != reference.manifest_md5:
            raise SnapshotChangedError(
                f"The snapshot of {date} was replaced while it was being read; run this again."
            )

    def inputs(self, snapshot: Source, left_out: Mapping[str, str]) -> dict[str, str]:
        """The inputs of a day's price changes, as their manifest names them."""
        digest = self._digest(snapshot.date, frozenset(left_out))
        return {
            snapshot.manifest_key: snapshot.manifest_sha256,
            self._digest_name(snapshot.date): digest,
        }

    def included(self, date: str, left_out: Mapping[str, str]) -> list[str]:
        """The dates whose snapshots are in the price changes of a day."""
        return [d for d in self.references if d <= date and d not in left_out]

    def is_current(self, manifest: Manifest) -> bool:
        """True if price changes were made of exactly the snapshots that are there now.

        A snapshot that could not be used at that time and has not changed since is ignored.
        """
        left_out = {
            date
            for date, fingerprint in manifest.extra.get(LEFT_OUT, {}).items()
            if date in self.references and self.references[date].fingerprint == fingerprint
        }
        date = manifest.partition
        expected = manifest.inputs.get(self._digest_name(date))
        return expected == self._digest(date, frozenset(left_out))

    def _digest_name(self, date: str) -> str:
        return f"{self._prefix}/ up to {date}"

    def _digest(self, date: str, left_out: frozenset[str]) -> str:
        """The digest over the snapshots up to a date; empty where the date has none."""
        if left_out not in self._digests:
            self._digests[left_out] = self._cumulative_digests(left_out)
        return self._digests[left_out].get(date, "")

    def _cumulative_digests(self, left_out: frozenset[str]) -> dict[str, str]:
        """For every date the digest over all snapshots up to it, in one pass."""
        digest = hashlib.sha256()
        digests: dict[str, str] = {}
        for date, reference in sorted(self.references.items()):
            if date not in left_out:
                digest.update(f"{date} {reference.manifest_md5}\n".encode())
            digests[date] = digest.copy().hexdigest()
        return digests


def _list_snapshots(store: Store, prefix: str, foreign: ForeignObjects) -> dict[str, Reference]:
    """All snapshots that have a manifest, by date, in the order of dates."""
    start = f"{prefix}/date="
    objects: dict[str, list[str]] = {}
    etags: dict[str, str] = {}
    entries = takewhile(lambda e: e.key.startswith(start), store.entries(prefix, after=start))
    for date, name, entry in dated(entries, prefix, foreign):
        objects.setdefault(date, []).append(f"{name} {entry.etag} {entry.bytes}")
        if name == manifests.NAME:
            etags[date] = entry.etag
    return {
        date: Reference(
            manifest_md5=manifest_md5,
            fingerprint=hashlib.sha256("\n".join(objects[date]).encode()).hexdigest(),
        )
        for date, manifest_md5 in _manifest_md5s(store, prefix, etags).items()
    }


def _manifest_md5s(store: Store, prefix: str, etags: dict[str, str]) -> dict[str, str]:
    """The MD5s of the manifests by date; the ETags themselves where the newest one's is its MD5."""
    if not etags:
        return {}
    newest = max(etags)
    if md5(store.get(manifest_key(prefix, newest))) == etags[newest]:
        return etags
    # A store that encrypts with its own keys has other ETags: the manifests are read.
    keys = {manifest_key(prefix, date): date for date in etags}
    return {keys[key]: md5(data) for key, data in store.get_many(list(keys)).items()}
