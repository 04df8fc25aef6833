"""What a look finds: a problem, or that what was one is well, or that this cannot be seen now.

The words of a problem are written by the module of its kind. What is not among the findings any
more is forgotten without a word: nobody has seen it well.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from platform_assets.partitions import list_dates
from resources.alerts import Message

_MOST_CHARACTERS = 1500


@dataclass(frozen=True)
class Problem:
    """Something that is wrong now, and that somebody should do something about.

    Attributes:
        key: Equal as long as it is the same problem.
        title: What is wrong, in one line.
        reason: Why. A change of it is told, so it holds nothing that changes from look to look.
        to_do: What a person can do about it.
        link: Where to look, a URL.
        assets: Which assets are concerned, `airbnb/snapshot` for instance.
        dates: Which of their dates, in order.
        figures: Numbers of the moment; that they change is not told.
        run_id: The failed run, whose work has to be done by another one for all to be well.
        refused_date: The newest date whose classifier that run's gate refused; one of this date or
            a later one has to serve for all to be well.
    """

    key: str
    title: str
    reason: str
    to_do: str
    link: str
    assets: Sequence[str] = ()
    dates: Sequence[str] = ()
    figures: str = ""
    run_id: str = ""
    refused_date: str = ""

    @property
    def digest(self) -> str:
        """Changes with what the message says."""
        lines = [self.title, self.reason, *self.assets, *self.dates]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def message(self) -> Message:
        """What somebody is told of it."""
        lines = {
            "Asset": ", ".join(self.assets),
            "Date": list_dates(self.dates),
            "Reason": shorten(self.reason),
            "Now": self.figures,
            "To do": self.to_do,
        }
        text = [f"{name}: {value}" for name, value in lines.items() if value]
        return Message(self.title, "\n".join([*text, self.link]))


@dataclass(frozen=True)
class Resolved:
    """The problem is over: the good state itself was seen."""

    key: str


@dataclass(frozen=True)
class Unknown:
    """Whether the problem is over could not be seen, or was not looked at: it stays as it is."""

    key: str


Finding = Problem | Resolved | Unknown


def well_again(title: str) -> Message:
    """What somebody is told of a problem that is over."""
    return Message(f"Well again: {title}", "This is over; nothing is left to do.")


def shorten(text: str) -> str:
    """A text that fits into a message."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"
