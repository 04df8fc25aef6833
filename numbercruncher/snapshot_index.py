"""Which snapshots a day's price changes are made of, and whether that is still so.

A state of price changes is worth something only as long as every snapshot it was made of is the
one that is there now. It names them by one digest over the MD5s of their manifests (which hold the
sha256 of their files): on most stores a listing shows these MD5s as ETags, so that a single
request tells whether any snapshot of any past day was added, replaced or removed.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from formats import manifest as manifests
from formats.manifest import Manifest
from numbercruncher.dated import Foreign, dated
from numbercruncher.errors import (
    MissingObjectError,
    SnapshotChangedError,
    SnapshotInvalidError,
    SnapshotMissingError,
)
from numbercruncher.snapshot_rows import Snapshot, md5, read_snapshot
from numbercruncher.store import Store

LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Reference:
    """A snapshot as a listing of the bucket shows it.

    Attributes:
        manifest_etag: the MD5 of its manifest, on stores whose ETags are.
        fingerprint: changes as soon as any object of it is written anew.
    """

    date: str
    manifest_key: str
    manifest_etag: str
    fingerprint: str


class SnapshotIndex:
    """The snapshots of a bucket as they are while the run goes on; safe to read from threads.

    Which there are is found out once, by a listing; whoever uses one that was read before or
    after makes sure that it is the listed one (`confirm`).

    Attributes:
        foreign: what was seen in folders of the platform and is none of it.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self.foreign = Foreign()
        self._ahead: Future[tuple[dict[str, Reference], dict[str, str]]] | None = None
        self._digests: dict[frozenset[str], dict[str, str]] = {}

    def list_ahead(self, pool: Executor) -> None:
        """Begins to list in the background: of many days it takes as long as to crunch a day."""
        self._ahead = pool.submit(_find, self._store, self._prefix, self.foreign)

    @cached_property
    def _listed(self) -> tuple[dict[str, Reference], dict[str, str]]:
        if self._ahead:
            return self._ahead.result()
        return _find(self._store, self._prefix, self.foreign)

    @property
    def references(self) -> Mapping[str, Reference]:
        """All snapshots by date, in the order of dates; waits until they are listed.

        Raises:
            StoreError: they could not be listed.
        """
        return self._listed[0]

    def manifest_key(self, date: str) -> str:
        """Where the manifest of a date's snapshot is, if there is one."""
        return f"{self._prefix}/date={date}/{manifests.NAME}"

    def manifests(self, dates: list[str]) -> dict[str, bytes]:
        """The manifests' bytes of those of the dates that have a snapshot."""
        keys = {self.manifest_key(date): date for date in dates}
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
        key = self.manifest_key(date)
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
            if self._ahead:  # else nobody asks for the past
                self._confirm(date, md5(manifest))
            raise

    def confirm(self, snapshot: Snapshot) -> None:
        """Makes sure that a snapshot is the one that was listed.

        Raises:
            SnapshotChangedError: it was replaced meanwhile.
        """
        self._confirm(snapshot.date, snapshot.manifest_md5)

    def _confirm(self, date: str, manifest_md5: str) -> None:
        if manifest_md5 != self._listed[1].get(date):
            raise SnapshotChangedError(
                f"The snapshot of {date} was replaced while it was being read; run this again."
            )

    def inputs(self, snapshot: Snapshot, left_out: Mapping[str, str]) -> dict[str, str]:
        """What the price changes of a day are made of, as their manifest names it."""
        digest = self._digest(snapshot.date, frozenset(left_out))
        return {
            snapshot.manifest_key: snapshot.manifest_sha256,
            self._digest_name(snapshot.date): digest,
        }

    def included(self, date: str, left_out: Mapping[str, str]) -> list[str]:
        """The dates whose snapshots are in the price changes of a day."""
        return [d for d in self.references if d <= date and d not in left_out]

    def is_current(self, manifest: Manifest, code_version: str) -> bool:
        """True if price changes were made of exactly the snapshots that are there now.

        A snapshot that could not be used then and is as it was then does not count against them.
        """
        left_out = {
            date
            for date, fingerprint in manifest.extra.get(LEFT_OUT, {}).items()
            if date in self.references and self.references[date].fingerprint == fingerprint
        }
        date = manifest.partition
        expected = manifest.inputs.get(self._digest_name(date))
        return manifest.code_version == code_version and (
            expected == self._digest(date, frozenset(left_out))
        )

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
        for date, manifest_md5 in sorted(self._listed[1].items()):
            if date not in left_out:
                digest.update(f"{date} {manifest_md5}\n".encode())
            digests[date] = digest.copy().hexdigest()
        return digests


def _find_snapshots(store: Store, prefix: str, foreign: Foreign) -> dict[str, Reference]:
    """All snapshots that have a manifest, by date, in the order of dates.

    Args:
        store: where they are.
        prefix: their folder.
        foreign: takes note of what else lies among them.
    """
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
            date=date,
            manifest_key=f"{start}{date}/{manifests.NAME}",
            manifest_etag=etag,
            fingerprint=hashlib.sha256("\n".join(objects[date]).encode()).hexdigest(),
        )
        for date, etag in etags.items()
    }


def _find(
    store: Store, prefix: str, foreign: Foreign
) -> tuple[dict[str, Reference], dict[str, str]]:
    """All snapshots, and the MD5s of their manifests, by date."""
    references = _find_snapshots(store, prefix, foreign)
    etags = {date: reference.manifest_etag for date, reference in references.items()}
    if not etags:
        return references, etags
    newest = references[max(etags)]
    if md5(store.get(newest.manifest_key)) == newest.manifest_etag:
        return references, etags
    # Where the store encrypts with keys of its own, ETags are no MD5s: the manifests are read.
    keys = {reference.manifest_key: date for date, reference in references.items()}
    contents = store.get_many(list(keys))
    return references, {keys[key]: md5(data) for key, data in contents.items()}
