"""Runs in a queue, and a backfill, while parts of the stack are killed under them.

Everything ends by itself, no place in a pool stays taken, and runs hold few connections to
Postgres; a schedule makes up for days in which nothing ran.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any

import psutil
import psycopg2
import pytest

from embedded import seed_listings, stack
from embedded.graphql import Dagster, DagsterError, days
from embedded.plan import Plan
from tests.embedded.dagster_rig import ENDED, UNDER_WAY, Ui, running_stack
from tests.embedded.test_stack import Stack

pytestmark = pytest.mark.minutes

TODAY = datetime.now(UTC).date()
DATES = days(str(TODAY - timedelta(39)), str(TODAY))
BACKFILLED = DATES[:-4]
# The number is that of the suite's time; the same was seen of 50.
KILLS = int(os.environ.get("PLATFORM_TEST_KILLS", "3"))
# A run at least ends between two kills.
QUEUED = list(islice(cycle(DATES[:32]), max(32, KILLS + 5)))
# Of a run: PLATFORM_LISTINGS_CONNECTIONS that export, and one for what is not an export. Two runs
# are executed at a time, and Postgres may not have noticed yet that a killed one is gone.
CONNECTIONS_OF_A_RUN, RUNS_AT_A_TIME, RUNS_KILLED = 3, 2, 1
MOST_CONNECTIONS = (RUNS_AT_A_TIME + RUNS_KILLED) * CONNECTIONS_OF_A_RUN
POOLS = """query { instance { concurrencyLimits {
    concurrencyKey claimedSlots { runId } pendingSteps { runId } } } }"""
RUNS = """query($ids: [String!]) { runsOrError(filter: {runIds: $ids}) {
    ... on Runs { results { runId status } } } }"""
TERMINATE = """mutation($ids: [String!]!) { terminateRuns(runIds: $ids) {
    __typename ... on PythonError { message } } }"""


START = """mutation { startSchedule(scheduleSelector: {
    repositoryLocationName: "platform_assets.definitions",
    repositoryName: "__repository__", scheduleName: "listings_daily"}) {
    __typename ... on PythonError { message } } }"""
SCHEDULED = """query { runsOrError(filter: {tags: [
    {key: "dagster/schedule_name", value: "listings_daily"}]}) {
    ... on Runs { results { status tags { key value } } } } }"""


@dataclass(frozen=True)
class Busy:
    """A running stack whose parts are killed."""

    stack: Stack
    ui: Ui

    def process(self, name: str) -> psutil.Process:
        """A program of the stack, which starts it again after its end."""
        return psutil.Process(stack.status(self.stack.plan.home)[name][0].pid)

    def kill(self, name: str) -> None:
        """Kill a program."""
        self.process(name).kill()

    def kill_a_worker(self) -> bool:
        """Kill the process of any run; False if none has one."""
        for process in self.stack.alive():
            try:
                if "multiprocessing.spawn" in " ".join(process.cmdline()):
                    process.kill()
                    return True
            except psutil.NoSuchProcess:
                continue
        return False

    def until(self, ask: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
        """Ask until it is enough, also while what is asked is down."""
        end = time.monotonic() + 600
        while True:
            try:
                if enough(answer := ask()):
                    return answer
            except (DagsterError, AssertionError) as error:
                answer = error
            assert time.monotonic() < end, f"still {answer}"
            time.sleep(1)


@pytest.fixture(scope="module")
def busy() -> Iterator[Busy]:
    with running_stack(DATES[0]) as (running, ui):
        seed_listings.seed(ui.dsn, DATES, places=40)
        yield Busy(running, ui)


@contextmanager
def limited_connections(plan: Plan, limit: int) -> Iterator[None]:
    """Fails if Postgres has to refuse a connection of the platform, which has at most so many."""
    alter = "ALTER ROLE platform CONNECTION LIMIT {}"
    with closing(psycopg2.connect(plan.admin_dsn)) as opened, opened.cursor() as cursor:
        opened.autocommit = True
        cursor.execute(alter.format(limit))
        yield
        cursor.execute(alter.format(-1))
    log = (plan.home.logs / "postgres.log").read_text()
    assert "too many connections" not in log


def test_32_queued_runs_end_by_themselves_and_hold_few_connections(busy: Busy) -> None:
    dagster = Dagster(busy.ui.url)
    daemon = busy.process("daemon")
    daemon.suspend()
    runs = [dagster.launch("listings", date, date) for date in QUEUED]

    def ended() -> int:
        return sum(status in ENDED for status in _statuses(busy, runs))

    kills = [lambda: busy.kill("daemon"), busy.kill_a_worker, lambda: busy.kill("code-server")]
    with limited_connections(busy.stack.plan, MOST_CONNECTIONS):
        daemon.resume()
        for n, kill in enumerate(islice(cycle(kills), KILLS)):
            busy.until(ended, lambda count, n=n: count > n)
            kill()
        busy.until(ended, lambda count: count > KILLS + 1)
    assert "SUCCESS" in _statuses(busy, runs)
    # The rest shows nothing more.
    busy.until(lambda: busy.ui.query(TERMINATE, ids=runs), lambda _: True)
    busy.until(ended, lambda count: count == len(runs))

    busy.until(
        lambda: busy.ui.query(POOLS)["instance"]["concurrencyLimits"],
        lambda pools: not any(pool["claimedSlots"] or pool["pendingSteps"] for pool in pools),
    )


def test_a_backfill_loses_nothing_when_daemon_and_code_server_are_killed(busy: Busy) -> None:
    assets = [{"path": ["airbnb", name]} for name in ("snapshot", "price_changes")]
    # The web server may not have met the code server yet that was started last.
    backfill = busy.until(
        lambda: busy.ui.begin_backfill(assetSelection=assets, partitionNames=BACKFILLED), bool
    )
    busy.kill("daemon")
    busy.until(lambda: busy.ui.show_backfill(backfill)["runs"], lambda runs: len(runs) == 1)
    busy.kill("code-server")
    busy.kill("daemon")
    ended = busy.until(
        lambda: busy.ui.show_backfill(backfill), lambda now: now["status"] not in UNDER_WAY
    )
    assert ended["status"] == "COMPLETED_SUCCESS", ended

    statuses = busy.ui.statuses("price_changes")
    assert {statuses.get(date) for date in BACKFILLED} == {"MATERIALIZED"}


def test_a_schedule_makes_up_for_days_in_which_no_daemon_ran(busy: Busy) -> None:
    busy.until(
        lambda: busy.ui.query(START)["startSchedule"]["__typename"],
        lambda kind: kind == "ScheduleStateResult",
    )
    daemon = busy.process("daemon")
    daemon.suspend()
    now = datetime.now(UTC)
    newest = now.replace(hour=0, minute=30, second=0)
    if newest > now:
        newest -= timedelta(days=1)
    # What the daemon would have written if it had ended before the last two ticks.
    _move_back(busy, newest - timedelta(days=1, hours=1))
    daemon.kill()

    def runs() -> list[dict[str, Any]]:
        return busy.ui.query(SCHEDULED)["runsOrError"]["results"]

    # A tick is of the day that has ended.
    missed = days(BACKFILLED[-1], str(newest.date() - timedelta(1)))[1:]
    (run,) = busy.until(runs, lambda now: now and all(run["status"] in ENDED for run in now))
    assert run["status"] == "SUCCESS"
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    ends = [tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end")]
    assert ends == [missed[0], missed[-1]]
    statuses = busy.ui.statuses("snapshot")
    assert {statuses.get(date) for date in missed} == {"MATERIALIZED"}


def _move_back(busy: Busy, moment: datetime) -> None:
    """Let a schedule's record say that it was started, and looked at last, at that moment."""
    path = busy.stack.plan.home.dagster / "schedules" / "schedules.db"
    with closing(sqlite3.connect(path)) as records, records:
        for table, column in (("jobs", "job_body"), ("instigators", "instigator_body")):
            for row, text in records.execute(f"SELECT id, {column} FROM {table}").fetchall():
                body = json.loads(text)
                if "listings_daily" not in text:
                    continue
                data = body["job_specific_data"]
                for name in ("start_timestamp", "last_iteration_timestamp"):
                    data[name] = moment.timestamp()
                records.execute(
                    f"UPDATE {table} SET {column} = ? WHERE id = ?", (json.dumps(body), row)
                )


def _statuses(busy: Busy, runs: Sequence[str]) -> list[str]:
    answer = busy.ui.query(RUNS, ids=list(runs))["runsOrError"]["results"]
    return [run["status"] for run in answer]
