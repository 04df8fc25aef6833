"""Keys of the form `<folder>/date=YYYY-MM-DD/<name>`, and those that only lie beside them.

Whoever can write to the bucket may leave something in a folder of ours: a note, an editor's folder
marker. It is no snapshot and no output, whatever it is called, and must not stop anything.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import lru_cache
from threading import Lock

from numbercruncher.store import Entry

SHOWN = 5
_NAME = re.compile(r"[\w.-]+", re.ASCII)


class Foreign:
    """The objects in folders of ours that are not ours: how many, and the keys of the first.

    Safe to add to from threads.
    """

    def __init__(self) -> None:
        self.count = 0
        self.keys: list[str] = []
        self._adding = Lock()

    def add(self, key: str) -> None:
        """Counts one."""
        with self._adding:
            self.count += 1
            if len(self.keys) < SHOWN:
                self.keys.append(key)

    def sentence(self, bucket: str) -> str:
        """What is there and what became of it."""
        # As literals, since a line break in a key would forge a line of the log.
        keys = ", ".join(map(repr, self.keys)) + (", …" if self.count > len(self.keys) else "")
        return (
            f"Objects in s3://{bucket}/ that are not the platform's were left alone"
            f" ({self.count}): {keys}. Move them out of its folders if nobody needs them there."
        )


def dated(
    entries: Iterable[Entry], folder: str, foreign: Foreign
) -> Iterator[tuple[str, str, Entry]]:
    """Date and name of every entry that has them; of the others `foreign` takes note.

    A name is what the platform gives: a file of letters, digits and `._-`.
    """
    start = f"{folder}/date="
    for entry in entries:
        day, _, name = entry.key.removeprefix(start).partition("/")
        if entry.key.startswith(start) and is_date(day) and _NAME.fullmatch(name):
            yield day, name, entry
        else:
            # The marker of a folder is empty, and obstore hides the slash at its end.
            marker = is_date(day) and not name and not entry.bytes
            foreign.add(f"{entry.key.rstrip('/')}/" if marker else entry.key)


@lru_cache(maxsize=1 << 12)
def is_date(text: str) -> bool:
    """Whether it is a day of the calendar, written YYYY-MM-DD."""
    with suppress(ValueError):
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) and date.fromisoformat(text))
    return False
