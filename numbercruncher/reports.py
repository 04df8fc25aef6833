"""What is reported about a date: its message, and each of its outputs, made or failed."""

import traceback
from collections.abc import Callable
from typing import Any

from numbercruncher.errors import CruncherError
from numbercruncher.outputs import Output, describe, publish
from numbercruncher.plan import Day, Report
from numbercruncher.store import Store


class Pending:
    """A date whose outputs may still be being written.

    Attributes:
        rows: of its snapshot; None where that is not known.
        outputs: name → what waits for the report about it.
    """

    def __init__(self, date: str, day: Day) -> None:
        """Begins with the outputs that are published already."""
        rows = [output["metadata"]["snapshot_rows"] for output in day.unchanged.values()]
        self.date = date
        self.rows: int | None = rows[0] if rows else None
        self.outputs = {name: done(output) for name, output in day.unchanged.items()}

    def message(self) -> Report:
        """The message about the date, once all of it is written."""
        outputs = {name: result() for name, result in self.outputs.items()}
        errors = [output["error"] for output in outputs.values() if output["error"]]
        statuses = {output["status"] for output in outputs.values()}
        return {
            "date": self.date,
            "status": next(s for s in ("failed", "made", "unchanged") if s in statuses),
            "rows": self.rows,
            "error": " ".join(dict.fromkeys(errors)) or None,
            "transient": any(output.get("transient", False) for output in outputs.values()),
            "outputs": outputs,
        }


def done(report: Report) -> Callable[[], Report]:
    """A report that need not be waited for."""
    return lambda: report


def write(store: Store, prefix: str, make: Callable[[], Output], replaces: bool) -> Report:
    """Publishes an output; the report about it, also where that failed."""
    try:
        output = make()
        digest = publish(store, prefix, output, replaces=replaces)
    except Exception as error:
        return failed(error)
    return describe(output.manifest, prefix, "made", digest)


def failed(error: Exception) -> dict[str, Any]:
    """The report of an output that could not be made; unforeseen errors are logged in full."""
    if isinstance(error, CruncherError):
        return {"status": "failed", "error": str(error), "transient": error.transient}
    traceback.print_exception(error)
    sentence = f"An unforeseen error, see the log of the run: {type(error).__name__}: {error}."
    return {"status": "failed", "error": sentence, "transient": False}
