"""Snapshots that are published: their columns, and the figures in their manifests."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import ValidationError

from resources.postgres import Profile
from resources.s3 import Folder, ManifestInvalidError, Published

_READERS = 8
_BLOCK_BYTES = 1 << 20


def read_columns(snapshot: Published, *names: str) -> Iterator[pa.RecordBatch]:
    """Some columns of a snapshot of any format, in bounded memory: rows in the order of their keys.

    Args:
        names: Of the columns, in the order in which the batches are to have them.

    Raises:
        resources.s3.ObjectChangedError: The file is not the one that its manifest names.
    """
    (file,) = snapshot.manifest.files
    types = {column.name: column.type for column in snapshot.manifest.columns}
    with ExitStack() as stack:
        content: Any = stack.enter_context(snapshot.open(file.name))
        if file.name.endswith(".parquet"):
            # Parquet is read from its end: on disk it takes no memory.
            seekable = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(content, seekable, _BLOCK_BYTES)
            for batch in pq.ParquetFile(seekable).iter_batches(columns=list(names)):
                yield batch.select(list(names))
            return
        if file.name.endswith(".gz"):
            content = stack.enter_context(pa.CompressedInputStream(content, "gzip"))
        yield from pa_csv.open_csv(
            content,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(names),
                column_types={name: pa.type_for_alias(types[name]) for name in names},
            ),
        )


def read_profile(folder: Folder) -> tuple[Published, Profile] | None:
    """A snapshot and its profile; None where there is none that can be read."""
    try:
        snapshot = folder.published()
        if snapshot is None:
            return None
        return snapshot, Profile.model_validate(snapshot.manifest.extra.get("profile"))
    except (ManifestInvalidError, ValidationError):
        return None


class TrailingProfiles:
    """Profiles of the days before a day that are published, or are about to be by the same run.

    Each manifest is read once.

    Args:
        folder_of: Date → where its snapshot stands.
        days: How many days before a day count.
    """

    def __init__(self, folder_of: Callable[[str], Folder], days: int) -> None:
        self._folder_of = folder_of
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
        snapshot = read_profile(self._folder_of(date))
        return None if snapshot is None else snapshot[1]
