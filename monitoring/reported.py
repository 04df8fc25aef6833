"""What was reported already, and what is to be reported now: the difference of two looks.

There is no queue: what could not be delivered is not put down as reported, so that the next look
finds it still to be reported, if it is still so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel

from monitoring.problems import Problem, well_again
from resources.alerts import Message


class Entry(BaseModel):
    """What was reported of a problem.

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
        """What is put down of a problem that was reported."""
        return cls(digest=problem.digest, title=problem.title, since=problem.since)


@dataclass(frozen=True)
class News:
    """Something to tell.

    Attributes:
        key: Of the problem.
        message: None where it is forgotten without a word.
        entry: What is put down once it is reported; None where the problem is no more.
    """

    key: str
    message: Message | None
    entry: Entry | None


def news(
    problems: Sequence[Problem], reported: Mapping[str, Entry], *, followed_since: datetime
) -> Iterator[News]:
    """What has to be reported: problems that are new or have changed, and those that are over.

    Args:
        problems: All that there are now.
        reported: By the problems' keys.
        followed_since: What came about before is not followed any more: nobody knows whether it is
            over, and it is forgotten.
    """
    now = {problem.key: problem for problem in problems}
    for key, problem in now.items():
        if key not in reported or reported[key].digest != problem.digest:
            yield News(key, problem.message(), Entry.of(problem))
    for key, entry in reported.items():
        if key not in now:
            old = entry.since is not None and entry.since < followed_since.timestamp()
            yield News(key, None if old else well_again(entry.title), None)
