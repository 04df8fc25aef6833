"""Runs of a module over dates, and what it reports of each.

The module reports a date by a Pipes message `{"date": …}`. What else is in it is its own affair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from platform_assets.chain import ChainRun
from platform_assets.errors import PlatformError
from resources.docker import ModuleRun, ModuleRunError
from resources.errors import ResourceError

# What of a run's figures is true of each of its dates.
_OF_EACH_DATE = ("mode", "image", "image_digest")


class NotMadeError(PlatformError):
    """A module says that it could not make a date, and why; or it said nothing of it."""


class NotMadeNowError(NotMadeError):
    """The same, where the same attempt may succeed later."""

    transient: ClassVar[bool] = True


@dataclass(frozen=True)
class ModuleReport:
    """What a module reported.

    Attributes:
        run_metadata: What ran it: the same of every date.
        unreported: Why there is no message of a date that is not among them.
    """

    messages: Sequence[Mapping[str, Any]]
    by_date: Mapping[str, Mapping[str, Any]]
    run_metadata: Mapping[str, Any]
    unreported: Exception


def run_module(run: ChainRun, start: Callable[[], ModuleRun], *, name: str) -> ModuleReport:
    """Run a module once. Where it breaks off, the dates that it had reported count.

    Args:
        name: What messages call it, like "The number cruncher".
    """
    try:
        ended = start()
    except ResourceError as error:
        run.context.log.warning(str(error))
        messages = error.messages if isinstance(error, ModuleRunError) else ()
        figures, unreported = {}, error
    else:
        messages, figures = ended.messages, ended.metadata
        unreported = NotMadeError(f"{name} did not report this date.")
    by_date = {message["date"]: message for message in messages if "date" in message}
    if figures:
        how = ", ".join(f"{label} {value}" for label, value in figures.items())
        run.context.log.info(f"{name} has made {len(by_date)} date(s): {how}")
    return ModuleReport(
        messages=messages,
        by_date=by_date,
        run_metadata={label: figures[label] for label in _OF_EACH_DATE if label in figures},
        unreported=unreported,
    )


def refusal_of(message: Mapping[str, Any]) -> NotMadeError | None:
    """The error that a module's message tells; None where it made what it was asked for."""
    if not message.get("error"):
        return None
    error = NotMadeNowError if message.get("transient") else NotMadeError
    return error(str(message["error"]))
