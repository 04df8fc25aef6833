"""A day's listings as one object in S3, published with a manifest that says what is in it.

What the rows must be like to be published stands in `quality.py`.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import dagster as dg

from formats.columns import compare_columns
from platform_assets.airbnb import quality
from platform_assets.airbnb.listings import ListingsTable, id_columns, listings
from platform_assets.airbnb.published import Trailing, prefix, read_profile
from platform_assets.outcomes import Made, Verdict
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
from resources.s3 import (
    Folder,
    Manifest,
    ObjectStore,
    ObjectWriter,
    Publication,
    read_manifest,
)

CODE_VERSION = "3"
FAILURES_IN_A_ROW = 3

SPEC = dg.AssetSpec(
    key=["airbnb", "snapshot"],
    deps=[listings],
    group_name="airbnb",
    kinds={"s3", "postgres"},
    owners=["team:data-engineering"],
    description=(
        "The rows of one day as they were in one state of the table, ordered by id. A day without "
        "rows is an empty snapshot that says so; a day that a check refuses is not published."
    ),
    code_version=CODE_VERSION,
    skippable=True,
)


class DayRefusedError(Exception):
    """The day's rows are not what readers rely on; nothing was published."""


class DayVanishedError(Exception):
    """The table has lost the rows of a day that is published."""


class IncompleteExportError(Exception):
    """Not as many rows arrived as the table has."""


class LoadUnderWayError(Exception):
    """The day's rows became more or fewer while they were exported."""

    transient: ClassVar[bool] = True


class StoppedError(Exception):
    """The run was cancelled before the day was published."""


@dataclass(frozen=True)
class Taken:
    """What became of a date: what was made or why not, and what each check of its rows found."""

    outcome: Made | Exception
    verdicts: dict[str, Verdict]

    @property
    def transient(self) -> bool:
        """Whether another attempt may succeed by itself."""
        return getattr(self.outcome, "transient", False)

    def __str__(self) -> str:
        """Why it was not made."""
        return str(self.outcome)


class Exporter:
    """Takes the snapshots of many dates, as many at a time as the table's connections allow.

    Verdicts on drift depend on what is published before a date, and on the dates of the same run
    that were found good, even if the store then does not take one; how many are exported at once
    changes nothing. Of runs at the same time, each sees what the others have published until then.

    Args:
        postgres: The database.
        table: Which table, what of it may leave, and the limits of what is published.
        store: Where to.
    """

    def __init__(
        self, postgres: PostgresResource, table: ListingsTable, store: ObjectStore
    ) -> None:
        self._postgres = postgres
        self._table = table
        self._store = store
        self._trailing = Trailing(store, table.limits.drift_days)
        self._sessions: set[Session] = set()
        self._stopped = threading.Event()
        self._judged: dict[str, threading.Event] = {}
        self._counted_meanwhile = False
        self._in_a_row: list[ResourceError] = []

    def take(self, dates: Sequence[str]) -> dict[str, Taken]:
        """Export, judge and publish each date, ascending; a date that fails, fails alone.

        A date is judged when those before it have been; they may still be in publication then.
        Where three in a row fail since the database or the store does not do its part, the rest is
        not tried.
        """
        self._in_a_row = []
        self._trailing.forget(dates)
        self._judged = {date: threading.Event() for date in dates}
        self._counted_meanwhile = len(dates) == 1 and self._table.connections > 1
        taken: dict[str, Future[Taken]] = {}
        with ThreadPoolExecutor(self._table.connections, thread_name_prefix="snapshot") as pool:
            try:
                taken.update((date, pool.submit(self._take, date)) for date in dates)
                return {date: future.result() for date, future in taken.items()}
            except BaseException:  # the run is interrupted: nothing more is begun or published
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                # One that is between two statements has nothing to cancel yet.
                while left := [future for future in taken.values() if not future.done()]:
                    for session in list(self._sessions):
                        session.cancel()
                    wait(left, timeout=0.2)
                raise

    def _take(self, date: str) -> Taken:
        failures = self._in_a_row
        try:
            if len(failures) >= FAILURES_IN_A_ROW:
                return Taken(failures[-1], {})
            taken = self._snapshot(date)
        except UnwritableValueError as error:  # of this day's rows
            self._in_a_row = []
            return Taken(error, {})
        except ResourceError as error:
            self._in_a_row = [*self._in_a_row, error]
            return Taken(error, {})
        except Exception as error:  # told with its date when all dates have been tried
            return Taken(error, {})
        finally:
            self._judged[date].set()
        self._in_a_row = []
        return taken

    def _snapshot(self, date: str) -> Taken:
        file = f"listings.{self._table.format}"
        with Publication(Folder(self._store, prefix(date))) as publication:
            with self._held(self._postgres.connect()) as session:
                columns, differences = self._table.compare(session)
                if differences.breaking:
                    return _refused({"schema": quality.judge_schema(differences)})
                extract = self._table.extract(columns, date)
                foreign = session.examine(extract).foreign
                self._refuse_other_days(session, columns)
                sink = publication.open(file)
                exported, profile = self._export(session, extract, sink, foreign=foreign)
                examples = {name: session.lost_value(extract, name) or "" for name in profile.lost}
                # Of a table without days the rows are of now, which is always another.
                by_now = None
                if self._table.day:
                    by_now = session.rows_by_now(extract, exported.rows, foreign=foreign)
            if exported.rows != profile.rows:
                raise IncompleteExportError(
                    f"{exported.rows} rows arrived of {profile.rows} in the table: nothing was "
                    "published. Materialise the snapshot again."
                )
            if by_now not in (None, exported.rows):
                raise LoadUnderWayError(
                    f"The table {self._table.source} had {exported.rows} rows of {date} when they "
                    f"were exported and has {by_now} by now: the day is being loaded. Nothing was "
                    "published; materialise the snapshot when it is loaded."
                )
            self._wait_for_those_before(date)
            trailing = self._trailing.before(date)
            candidate = quality.Candidate(profile, differences, trailing, examples)
            verdicts = quality.judge(candidate, self._table.limits)
            if any(verdict.stops for verdict in verdicts.values()):
                return _refused(verdicts)
            if not profile.rows:
                self._refuse_to_empty(date)
            self._trailing.add(date, profile)
            self._judged[date].set()
            self._go_on()
            published = publication.commit(
                partition=date,
                rows=exported.rows,
                columns=exported.columns,
                code_version=CODE_VERSION,
                extra={"profile": profile.model_dump()},
            )
        metadata = {
            **_described(published.manifest),
            "dagster/uri": published.folder.file_uri(file),
            "new_columns": [column.name for column in differences.new],
            "null_columns": [column.name for column in differences.absent],
            "left_out": self._table.leave_out,
            "unchanged": not published.changed,
            **_let_through(verdicts),
        }
        return Taken(Made(metadata, data_version=published.manifest.content_sha256), verdicts)

    def _wait_for_those_before(self, date: str) -> None:
        # For all: of the one just before, a failure may have come early.
        for other, judged in self._judged.items():
            if other < date:
                judged.wait()

    def _export(
        self, session: Session, extract: Extract, sink: ObjectWriter, *, foreign: bool
    ) -> tuple[Exported, Profile]:
        """The rows to where they go, and their figures as the database has them."""
        ids = id_columns(extract)
        # Two sessions would see two states of another server.
        if not self._counted_meanwhile or foreign:
            exported = session.export(extract, sink, format=self._table.format)
            return exported, session.profile(extract, "price", ids)
        # By itself, a date is counted while it is exported; in a range, other dates are exported.
        with (
            self._held(session.twin(extract.table)) as twin,
            ThreadPoolExecutor(1, thread_name_prefix="profile") as thread,
        ):
            profile = thread.submit(twin.profile, extract, "price", ids)
            try:
                exported = session.export(extract, sink, format=self._table.format)
            except BaseException:
                twin.cancel()
                raise
            return exported, profile.result()

    @contextmanager
    def _held(self, opening: AbstractContextManager[Session]) -> Iterator[Session]:
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
            raise DayRefusedError(
                f"The table {self._table.source} has rows whose {self._table.day} is {odd!r}, and "
                "no day can be published without knowing whether they are of it: days as text "
                "have to be written like 2026-11-26. Correct them, or cast them in a query "
                "(PLATFORM_LISTINGS_QUERY)."
            )

    def _refuse_to_empty(self, date: str) -> None:
        there = read_manifest(self._store, prefix(date))
        if there is not None and there.rows:
            raise DayVanishedError(
                f"The table {self._table.source} has no rows of {date} any more, of which "
                f"{there.rows} are published: load the day again, or delete "
                f"{self._store.uri(prefix(date))}/ if they are to be gone."
            )


def judge_published(
    store: ObjectStore, table: ListingsTable, dates: Sequence[str]
) -> dict[str, dict[str, Verdict]]:
    """Judge snapshots that are there, as the next export would: date → check → verdict."""
    trailing = Trailing(store, table.limits.drift_days)
    verdicts: dict[str, dict[str, Verdict]] = {}
    for date in dates:
        published = read_profile(store, date)
        if published is None:
            said = f"There is no snapshot with a profile of {date}: materialise it first."
            verdicts[date] = {name: Verdict(False, said) for name in quality.CHECKS}
        else:
            manifest, profile = published
            differences = compare_columns(table.exported_contract, manifest.columns)
            candidate = quality.Candidate(profile, differences, trailing.before(date))
            verdicts[date] = quality.judge(candidate, table.limits)
    return verdicts


def _refused(verdicts: dict[str, Verdict]) -> Taken:
    reasons = [f"{name}: {each.description}" for name, each in verdicts.items() if each.stops]
    said = f"The rows were not published; what was before, stays. {' '.join(reasons)}"
    return Taken(DayRefusedError(said), verdicts)


def _let_through(verdicts: dict[str, Verdict]) -> dict[str, object]:
    """What stands on a day that is published only since a limit is not the usual one."""
    found = {
        name: v.metadata["let_through"]
        for name, v in verdicts.items()
        if not v.stops and "let_through" in v.metadata
    }
    return {"let_through": found} if found else {}


def _described(manifest: Manifest) -> dict[str, object]:
    said = {} if manifest.rows else {"empty": "The table has no rows of this day."}
    return {
        "dagster/partition_row_count": manifest.rows,
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(column.name, column.type) for column in manifest.columns]
        ),
        "bytes": manifest.size,
        **said,
    }
