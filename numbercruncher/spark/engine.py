"""What runs in Spark's driver: which snapshots are read, folded and made, what is published.

Reading is a task a date, folding one for a share of the listings, and a day's tables are again a
task a date. All that is decided is decided here, as `price_history.py` decides it, and published
here, one date after the other, as the container does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from formats.manifest import Manifest, decode, describe_file
from numbercruncher import errors
from numbercruncher.crunch import Work
from numbercruncher.errors import CruncherError, MissingObjectError, StoreUnavailableError
from numbercruncher.exclusions import EarlierSnapshotError, Exclusions, other_ids
from numbercruncher.outputs import (
    NEIGHBOURHOOD_SUMMARY,
    PRICE_CHANGES,
    Output,
    make_price_tables,
    name_sources,
)
from numbercruncher.plan import Report
from numbercruncher.price_changes import empty_state
from numbercruncher.price_history import STATE_FILE, current_states
from numbercruncher.reports import Pending, done, failed, write
from numbercruncher.snapshot_index import LEFT_OUT
from numbercruncher.snapshot_rows import Source
from numbercruncher.spark.tasks import Places, Step, empty_texts

if TYPE_CHECKING:
    from numbercruncher.spark.cluster import Reading

Fact = Mapping[str, Any]


@dataclass(frozen=True)
class _Sources:
    """What price changes of a date are made of.

    Attributes:
        snapshot: of the day.
        left_out: the snapshots that they go without.
        numbers: whether ids are numbers.
        is_empty: whether no listing ever had a price.
    """

    snapshot: Source
    left_out: Mapping[str, str]
    numbers: bool
    is_empty: bool


class SparkEngine:
    """Computes all dates of a request when it is made, and publishes them when it is asked for."""

    def __init__(
        self,
        work: Work,
        *,
        scratch: str,
        read: "Callable[[Places, list[Step]], Reading]",
    ) -> None:
        request = work.request
        self._store = work.store
        self._request = request
        self._index = work.index
        self._plan = work.plan
        self._writers = work.writers
        self._places = Places(
            bucket=request.bucket,
            kms_key_id=request.kms_key_id,
            listings_prefix=request.listings_prefix,
            prices_prefix=request.prefixes[PRICE_CHANGES],
            code_version=request.code_version,
            scratch=scratch,
        )
        self._errors: dict[str, Exception] = {}
        self._sources: dict[str, _Sources] = {}
        self._facts: dict[str, Fact] = {}
        self._tables: dict[str, Manifest] = {}
        self.has_price_changes = False
        if steps := self._list_steps():
            reading = read(self._places, steps)
            try:
                self._compute(steps, reading)
            finally:
                reading.forget()

    def _list_steps(self) -> list[Step]:
        """What has to be read, in the order of dates."""
        todo = {date: day for date, day in self._plan.items() if day.todo}
        priced = [date for date, day in todo.items() if PRICE_CHANGES in day.todo]
        base, folded, unplanned = None, set[str](), dict[str, bytes]()
        try:
            if priced:
                base = self._find_state(priced[0])
                begin = base.partition if base else ""
                folded = {d for d in self._index.references if begin < d <= priced[-1]}
                unplanned = self._index.manifests(sorted(folded - todo.keys()))
        except CruncherError as error:
            base, folded = None, set[str]()
            self._fail_prices(error)
        steps = [
            Step(
                date,
                todo[date].manifest if date in todo else unplanned.get(date),
                with_prices=date in folded,
                with_summary=date in todo and NEIGHBOURHOOD_SUMMARY in todo[date].todo,
            )
            for date in sorted(folded | todo.keys())
        ]
        return [Step(base.partition, base.encode(), is_state=True), *steps] if base else steps

    def _fail_prices(self, error: Exception) -> None:
        """Their past cannot be had; summaries are made all the same."""
        self._errors = {date: error for date in self._plan if PRICE_CHANGES in self._todo(date)}

    def _find_state(self, first: str) -> Manifest | None:
        """The manifest of the latest stored state before a date that is current and undamaged."""
        earlier = [date for date in self._index.references if date < first]
        prefix, version = self._places.prices_prefix, self._request.code_version
        for manifest in current_states(self._store, self._index, prefix, version, earlier):
            key = f"{prefix}/date={manifest.partition}/{STATE_FILE}"
            try:
                digest = self._store.open(key).finish()
            except MissingObjectError:
                continue
            if digest in [file.sha256 for file in manifest.files if file.name == STATE_FILE]:
                return manifest
        return None

    def _compute(self, steps: list[Step], reading: "Reading") -> None:
        facts = dict(enumerate(reading.facts))
        self._facts = {fact["date"]: fact for n, fact in facts.items() if not steps[n].is_state}
        included = self._follow(steps, facts)
        wanted = {date for date, sources in self._sources.items() if not sources.is_empty}
        if not wanted:
            return
        manifests = reading.make_days(
            {number: (date, date in wanted) for number, date in included.items()},
            numbers=self._sources[max(wanted)].numbers,
            listings=max(fact.get("priced", 0) for fact in facts.values()),
        )
        self._tables = {
            manifest.partition: manifest
            for manifest in (decode(text.encode()) for text in manifests.values())
        }

    def _follow(self, steps: list[Step], facts: Mapping[int, Fact]) -> dict[int, str]:
        """Goes from date to date, as prices do; returns the steps that are folded, with dates."""
        if self._errors:
            return {}
        exclusions = Exclusions(self._index)
        included: dict[int, str] = {}
        numbers, is_empty = True, True
        for number, step in enumerate(steps):
            fact = facts[number]
            if step.is_state:
                state = decode(step.manifest or b"")
                numbers = any((c.name, c.type) == ("id", "int64") for c in state.columns)
                is_empty = not state.extra["listings_ever_priced"]
                exclusions.left_out = dict(state.extra.get(LEFT_OUT, {}))
                if "error" in fact:
                    self._fail_prices(_error(fact["error"]))
                    return {}
                included[number] = step.date
                continue
            # One that is wanted and is not listed fails, too.
            if not step.with_prices and PRICE_CHANGES not in self._todo(step.date):
                continue
            try:
                kind = None if is_empty else numbers
                snapshot = self._usable(fact, kind, exclusions.unreadable)
            except Exception as error:
                self._errors[step.date] = error
                if exclusions.unreadable is None:
                    exclusions.add(step.date, error)
                continue
            numbers = fact["numbers"] if is_empty else numbers
            is_empty = is_empty and not fact["priced"]
            included[number] = step.date
            if PRICE_CHANGES in self._todo(step.date):
                left_out = dict(exclusions.left_out)
                self._sources[step.date] = _Sources(snapshot, left_out, numbers, is_empty)
        return included

    def _usable(
        self, fact: Fact, numbers: bool | None, unreadable: EarlierSnapshotError | None
    ) -> Source:
        """The snapshot that was read; raises why prices cannot go on with it.

        Args:
            fact: of the step.
            numbers: whether the ids before are numbers; None where there are none.
            unreadable: the error of an earlier date that is missing.
        """
        if "error" in fact:
            raise _error(fact["error"])
        snapshot = Source(**fact["source"])
        self._index.confirm(snapshot.date, snapshot.manifest_md5)
        if unreadable is not None:
            raise unreadable
        if numbers is not None and snapshot.row_count and numbers != fact["numbers"]:
            raise other_ids(snapshot.date, numbers=fact["numbers"])
        return snapshot

    def _todo(self, date: str) -> list[str]:
        return self._plan[date].todo if date in self._plan else []

    def make(self, date: str) -> Pending:
        """Publishes the missing outputs of a date, in the background."""
        day = self._plan[date]
        pending = Pending(date, day)
        self.has_price_changes |= PRICE_CHANGES in pending.outputs
        fact = self._facts.get(date, {})
        if "source" in fact:
            pending.rows = fact["source"]["row_count"]
        for name in day.todo:
            pending.outputs[name] = self._publish(name, date, fact, name in day.replaces)
        return pending

    def _publish(self, name: str, date: str, fact: Fact, replaces: bool) -> Callable[[], Report]:
        make: Callable[[], Output]
        error = _error(fact["error"]) if "error" in fact else None
        if name == PRICE_CHANGES:
            error = error or self._errors.get(date)
            make = partial(self._price_changes, date)
            self.has_price_changes |= error is None
        elif "summary_error" in fact:
            return done(fact["summary_error"])
        else:
            make = partial(self._fetch, name, fact.get("summary", ""))
        if error is not None:
            return done(failed(error))
        prefix = f"{self._request.prefixes[name]}/date={date}"
        return self._writers.submit(write, self._store, prefix, make, replaces).result

    def _price_changes(self, date: str) -> Output:
        sources = self._sources[date]
        if sources.is_empty:
            state = empty_state() if sources.numbers else empty_texts()
            tables = make_price_tables(date, state, self._request.code_version)
        else:
            tables = self._fetch(PRICE_CHANGES, self._tables[date].encode().decode())
        manifest = name_sources(tables.manifest, sources.snapshot, self._index, sources.left_out)
        return replace(tables, manifest=manifest)

    def _fetch(self, name: str, manifest_text: str) -> Output:
        """An output that a task has written.

        Raises:
            StoreUnavailableError: it is not what the task had made.
        """
        manifest = decode(manifest_text.encode())
        files = {
            file.name: self._store.get(self._places.key(name, manifest.partition, file.name))
            for file in manifest.files
        }
        if tuple(describe_file(file, data) for file, data in files.items()) != manifest.files:
            raise StoreUnavailableError(
                f"What a task had made of {manifest.partition} was replaced before it was"
                " published; run this again."
            )
        return Output(files, manifest)


def _error(report: Mapping[str, str]) -> Exception:
    """The error that a task has told of; one of ours is of its own kind."""
    kind = getattr(errors, report["kind"], None)
    if isinstance(kind, type) and issubclass(kind, CruncherError):
        return kind(report["message"])
    return type(report["kind"], (Exception,), {})(report["message"])
