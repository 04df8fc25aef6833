"""Exporting days of the table: many at a time, judged in their order, published if they are good.

What the rows must be like to be published stands in `quality.py`.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from formats.columns import ColumnDifferences
from platform_assets.checks import DateRefusedError, Verdict
from platform_assets.errors import PlatformError
from platform_assets.reports import Materialization, Outcome
from platform_assets.tables import quality
from platform_assets.tables.published_snapshots import TrailingProfiles
from platform_assets.tables.source_table import SourceTable, id_columns
from resources.cancellation import CANCEL_CHECK_SECONDS
from resources.errors import ResourceError
from resources.postgres import (
    Exported,
    Extract,
    PostgresResource,
    Profile,
    Session,
    SourceColumn,
    UnwritableValueError,
)
from resources.s3 import Folder, ObjectStore, ObjectWriter, Publication

CODE_VERSION = "3"
FAILURES_IN_A_ROW = 3


class DayVanishedError(PlatformError):
    """The table has lost the rows of a day that is published."""


class IncompleteExportError(PlatformError):
    """Not as many rows arrived as the table has."""


class LoadUnderWayError(PlatformError):
    """The day's rows became more or fewer while they were exported."""

    transient: ClassVar[bool] = True


class StoppedError(PlatformError):
    """The run was cancelled before the day was published."""


@dataclass(frozen=True)
class _ExportedDay:
    """A day whose rows are uploaded but not visible yet.

    Attributes:
        seconds: How long its export took.
        cleanup: Aborts the publication when it is closed, unless that was committed.
        examples: Column → one of the values that have no place in its type.
    """

    date: str
    publication: Publication
    cleanup: ExitStack
    seconds: float
    exported: Exported
    profile: Profile
    differences: ColumnDifferences
    examples: Mapping[str, str]


class Exporter:
    """Publishes the snapshots of many dates.

    As many dates are exported at a time as the table's connections allow. The thread that asks
    judges them in their order: verdicts on drift depend on what is published before a date, and on
    the dates of the same run that passed, even if the store then does not take one. Dates that
    passed are committed while later ones are exported. Of runs at the same time, each sees what
    the others have published until then.

    Args:
        table: Which table, what of it may leave, and the limits of what is published.
        check_cancelled: Called every few seconds; what it raises interrupts the export.
    """

    def __init__(
        self,
        postgres: PostgresResource,
        table: SourceTable,
        store: ObjectStore,
        *,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self._postgres = postgres
        self._table = table
        self._store = store
        self._check_cancelled = check_cancelled
        self._trailing = TrailingProfiles(self._folder, table.limits.drift_days)
        # What an interruption cancels, and by what threads know of it.
        self._sessions: set[Session] = set()
        self._stopped = threading.Event()

    def export(self, dates: Sequence[str]) -> dict[str, Outcome]:
        """Export, judge and publish dates, ascending; a date that fails, fails alone.

        Where three in a row fail since the database or the store does not do its part, the rest is
        not tried.
        """
        connections = self._table.connections
        self._trailing.forget(dates)
        # By itself, a date is counted while it is exported; in a range, other dates are exported.
        two_sessions = len(dates) == 1 and connections > 1
        not_begun = deque(dates)
        exporting: dict[str, Future[_ExportedDay]] = {}  # in the order of the dates
        committing: dict[str, Future[Outcome]] = {}
        outcomes: dict[str, Outcome] = {}  # in the order in which they came
        with (
            ThreadPoolExecutor(connections, thread_name_prefix="export") as exports,
            ThreadPoolExecutor(connections, thread_name_prefix="commit") as commits,
        ):
            try:
                while not_begun or exporting:
                    while not_begun and len(exporting) < connections:
                        date = not_begun.popleft()
                        exporting[date] = exports.submit(
                            self._export_day, date, two_sessions=two_sessions
                        )
                    if not next(iter(exporting.values())).done():
                        running = [export for export in exporting.values() if not export.done()]
                        wait(running, timeout=CANCEL_CHECK_SECONDS, return_when=FIRST_COMPLETED)
                    self._check_cancelled()
                    self._judge_exported(exporting, committing, outcomes, commits)
                    self._take_commits(committing, outcomes, most_running=connections)
                    latest = list(outcomes.values())[-FAILURES_IN_A_ROW:]
                    if len(latest) == FAILURES_IN_A_ROW and all(map(_is_outage, latest)):
                        outcomes.update(dict.fromkeys(not_begun, latest[-1]))
                        not_begun.clear()
                self._take_commits(committing, outcomes, most_running=0)
            except BaseException:  # the run is interrupted: nothing more is begun or published
                self._stop([*exporting.values(), *committing.values()])
                for export in exporting.values():
                    if export.exception() is None:
                        export.result().cleanup.close()
                raise
        return {date: outcomes[date] for date in dates}

    def _take_commits(
        self,
        committing: dict[str, Future[Outcome]],
        outcomes: dict[str, Outcome],
        *,
        most_running: int,
    ) -> None:
        """Take ended commits out, and wait until no more than `most_running` are left."""
        while True:
            for date in [date for date, commit in committing.items() if commit.done()]:
                outcomes[date] = committing.pop(date).result()
            if len(committing) <= most_running:
                return
            wait(committing.values(), timeout=CANCEL_CHECK_SECONDS, return_when=FIRST_COMPLETED)
            self._check_cancelled()

    def _judge_exported(
        self,
        exporting: dict[str, Future[_ExportedDay]],
        committing: dict[str, Future[Outcome]],
        outcomes: dict[str, Outcome],
        commits: ThreadPoolExecutor,
    ) -> None:
        """Take failed exports out, and have good ones committed when their turn has come."""
        all_before_are_judged = True
        for date, export in list(exporting.items()):
            if not export.done():
                all_before_are_judged = False
                continue
            try:
                day = export.result()
                if not all_before_are_judged:
                    continue
                verdicts = self._judge(day)
            except Exception as error:  # reported with its date
                outcomes[date] = error
            else:
                committing[date] = commits.submit(self._commit, day, verdicts)
            del exporting[date]

    def _stop(self, jobs: Sequence[Future[Any]]) -> None:
        """Have all threads end."""
        self._stopped.set()
        # A session that is between two statements has nothing to cancel yet.
        while running := [job for job in jobs if not job.done()]:
            for session in list(self._sessions):
                session.cancel()
            wait(running, timeout=0.2)

    def _export_day(self, date: str, *, two_sessions: bool) -> _ExportedDay:
        """Upload a day's rows and read their figures. In a thread of its own."""
        started = time.monotonic()
        with ExitStack() as cleanup:
            publication = cleanup.enter_context(Publication(self._folder(date)))
            with self._open(self._postgres.connect()) as session:
                columns, differences = self._table.compare(session)
                if differences.breaking:
                    schema = quality.judge_schema(differences, self._table.rules)
                    raise _refused({"schema": schema})
                extract = self._table.extract(columns, date)
                foreign = session.examine(extract).foreign
                self._refuse_other_days(session, columns)
                sink = publication.open(self._table.file)
                # Two sessions would see two states of another server.
                if two_sessions and not foreign:
                    exported, profile = self._export_over_two(session, extract, sink)
                else:
                    exported = session.export(extract, sink, format=self._table.format)
                    profile = session.profile(
                        extract, self._table.rules.measure, id_columns(extract)
                    )
                examples = {name: session.lost_value(extract, name) or "" for name in profile.lost}
                # Of a table without days the rows are of now, which is always another.
                rows_by_now = exported.rows
                if self._table.day:
                    rows_by_now = session.rows_by_now(extract, exported.rows, foreign=foreign)
            if exported.rows != profile.rows:
                raise IncompleteExportError(
                    f"{exported.rows} rows arrived of {profile.rows} in the table: nothing was "
                    "published. Materialise the snapshot again."
                )
            if rows_by_now != exported.rows:
                raise LoadUnderWayError(
                    f"The table {self._table.source} had {exported.rows} rows of {date} when they "
                    f"were exported and has {rows_by_now} by now: the day is being loaded. Nothing "
                    "was published; materialise the snapshot when it is loaded."
                )
            return _ExportedDay(
                date=date,
                publication=publication,
                cleanup=cleanup.pop_all(),
                seconds=time.monotonic() - started,
                exported=exported,
                profile=profile,
                differences=differences,
                examples=examples,
            )

    def _export_over_two(
        self, session: Session, extract: Extract, sink: ObjectWriter
    ) -> tuple[Exported, Profile]:
        """Export the rows, and compute their figures over a second connection meanwhile."""
        with (
            self._open(session.second_session(extract.table)) as second,
            ThreadPoolExecutor(1, thread_name_prefix="profile") as thread,
        ):
            measure = self._table.rules.measure
            profile = thread.submit(second.profile, extract, measure, id_columns(extract))
            try:
                exported = session.export(extract, sink, format=self._table.format)
            except BaseException:
                second.cancel()
                raise
            return exported, profile.result()

    def _judge(self, day: _ExportedDay) -> dict[str, Verdict]:
        """The verdict of every check; later days are compared with a day that is good."""
        try:
            candidate = quality.Candidate(
                day.profile, day.differences, self._trailing.before(day.date), day.examples
            )
            verdicts = quality.judge(candidate, self._table.limits, self._table.rules)
            # An empty day may yet be refused for what is published of it, which then stays.
            if day.profile.rows and not any(verdict.stops for verdict in verdicts.values()):
                self._trailing.add(day.date, day.profile)
        except BaseException:
            day.cleanup.close()
            raise
        return verdicts

    def _commit(self, day: _ExportedDay, verdicts: dict[str, Verdict]) -> Outcome:
        """Publish a day, unless a check refuses it. In a thread of its own."""
        with day.cleanup:
            if any(verdict.stops for verdict in verdicts.values()):
                return _refused(verdicts)
            try:
                if not day.profile.rows:
                    self._refuse_to_empty(day.date)
                self._go_on()
                published = day.publication.commit(
                    partition=day.date,
                    rows=day.exported.rows,
                    columns=day.exported.columns,
                    code_version=CODE_VERSION,
                    extra={"profile": day.profile.model_dump()},
                )
            except Exception as error:  # reported with its date
                return error
        metadata = {
            "dagster/uri": published.folder.file_uri(self._table.file),
            **self._table.describe(published.manifest, day.profile),
            "export_seconds": round(day.seconds, 3),
            **_describe_columns(day.differences),
            "left_out": self._table.leave_out,
            "unchanged": not published.changed,
            **_let_through(verdicts),
        }
        return Materialization(metadata, published.manifest.content_sha256, verdicts)

    def _folder(self, date: str) -> Folder:
        return self._table.folder(self._store, date)

    @contextmanager
    def _open(self, opening: AbstractContextManager[Session]) -> Iterator[Session]:
        """A session that an interruption of the run cancels."""
        with opening as session:
            self._sessions.add(session)
            try:
                self._go_on()
                yield session
            finally:
                self._sessions.discard(session)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("The run was cancelled: nothing more is published.")

    def _refuse_other_days(self, session: Session, columns: tuple[SourceColumn, ...]) -> None:
        """Rows whose day is written in another way may be of any day, and would be missing."""
        days = self._table.days(columns)
        odd = session.lost_value(days, self._table.day) if days else None
        if odd is not None:
            raise DateRefusedError(
                f"The table {self._table.source} has rows whose {self._table.day} is {odd!r}, and "
                "no day can be published without knowing whether they are of it: days as text "
                "have to be written like 2026-11-26. Correct them, or cast them in a query "
                f"({self._table.setting('query')})."
            )

    def _refuse_to_empty(self, date: str) -> None:
        folder = self._folder(date)
        published = folder.published()
        if published is not None and published.manifest.rows:
            raise DayVanishedError(
                f"The table {self._table.source} has no rows of {date} any more, of which "
                f"{published.manifest.rows} are published: load the day again, or delete "
                f"{folder.uri}/ if they are to be gone."
            )


def _is_outage(outcome: Outcome) -> bool:
    """Whether the database or the store did not do its part."""
    # The database did when only a value of this day cannot be written.
    return isinstance(outcome, ResourceError) and not isinstance(outcome, UnwritableValueError)


def _refused(verdicts: dict[str, Verdict]) -> DateRefusedError:
    reasons = [f"{name}: {v.description}" for name, v in verdicts.items() if v.stops]
    message = f"The rows were not published; what was before, stays. {' '.join(reasons)}"
    return DateRefusedError(message, verdicts)


def _describe_columns(differences: ColumnDifferences) -> dict[str, object]:
    named = {"new_columns": differences.new, "null_columns": differences.absent}
    return {label: [c.name for c in columns] for label, columns in named.items() if columns}


def _let_through(verdicts: dict[str, Verdict]) -> dict[str, object]:
    """The limits that are not the usual ones, if the day is published for that reason only."""
    let_through = {
        name: verdict.metadata["let_through"]
        for name, verdict in verdicts.items()
        if not verdict.stops and "let_through" in verdict.metadata
    }
    return {"let_through": let_through} if let_through else {}
