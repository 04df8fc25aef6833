"""What was reported already, and what is to be reported now: the difference of two looks.

There is no queue: what could not be delivered is not put down as reported, so that the next look
finds it still to be reported, if it is still so. Only a message that its target refuses for good is
put down, as `jobs.alerts.send` explains.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from monitoring.findings import Finding, Problem, Resolved, well_again
from resources.alerts import Message


class Entry(BaseModel):
    """What was reported of a problem."""

    digest: str
    title: str
    run_id: str = ""
    refused_date: str = ""


@dataclass(frozen=True)
class Change:
    """A difference between what was reported and what is found.

    Attributes:
        key: Of the problem.
        message: What is told of it; None where nobody needs to be told.
        entry: What is put down once it is told; None where the problem is over or forgotten.
    """

    key: str
    message: Message | None
    entry: Entry | None


def changes(findings: Iterable[Finding], reported: Mapping[str, Entry]) -> Iterator[Change]:
    """Problems that are new or have changed, those that are over, and at last those to forget."""
    found_keys: set[str] = set()
    for finding in findings:
        found_keys.add(finding.key)
        before = reported.get(finding.key)
        if isinstance(finding, Problem):
            entry = Entry.model_validate(finding, from_attributes=True)
            is_news = before is None or before.digest != entry.digest
            if entry != before:
                yield Change(finding.key, finding.message() if is_news else None, entry)
        elif isinstance(finding, Resolved) and before:
            yield Change(finding.key, well_again(before.title), None)
    for key in reported.keys() - found_keys:
        yield Change(key, None, None)
