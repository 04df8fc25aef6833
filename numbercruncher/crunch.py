"""Makes the missing outputs of a request, one date after the other, and reports every date.

A few snapshots are read ahead and a few outputs are written in the background, so memory stays
bounded and a range of dates takes one pass. A date that fails does not stop the others.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from numbercruncher.errors import StoreUnavailableError
from numbercruncher.outputs import (
    PRICE_CHANGES,
    Output,
    make_neighbourhood_summary,
    make_price_changes,
)
from numbercruncher.plan import Day, Report, find_outdated, make_plan
from numbercruncher.price_history import PriceHistory
from numbercruncher.reports import Pending, done, failed, write
from numbercruncher.request import Request
from numbercruncher.snapshot_index import SnapshotIndex
from numbercruncher.snapshot_rows import Snapshot
from numbercruncher.store import Store

READ_AHEAD = 2
WRITERS = 8
UNWRITTEN_DATES = 6
FAILURES_IN_A_ROW = 3
"""Dates that fail in a row because of the store, before the rest is given up."""


class Engine(Protocol):
    """What computes the outputs of dates, one after the other.

    Attributes:
        has_price_changes: whether there are price changes of a date that was made.
    """

    has_price_changes: bool

    def make(self, date: str) -> Pending:
        """Makes the missing outputs of a date; they are written in the background."""
        ...


@dataclass(frozen=True)
class Work:
    """What an engine is made of, at hand once there is a plan.

    Attributes:
        store: the bucket.
        request: what to make.
        index: the snapshots that there are.
        plan: date → what of it is to be made.
        readers, writers: threads that read and write in the background.
    """

    store: Store
    request: Request
    index: SnapshotIndex
    plan: Mapping[str, Day]
    readers: ThreadPoolExecutor
    writers: ThreadPoolExecutor


EngineMaker = Callable[[Work], Engine]
"""Makes an engine, which may compute already."""


def crunch(
    store: Store,
    request: Request,
    report: Callable[[Report], None],
    warn: Callable[[str], None],
    make_engine: EngineMaker | None = None,
) -> list[str]:
    """Makes the missing outputs of a request and reports every date, in order.

    Args:
        store: the bucket.
        request: what to make.
        report: called with the message about each date: `date`, `status`, `rows`, `error`,
            `transient`, `outputs`.
        warn: called with warnings that belong to no single date.
        make_engine: what computes; pandas, in this process, where None.

    Returns:
        Dates whose price changes should be made again, since an earlier snapshot has come or
        changed: later ones, and those of the request where that happened meanwhile.

    Raises:
        CruncherError: nothing can be done at all (no bucket, no access, no answer).
    """
    with ExitStack() as stack:
        readers = stack.enter_context(ThreadPoolExecutor(READ_AHEAD))
        writers = stack.enter_context(ThreadPoolExecutor(WRITERS))
        stack.callback(writers.shutdown, cancel_futures=True)
        stack.callback(readers.shutdown, cancel_futures=True)
        index = SnapshotIndex(store, request.listings_prefix)
        if PRICE_CHANGES in request.outputs:
            index.list_ahead(readers)
        plan = make_plan(store, request, index)
        work = Work(store, request, index, plan, readers, writers)
        engine: Engine = (make_engine or _Pandas)(work)
        _report_in_order(request.dates, engine.make, report)
    outdated: list[str] = []
    if PRICE_CHANGES in request.outputs and engine.has_price_changes:
        outdated = find_outdated(store, request, index)
    if index.foreign.count:
        warn(index.foreign.sentence(store.bucket))
    return outdated


def _report_in_order(
    dates: tuple[str, ...], make: Callable[[str], Pending], report: Callable[[Report], None]
) -> None:
    waiting: deque[Pending] = deque()
    failures = 0
    for number, date in enumerate(dates, start=1):
        waiting.append(make(date))
        while waiting and (len(waiting) > UNWRITTEN_DATES or number == len(dates)):
            message = waiting.popleft().message()
            report(message)
            failures = failures + 1 if message["transient"] else 0
            if failures == FAILURES_IN_A_ROW and (waiting or number < len(dates)):
                raise StoreUnavailableError(
                    f"{failures} dates failed one after the other, so the rest was given up:"
                    f" {message['error']}"
                )


class _Pandas:
    """Makes one date after the other, in this process."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._coming = deque(date for date, day in work.plan.items() if day.todo)
        self._reading: dict[str, Future[Snapshot]] = {}
        self._prices = PriceHistory(
            work.store,
            work.index,
            work.request.prefixes[PRICE_CHANGES],
            work.request.code_version,
        )
        self.has_price_changes = False

    def make(self, date: str) -> Pending:
        """Makes the missing outputs of a date; they are written in the background."""
        day = self._work.plan[date]
        pending = Pending(date, day)
        # Whoever made them may not have come to look for what is outdated by them.
        self.has_price_changes |= PRICE_CHANGES in pending.outputs
        if not day.todo:
            return pending
        snapshot = self._read(date, day.todo, pending)
        if snapshot is not None:
            pending.rows = snapshot.row_count
            for name in day.todo:
                pending.outputs[name] = self._make_output(name, snapshot, name in day.replaces)
        return pending

    def _read(self, date: str, todo: list[str], pending: Pending) -> Snapshot | None:
        """The day's snapshot, or a failure of all outputs that need it."""
        while self._coming and len(self._reading) <= READ_AHEAD:
            coming = self._coming.popleft()
            manifest = self._work.plan[coming].manifest
            future = self._work.readers.submit(self._work.index.read, coming, manifest)
            self._reading[coming] = future
        try:
            return self._reading.pop(date).result()
        except MemoryError:
            raise
        except Exception as error:
            if PRICE_CHANGES in self._work.request.outputs:
                self._prices.exclusions.add(date, error)
            pending.outputs |= dict.fromkeys(todo, done(failed(error)))
            return None

    def _make_output(self, name: str, snapshot: Snapshot, replaces: bool) -> Callable[[], Report]:
        prefix = f"{self._work.request.prefixes[name]}/date={snapshot.date}"
        try:
            output = self._compute(name, snapshot)
        except MemoryError:
            raise
        except Exception as error:
            return done(failed(error))
        work = self._work
        return work.writers.submit(write, work.store, prefix, lambda: output, replaces).result

    def _compute(self, name: str, snapshot: Snapshot) -> Output:
        if name != PRICE_CHANGES:
            return make_neighbourhood_summary(snapshot, self._work.request.code_version)
        output = make_price_changes(
            snapshot,
            self._prices.as_of(snapshot),
            self._work.index,
            self._prices.exclusions.left_out,
            self._work.request.code_version,
        )
        self.has_price_changes = True
        return output
