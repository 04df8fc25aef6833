"""What was told already, and what is to be told now: the difference of two looks.

There is no queue: what could not be delivered is not put down as told, so that the next look finds
it still to be told, if it is still so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from monitoring.problems import Problem, well_again
from resources.alerts import Message


class Entry(BaseModel):
    """What was told of a problem.

    Attributes:
        digest: Of the problem at that time.
        title: Of the problem, for the message that it is over.
        since: Of the problem.
    """

    digest: str
    title: str
    since: float | None = None

    @classmethod
    def of(cls, problem: Problem) -> "Entry":
        """What is put down of a problem that was told."""
        return cls(digest=problem.digest, title=problem.title, since=problem.since)


@dataclass(frozen=True)
class News:
    """Something to tell.

    Attributes:
        key: Of the problem.
        message: None where it is forgotten without a word.
        entry: What is put down once it is told; None where the problem is no more.
    """

    key: str
    message: Message | None
    entry: Entry | None


def news(
    problems: Sequence[Problem], told: Mapping[str, Entry], *, followed_since: datetime
) -> Iterator[News]:
    """What has to be told: problems that are new or have changed, and those that are over.

    Args:
        problems: All that there are now.
        told: By the problems' keys.
        followed_since: What came about before is not followed any more: nobody knows whether it is
            over, and it is forgotten.
    """
    now = {problem.key: problem for problem in problems}
    for key, problem in now.items():
        if key not in told or told[key].digest != problem.digest:
            yield News(key, problem.message(), Entry.of(problem))
    for key, entry in told.items():
        if key not in now:
            old = entry.since is not None and entry.since < followed_since.timestamp()
            yield News(key, None if old else well_again(entry.title), None)
