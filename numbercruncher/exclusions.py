"""Snapshots that price changes go without, and those without which none are made.

Which snapshots there are is in `snapshot_index.py`; what is made of them in `price_history.py`.
"""

from numbercruncher.errors import CruncherError, SnapshotInvalidError
from numbercruncher.snapshot_index import SnapshotIndex


class EarlierSnapshotError(CruncherError):
    """Price changes cannot be made since an earlier snapshot could not be read."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


class Exclusions:
    """What could not be used so far, on the way from date to date.

    Attributes:
        left_out: dates whose snapshots cannot be used, with their fingerprints.
        unreadable: why nothing later can be made; None while all of it can.
    """

    def __init__(self, index: SnapshotIndex) -> None:
        self._index = index
        self.left_out: dict[str, str] = {}
        self.unreadable: EarlierSnapshotError | None = None

    def add(self, day: str, error: Exception) -> None:
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
        elif self.unreadable is None:
            self.unreadable = EarlierSnapshotError(
                f"The prices of {day} are needed for all later dates, and could not be read:"
                f" {error}",
                transient=isinstance(error, CruncherError) and error.transient,
            )


def other_ids(date: str, *, numbers: bool) -> SnapshotInvalidError:
    """The error of a snapshot whose ids are of another kind than those before it.

    Args:
        date: its date.
        numbers: whether its ids are numbers.
    """
    kinds = ("numbers", "texts") if numbers else ("texts", "numbers")
    return SnapshotInvalidError(
        f"The ids in the snapshot of {date} are {kinds[0]}, those in snapshots "
        f"before it {kinds[1]}. Materialise the snapshots of one kind again."
    )
