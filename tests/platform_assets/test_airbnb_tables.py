"""Source tables as they are: of other types, names and kinds than the platform's own."""

import io
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2.extensions import connection

from platform_assets.airbnb.listings import CONTRACT, ListingsTable
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.checks import DateRefusedError
from platform_assets.reports import Materialization, Outcome
from platform_assets.tables import snapshots
from platform_assets.tables.exporter import Exporter, LoadUnderWayError
from platform_assets.tables.limits import Limits
from platform_assets.tables.source_table import ColumnNamesError
from resources.postgres import (
    DatabaseAccessDeniedError,
    DatabaseRequestError,
    Extract,
    PostgresResource,
    Session,
    Table,
)
from resources.postgres.rights import Reading
from tests.platform_assets.airbnb_rig import CHANGES, FIRST, SUMMARY, change, result
from tests.platform_assets.conftest import Platform, failed_checks, reason_of

DAY, NEXT = "2026-11-26", "2026-11-27"
TYPES = {column.name: column.type for column in CONTRACT if column.name != "host_name"}


@pytest.fixture
def db(platform: Platform) -> Iterator[connection]:
    """A connection to the database, which has no table."""
    with closing(psycopg2.connect(platform.env["PLATFORM_POSTGRES_DSN"])) as opened:
        opened.autocommit = True
        yield opened


def take(platform: Platform, day: str = DAY, **settings: Any) -> Outcome:
    """A snapshot of one day."""
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    table = ListingsTable(**{"connections": 1, **settings})
    return Exporter(postgres, table, platform.store).export([day])[day]


def rows(platform: Platform, day: str = DAY) -> pa.Table:
    """What was published of a day."""
    key = snapshot_folder(platform.store, day).key("listings.parquet")
    return pq.read_table(io.BytesIO(platform.store.get_bytes(key, max_bytes=2**24)))


def types_of(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type).replace("date32[day]", "date32") for field in table.schema}


def test_whole_prices_and_decimal_coordinates_leave_as_readers_rely_on(
    platform: Platform, db: connection
) -> None:
    change(
        db,
        """create table listings (
             id bigint, name varchar(100), host_id integer, host_name varchar(100),
             neighbourhood_group varchar(100), neighbourhood varchar(100),
             latitude numeric(18,16), longitude numeric(18,16), room_type varchar(100),
             price integer, minimum_nights smallint, number_of_reviews numeric,
             last_review timestamp, reviews_per_month numeric(5,2),
             calculated_host_listings_count integer, availability_365 integer,
             download_date date not null);
           insert into listings select i, 'Room', i, 'Host', null, 'South', 52.3,
             4.9123456789012345, 'Private room', 50 + i, 1, 3, '2026-10-01', 0.55, 1, 100, d
             from generate_series(1, 20) i, (values (date '2026-11-26'), ('2026-11-27')) v(d)""",
    )
    taken = take(platform)
    assert isinstance(taken, Materialization), taken
    assert all(verdict.passed for verdict in taken.verdicts.values())
    read = rows(platform)
    assert types_of(read) == TYPES
    first = read.slice(0, 1).to_pylist()[0]
    assert (first["price"], first["latitude"], first["longitude"]) == (
        51.0,
        52.3,
        float("4.9123456789012345"),
    )
    assert (first["reviews_per_month"], first["last_review"]) == (0.55, date(2026, 10, 1))


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("date", ["2026-11-26", "2026-11-26", "2026-11-27", "2026-11-25"]),
        ("timestamp", ["2026-11-26", "2026-11-26 23:59:59.9", "2026-11-27", "2026-11-25 23:59"]),
        ("timestamptz", ["2026-11-26 00:00Z", "2026-11-27 00:59+01", "2026-11-27 00:00Z",
                         "2026-11-26 00:59+01"]),
        ("text", ["2026-11-26", "2026-11-26", "2026-11-27", "2026-11-25"]),
        ("char(10)", ["2026-11-26", "2026-11-26", "2026-11-27", "2026-11-25"]),
    ],
)  # fmt: skip
def test_the_rows_of_a_day_are_those_from_midnight_to_midnight_in_utc(
    platform: Platform, db: connection, declared: str, values: list[str]
) -> None:
    change(db, f"create table listings (id bigint, neighbourhood text, room_type text, price float,"
               f" download_date {declared})")  # fmt: skip
    for number, value in enumerate(values):
        change(db, f"insert into listings values ({number}, 'South', 'Room', 60, '{value}')")
    taken = take(platform)
    assert isinstance(taken, Materialization), taken
    read = rows(platform)
    assert read["id"].to_pylist() == [0, 1]
    assert set(read["download_date"].to_pylist()) == {date(2026, 11, 26)}
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    assert snapshots.judge_matches_table(postgres, ListingsTable(), platform.store, DAY).passed


SMALL = f"""
    create table base (id bigint, neighbourhood text, room_type text, price float,
                       download_date date);
    insert into base select i, 'South', 'Room', 60 + i, '{DAY}' from generate_series(1, 5) i
"""


def test_days_as_text_that_are_written_in_another_way_are_not_taken_for_no_rows(
    platform: Platform, db: connection
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, "alter table listings alter download_date type text using '26.11.2026'")
    taken = take(platform)
    assert isinstance(taken, DateRefusedError)
    assert "whose download_date is '26.11.2026'" in str(taken)
    change(db, f"update listings set download_date = '{NEXT}'")
    assert isinstance(take(platform), Materialization)  # a day without rows, as ever


@pytest.mark.parametrize("odd", [f"{DAY} 08:00", "26.11.2026"])
def test_a_day_as_text_is_not_published_without_its_rows_that_are_written_in_another_way(
    platform: Platform, db: connection, odd: str
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, "alter table listings alter download_date type text")
    assert isinstance(take(platform), Materialization)
    change(db, f"update listings set download_date = '{odd}' where id = 5")
    taken = take(platform)
    assert isinstance(taken, DateRefusedError)
    assert f"has rows whose download_date is '{odd}'" in str(taken)
    assert rows(platform).num_rows == 5


@pytest.mark.parametrize(
    ("statement", "settings"),
    [
        ("create view listings as select * from base", {}),
        ("create materialized view listings as select * from base", {}),
        (
            "create table listings (like base) partition by list (download_date); create table a "
            f"partition of listings for values in ('{DAY}'); insert into listings table base",
            {},
        ),
        ("create schema other; alter table base set schema other", {"table": "other.base"}),
        ("", {"query": "select * from base where price > 0 -- those that cost something"}),
        (
            "alter table base rename id to listing; alter table base rename price to nightly",
            {"table": "base", "columns": {"listing": "id", "nightly": "price"}},
        ),
        (
            "alter table base rename download_date to day",
            {"table": "base", "columns": {"day": "download_date"}},
        ),
    ],
    ids=["view", "materialised", "partitioned", "schema", "query", "names", "the day's name"],
)
def test_rows_come_from_any_kind_of_table_and_lack_nothing_that_readers_know(
    platform: Platform, db: connection, statement: str, settings: dict[str, Any]
) -> None:
    change(db, SMALL)
    if statement:
        change(db, statement)
    taken = take(platform, **settings)
    assert isinstance(taken, Materialization), taken
    read = rows(platform)
    assert types_of(read) == TYPES
    assert read["price"].to_pylist() == [61, 62, 63, 64, 65]
    assert read["latitude"].null_count == 5
    assert "latitude" in taken.metadata["null_columns"]
    assert "host_name" not in taken.metadata["null_columns"]
    table = ListingsTable(**settings)
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    assert snapshots.judge_matches_table(postgres, table, platform.store, DAY).passed


@pytest.mark.parametrize("name", ["id", "neighbourhood", "room_type", "price", "download_date"])
def test_what_results_are_made_of_has_to_be_there(
    platform: Platform, db: connection, name: str
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, f"alter table listings drop column {name}")
    taken = take(platform)
    assert f"column {name} " in str(taken)
    assert "is missing" in str(taken)
    assert "PLATFORM_LISTINGS_COLUMNS" in str(taken)


@pytest.mark.parametrize("hidden", ["owner", "host_name"])
def test_a_renamed_column_is_left_out_by_either_of_its_names(
    platform: Platform, db: connection, hidden: str
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, "alter table listings add owner text default 'Ann'")
    taken = take(platform, columns={"owner": "host_name"}, leave_out=[hidden])
    assert isinstance(taken, Materialization), taken
    assert b"Ann" not in platform.store.get_bytes(
        snapshot_folder(platform.store, DAY).key("listings.parquet"), max_bytes=2**24
    )
    assert not {"owner", "host_name"}.intersection(rows(platform).column_names)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": {"nothing": "id"}}, "nothing cannot be renamed"),
        ({"columns": {"room_type": "price"}}, "price cannot be renamed"),
        ({"columns": {"price": "id"}}, "id cannot be renamed"),
        ({"leave_out": ["hots_name"]}, "hots_name cannot be left out"),
        ({"columns": {"price": "cost"}, "leave_out": ["price"]}, "price"),
    ],
)
def test_names_that_mean_nothing_are_refused(
    platform: Platform, db: connection, settings: dict[str, Any], words: str
) -> None:
    change(db, SMALL.replace("base", "listings"))
    taken = take(platform, **settings)
    assert isinstance(taken, ColumnNamesError)
    assert words in str(taken)


def test_a_query_of_two_statements_is_refused(platform: Platform, db: connection) -> None:
    taken = take(platform, query="select 1; select 2")
    assert isinstance(taken, DatabaseRequestError)
    assert "Correct PLATFORM_LISTINGS_QUERY" in str(taken)


def test_one_value_that_has_no_place_refuses_the_day_by_its_value_or_becomes_null_by_a_limit(
    platform: Platform, db: connection
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, "alter table listings alter price type text; alter table listings add secret text")
    change(db, "update listings set price = 'abc', secret = 'hidden', room_type = 'x' where id = 3")
    refused = take(platform)
    assert isinstance(refused, DateRefusedError)
    assert "1 values of column price, such as 'abc'," in str(refused)
    assert "hidden" not in str(refused)
    let_through = take(platform, limits=Limits(lost_values_block=0.5))
    assert isinstance(let_through, Materialization), let_through
    assert let_through.metadata["let_through"] == {
        "values_fit": "lost_values_block is 0.5 instead of 0"
    }
    assert rows(platform)["price"].to_pylist() == [61, 62, None, 64, 65]


@pytest.mark.parametrize("declared", ["bigint", "text", "numeric(20,0)"])
@pytest.mark.parametrize("columns", [{}, {"scrape_id": "scrape"}, {"scrape_id": "host_id"}])
def test_ids_of_anything_are_refused_if_they_lost_digits(
    platform: Platform, db: connection, declared: str, columns: dict[str, str]
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, f"alter table listings add scrape_id {declared}, add grid float default 6e17")
    change(
        db,
        f"""insert into listings (id, neighbourhood, room_type, price, download_date, scrape_id)
            select i, 'South', 'Room', 60, '{DAY}', 685148830257321000 + 1000 * i
            from generate_series(6, 20) i""",
    )
    taken = take(platform, columns=columns)
    assert isinstance(taken, DateRefusedError)
    name = columns.get("scrape_id", "scrape_id")
    assert f"100.0% of the 15 long ids in column {name} look" in str(taken)


def test_a_column_that_may_not_be_read_is_named_with_what_is_to_be_granted(
    platform: Platform, db: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, "alter table listings add host_name text, add latitude float, add salary int")
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    with postgres.connect() as session:
        columns, _ = ListingsTable().compare(session)
    denied = {"host_name", "latitude", "salary"}
    columns = tuple(
        type(item)(item.name, "", readable=False) if item.name in denied else item
        for item in columns
    )
    with pytest.raises(DatabaseAccessDeniedError) as caught:
        ListingsTable().extract(columns, DAY)
    assert "GRANT SELECT (latitude) on it" in str(caught.value)
    assert "host_name" not in str(caught.value)
    assert "salary" not in str(caught.value)
    left = ListingsTable(leave_out=["host_name", "latitude"]).extract(columns, DAY)
    assert not denied.intersection(column.name for column in left.columns)


@pytest.mark.parametrize("then", ["insert into listings table listings", "delete from listings"])
def test_a_day_that_is_being_loaded_is_not_published_but_tried_again(
    platform: Platform, db: connection, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader that commits in several transactions shows half of a day between two."""
    export = Session.export

    def meanwhile(self: Session, *args: Any, **more: Any) -> Any:
        exported = export(self, *args, **more)
        change(db, then)
        return exported

    change(db, SMALL.replace("base", "listings"))
    with monkeypatch.context() as patch:
        patch.setattr(Session, "export", meanwhile)
        taken = take(platform)
    assert isinstance(taken, LoadUnderWayError)
    assert "the day is being loaded" in str(taken)
    assert taken.transient
    assert not list(platform.store.list("airbnb/"))


def test_a_day_that_is_being_loaded_on_another_server_is_not_published(
    platform: Platform, db: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded Postgres has no wrapper for one: what is foreign is only called so here."""

    def reading(_: Session, __: Extract) -> Reading:
        return Reading(None, foreign=True)

    def more(_: Session, table: Table, where: Mapping[str, object] | None = None) -> int:
        return 6

    change(db, SMALL.replace("base", "listings"))
    monkeypatch.setattr(Session, "examine", reading)
    monkeypatch.setattr(Session, "count", more)
    taken = take(platform)
    assert isinstance(taken, LoadUnderWayError)
    assert "had 5 rows" in str(taken)


def test_rows_that_came_after_a_snapshot_stop_what_is_made_of_it(
    platform: Platform, db: connection
) -> None:
    change(db, SMALL.replace("base", "listings"))
    assert isinstance(take(platform), Materialization)
    change(db, f"insert into listings values (9, 'South', 'Room', 60, '{DAY}')")
    postgres = PostgresResource(dsn=platform.env["PLATFORM_POSTGRES_DSN"])
    verdict = snapshots.judge_matches_table(postgres, ListingsTable(), platform.store, DAY)
    assert verdict.stops
    assert "while the day was being loaded" in verdict.description


@pytest.mark.parametrize("form", ["csv.gz", "parquet"])
@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_ids_that_are_no_numbers_go_all_the_way(
    platform: Platform,
    db: connection,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    form: str,
) -> None:
    monkeypatch.setenv("PLATFORM_LISTINGS_ID_TYPE", "string")
    monkeypatch.setenv("PLATFORM_SNAPSHOT_FORMAT", form)
    names = {
        "uuid": [f"{n:08x}-0000-4000-8000-000000000000" for n in (9, 1, 10, 2)],
        "text": ["b-2", "B-1", "é", "10"],
    }[kind]
    change(db, f"create table listings (id {kind}, neighbourhood text, room_type text, price float,"
               " download_date date)")  # fmt: skip
    for number, name in enumerate(names):
        change(db, f"insert into listings values ('{name}', 'South', 'Room', 60, '{DAY}')")
        change(
            db,
            "insert into listings values (%(id)s, 'South', 'Room', %(price)s, %(day)s)",
            id=name,
            price=50 + 10 * number,
            day=NEXT,
        )
    seen = platform.run("listings", DAY, NEXT)
    assert seen.success
    assert not failed_checks(seen)
    rises = result(platform, CHANGES, NEXT, "biggest_increase.json")
    falls = result(platform, CHANGES, NEXT, "biggest_decrease.json")
    assert [item["id"] for item in rises] == [names[3], names[2]]
    assert [item["id"] for item in falls] == [names[0]]
    whole = pq.read_table(
        io.BytesIO(
            platform.store.get_bytes(
                f"{CHANGES}/date={NEXT}/price_changes.parquet", max_bytes=2**24
            )
        )
    )
    assert whole["id"].to_pylist() == sorted(names, key=str.encode)
    # A day later the state that was left goes on.
    assert platform.run("listings", NEXT, assets=[CHANGES]).success


def test_ids_of_two_kinds_are_not_mixed(
    platform: Platform, db: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(db, SMALL.replace("base", "listings"))
    change(db, f"insert into listings select id, neighbourhood, room_type, price, '{NEXT}' "
               "from listings")  # fmt: skip
    assert platform.run("listings", DAY).success
    monkeypatch.setenv("PLATFORM_LISTINGS_ID_TYPE", "string")
    answer = reason_of(platform.run("listings", NEXT))
    assert "are texts, those in snapshots before it numbers" in answer


def test_a_row_without_a_neighbourhood_is_a_warning_and_a_group_of_its_own(
    platform: Platform, table: connection
) -> None:
    change(table, "alter table listings alter column room_type drop not null")
    change(
        table,
        "update listings set neighbourhood = null where download_date = %(day)s and id = "
        "(select min(id) from listings where download_date = %(day)s)",
        day=FIRST,
    )
    seen = platform.run("listings", FIRST)
    assert seen.success
    assert set(failed_checks(seen)) == {"null_rates"}
    assert "1 rows" in (failed_checks(seen)["null_rates"] or "")
    groups = result(platform, SUMMARY, FIRST, "neighbourhood_summary.json")
    (nameless,) = [item for item in groups if item["neighbourhood"] is None]
    assert nameless["listings"] == 1
    assert groups[-1] == nameless
    assert sum(item["listings"] for item in groups) == rows(platform, FIRST).num_rows


def test_a_day_that_a_raised_limit_lets_through_says_so_on_its_materialisation(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(
        table, "update listings set neighbourhood = null where download_date = %(day)s", day=FIRST
    )
    assert "another null_keys_block" in reason_of(platform.run("listings", FIRST))
    limits = {"limits": {"null_keys_block": 1}}
    seen = platform.run(
        "listings", FIRST, config={"resources": {"listings_table": {"config": limits}}}
    )
    assert seen.success
    (event,) = seen.get_asset_materialization_events()[:1]
    metadata = event.step_materialization_data.materialization.metadata
    assert metadata["let_through"].value == {"null_rates": "null_keys_block is 1 instead of 0.05"}


def test_a_snapshot_with_nulls_for_what_the_table_lacks_is_as_readers_expect(
    platform: Platform, db: connection
) -> None:
    change(db, SMALL.replace("base", "listings"))
    assert isinstance(take(platform), Materialization)
    judged = snapshots.judge_published(platform.store, ListingsTable(), [DAY])[DAY]
    assert judged["schema"].passed
