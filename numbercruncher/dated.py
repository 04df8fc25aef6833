"""Keys of the form `<folder>/date=YYYY-MM-DD/<name>`, and foreign objects in the same folders.

Whoever can write to the bucket may leave something in one of the platform's folders: a note, an
editor's folder marker. It is neither snapshot nor output, and must not stop anything.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import lru_cache
from threading import Lock

from formats import manifest as manifests
from numbercruncher.store import Entry

_NAME = re.compile(r"[\w.-]+", re.ASCII)


class ForeignObjects:
    """Objects in the platform's folders that are not the platform's: their count, the first keys.

    Safe to add to from several threads.
    """

    def __init__(self) -> None:
        self.count = 0
        self.keys: list[str] = []
        self._adding = Lock()

    def add(self, key: str) -> None:
        """Counts an object."""
        with self._adding:
            self.count += 1
            if len(self.keys) < manifests.MOST_NAMED:
                self.keys.append(key)

    def sentence(self, bucket: str) -> str:
        """A warning that says how many there are and names the first."""
        return manifests.describe_foreign(bucket, self.keys, self.count)


def dated(
    entries: Iterable[Entry], folder: str, foreign: ForeignObjects
) -> Iterator[tuple[str, str, Entry]]:
    """Date and name of every entry whose key has them; the others are added to `foreign`.

    A name consists of letters, digits and `._-`, as the platform's do.
    """
    start = f"{folder}/date="
    for entry in entries:
        day, _, name = entry.key.removeprefix(start).partition("/")
        if entry.key.startswith(start) and is_date(day) and _NAME.fullmatch(name):
            yield day, name, entry
        else:
            # A folder's marker is an empty object; obstore hides the slash at the end of its key.
            marker = is_date(day) and not name and not entry.bytes
            foreign.add(f"{entry.key.rstrip('/')}/" if marker else entry.key)


def manifest_key(folder: str, date: str) -> str:
    """The key of a day's manifest."""
    return f"{folder}/date={date}/{manifests.NAME}"


@lru_cache(maxsize=1 << 12)
def is_date(text: str) -> bool:
    """Whether it is a day of the calendar, written YYYY-MM-DD."""
    with suppress(ValueError):
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) and date.fromisoformat(text))
    return False
