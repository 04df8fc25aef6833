"""Which snapshots a day's price changes are made of, and whether that is still so.

A state of price changes is worth something only as long as every snapshot it was made of is the
one that is there now. It names them by one digest over the MD5s of their manifests (which hold the
sha256 of their files): on most stores a listing shows these MD5s as ETags, so that a single
request tells whether any snapshot of any past day was added, replaced or removed.
"""

import hashlib
from collections.abc import Mapping

from numbercruncher.errors import SnapshotChangedError, SnapshotMissingError
from numbercruncher.manifests import Manifest
from numbercruncher.snapshots import Reference, Snapshot, find_snapshots, read_snapshot
from numbercruncher.store import Store

LEFT_OUT = "left_out"


class History:
    """The snapshots of a bucket as they were when the run began; safe to read from threads."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self.references: Mapping[str, Reference] = find_snapshots(store, prefix)
        self._manifest_md5s = self._find_manifest_md5s()
        self._digests: dict[frozenset[str], dict[str, str]] = {}

    def _find_manifest_md5s(self) -> Mapping[str, str]:
        etags = {date: ref.manifest_etag for date, ref in self.references.items()}
        if not etags:
            return {}
        newest = self.references[max(etags)]
        if _md5(self._store.get(newest.manifest_key)) == newest.manifest_etag:
            return etags
        # Where the store encrypts with keys of its own, ETags are no MD5s: the manifests are read.
        keys = {ref.manifest_key: date for date, ref in self.references.items()}
        found = self._store.get_many(list(keys))
        return {keys[key]: _md5(data) for key, data in found.items()}

    def manifests(self, dates: list[str]) -> dict[str, bytes]:
        """The manifests' bytes of those of the dates that have a snapshot."""
        keys = {self.references[d].manifest_key: d for d in dates if d in self.references}
        return {keys[key]: data for key, data in self._store.get_many(list(keys)).items()}

    def read(self, date: str, data: bytes | None = None) -> Snapshot:
        """Reads a day's snapshot.

        Args:
            date: the day.
            data: the bytes of its manifest, where they have been read already.

        Raises:
            SnapshotMissingError: there is none.
            SnapshotInvalidError: it is not what its manifest promises, or cannot be crunched.
            StoreError: it could not be read, or was replaced meanwhile.
        """
        if date not in self.references:
            raise SnapshotMissingError(
                f"There is no snapshot of {date}: it has no manifest. Materialise the snapshot of"
                f" {date} first."
            )
        reference = self.references[date]
        manifest = data if data is not None else self._store.get(reference.manifest_key)
        if _md5(manifest) != self._manifest_md5s.get(date):
            raise SnapshotChangedError(
                f"The snapshot of {date} was replaced while it was being read; run this again."
            )
        return read_snapshot(self._store, reference, manifest)

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
        for date, md5 in sorted(self._manifest_md5s.items()):
            if date not in left_out:
                digest.update(f"{date} {md5}\n".encode())
            digests[date] = digest.copy().hexdigest()
        return digests


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
