"""Which outputs of a request are published already and right, and which have to be made."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from formats import manifest as manifests
from formats.manifest import Manifest, ManifestError
from numbercruncher.dated import dated, manifest_key
from numbercruncher.outputs import PRICE_CHANGES, describe
from numbercruncher.request import Request
from numbercruncher.snapshot_index import SnapshotIndex
from numbercruncher.store import Entry, Store

Report = dict[str, Any]


@dataclass
class Day:
    """The outputs of a date before anything is made.

    Attributes:
        manifest: bytes of its snapshot's manifest; None where there is no snapshot.
        todo: the outputs to make.
        unchanged: reports of the outputs that are published and right.
        replaces: the outputs that have a manifest, right or not.
    """

    manifest: bytes | None
    todo: list[str] = field(default_factory=list)
    unchanged: dict[str, Report] = field(default_factory=dict)
    replaces: set[str] = field(default_factory=set)


def make_plan(store: Store, request: Request, index: SnapshotIndex) -> dict[str, Day]:
    """Looks at every date of the request; the number of dates hardly adds to the calls."""
    snapshots = index.manifests(list(request.dates))
    days = {date: Day(snapshots.get(date)) for date in request.dates}
    for output in request.outputs:
        folder = request.prefixes[output]
        entries = _entries(store, folder, request.dates[0], request.dates[-1])
        sizes = {entry.key: entry.bytes for _, _, entry in dated(entries, folder, index.foreign)}
        keys = [manifest_key(folder, date) for date in request.dates]
        stored = store.get_many([key for key in keys if key in sizes])
        for date, day in days.items():
            data = stored.get(manifest_key(folder, date))
            if data is not None:
                day.replaces.add(output)
            manifest = _decoded(data)
            if manifest and _is_right(output, manifest, day, request, index, sizes):
                digest = hashlib.sha256(data or b"").hexdigest()
                day.unchanged[output] = describe(
                    manifest, f"{folder}/date={date}", "unchanged", digest
                )
            else:
                day.todo.append(output)
    return days


def find_outdated(store: Store, request: Request, before: SnapshotIndex) -> list[str]:
    """Dates from the request's first on whose price changes are not of the snapshots that exist.

    Nothing else would notice them. Making them again puts them right. Another run may have
    published a snapshot since the request was begun: whichever of two runs publishes last looks
    last, and sees what the other has published.

    Args:
        store: the bucket.
        request: what has been made.
        before: the snapshots that it was made of.
    """
    now = SnapshotIndex(store, request.listings_prefix)
    folder = request.prefixes[PRICE_CHANGES]
    entries = store.entries(folder, after=f"{folder}/date={request.dates[0]}0")
    objects = dated(entries, folder, before.foreign)
    requested = set(request.dates)
    keys = [
        entry.key
        for date, name, entry in objects
        if name == manifests.NAME and date not in requested
    ]
    if now.references != before.references:
        keys += [manifest_key(folder, date) for date in request.dates]
    published = [_decoded(data) for data in store.get_many(keys).values()]
    return sorted(
        manifest.partition for manifest in published if manifest and not now.is_current(manifest)
    )


def _entries(store: Store, folder: str, first: str, last: str) -> Iterator[Entry]:
    """The objects of the dates from the first to the last."""
    if first == last:
        return store.entries(f"{folder}/date={first}")
    # Not after the first date itself: some stores would leave out what is in its folder.
    entries = store.entries(folder, after=f"{folder}/date={first[:-1]}")
    end = f"{folder}/date={last}0"  # "0" comes next to "/"
    return takewhile(lambda entry: entry.key < end, entries)


def _decoded(data: bytes | None) -> Manifest | None:
    try:
        return manifests.decode(data) if data is not None else None
    except ManifestError:
        return None


def _is_right(
    output: str,
    manifest: Manifest,
    day: Day,
    request: Request,
    index: SnapshotIndex,
    sizes: dict[str, int],
) -> bool:
    """True if an output was made of the present inputs, by this version, and is complete."""
    if day.manifest is None or manifest.code_version != request.code_version:
        return False
    key = manifest_key(request.listings_prefix, manifest.partition)
    if manifest.inputs.get(key) != hashlib.sha256(day.manifest).hexdigest():
        return False
    if output == PRICE_CHANGES and not index.is_current(manifest):
        return False
    folder = f"{request.prefixes[output]}/date={manifest.partition}"
    return all(sizes.get(f"{folder}/{file.name}") == file.bytes for file in manifest.files)
