"""Judgements on a day's profile: what passes, what is odd, and what is not published."""

import math
from typing import Any

import pytest

from formats.columns import Column, ColumnDifferences, Retyped
from platform_assets.airbnb.listings import RULES
from platform_assets.checks import Verdict
from platform_assets.components.postgres_snapshot import PostgresSnapshot, SnapshotTable
from platform_assets.tables.limits import Limits
from platform_assets.tables.quality import Candidate, checks_of, judge
from resources.postgres import Profile

AS_EXPECTED = ColumnDifferences((), (), ())
PRICE = Column(name="price", type="double")


def profile(**changed: Any) -> Profile:
    """A usual day of 1,000 rows."""
    usual: dict[str, Any] = {
        "rows": 1000,
        "distinct_keys": 1000,
        "nulls": {"id": 0, "neighbourhood": 0, "room_type": 0, "price": 100, "last_review": 300},
        "least": 0.0,
        "median": 120.0,
        "largest": 900.0,
    }
    return Profile(**{**usual, **changed})


def nulls(**counts: int) -> dict[str, int]:
    return {**profile().nulls, **counts}


def ids(*result: float) -> Profile:
    """A day whose hosts have such ids."""
    return profile(long_ids={"id": (0, 0, 0), "host_id": result})


def days(count: int, **changed: Any) -> list[Profile]:
    """Usual days before it, which differ a little."""
    return [profile(rows=1000 + n % 3, **changed) for n in range(count)]


def verdict(check: str, today: Profile, **limits: Any) -> Verdict:
    return judge(Candidate(today, AS_EXPECTED, days(14)), Limits(**limits), RULES)[check]


def outcome(
    check: str,
    today: Profile,
    trailing: list[Profile] | None = None,
    differences: ColumnDifferences = AS_EXPECTED,
    **limits: Any,
) -> str:
    before = days(14) if trailing is None else trailing
    result = judge(Candidate(today, differences, before), Limits(**limits), RULES)[check]
    return "passed" if result.passed else result.severity


@pytest.mark.parametrize(
    ("check", "today", "expected"),
    [
        pytest.param("unique_ids", profile(), "passed", id="each id once"),
        pytest.param("unique_ids", profile(distinct_keys=999), "error", id="an id twice"),
        pytest.param("null_rates", profile(), "passed", id="a tenth without a price"),
        pytest.param(
            "null_rates", profile(nulls=nulls(price=501)), "warn", id="half without a price"
        ),
        pytest.param(
            "null_rates", profile(nulls=nulls(price=901)), "error", id="nearly all without a price"
        ),
        pytest.param(
            "null_rates", profile(nulls=nulls(room_type=1)), "warn", id="a row without a room type"
        ),
        pytest.param(
            "null_rates", profile(nulls=nulls(neighbourhood=50)), "warn", id="a twentieth of them"
        ),
        pytest.param(
            "null_rates", profile(nulls=nulls(neighbourhood=51)), "error", id="more than that"
        ),
        pytest.param(
            "null_rates",
            profile(nulls=nulls(neighbourhood=1, price=901)),
            "error",
            id="an odd row does not hide that prices are missing",
        ),
        pytest.param(
            "unique_ids",
            profile(nulls=nulls(id=1), distinct_keys=999),
            "error",
            id="a row without an id",
        ),
        pytest.param("values_fit", profile(lost={"price": 1}), "error", id="a value without place"),
        pytest.param("ids_are_exact", profile(), "passed", id="short ids"),
        pytest.param("ids_are_exact", ids(900, 7, 8.0), "passed", id="1 in 128 ends like that"),
        pytest.param("ids_are_exact", ids(900, 54, 8.0), "warn", id="6 % are rounded"),
        pytest.param("ids_are_exact", ids(900, 900, 8.0), "error", id="all are rounded"),
        pytest.param("ids_are_exact", ids(900, 450, 459.0), "passed", id="half of 54 bits"),
        pytest.param("ids_are_exact", ids(900, 900, 459.0), "error", id="all of 54 bits"),
        pytest.param("ids_are_exact", ids(3, 2, 0.03), "passed", id="few, so by chance"),
        pytest.param(
            "null_rates", profile(nulls=nulls(last_review=1000)), "passed", id="never reviewed"
        ),
        pytest.param("price_range", profile(), "passed", id="a price of 0 is one"),
        pytest.param("price_range", profile(least=-1.0), "error", id="a price below 0"),
        pytest.param("price_range", profile(largest=math.nan), "error", id="a price of NaN"),
        pytest.param("price_range", profile(largest=math.inf), "error", id="an infinite price"),
        pytest.param("price_range", profile(largest=110_000.0), "passed", id="as published"),
        pytest.param("price_range", profile(largest=200_001.0), "warn", id="a very high price"),
        pytest.param("price_range", profile(largest=1e8), "error", id="a price beyond reason"),
        pytest.param(
            "price_range", profile(least=None, largest=None, median=None), "passed", id="no prices"
        ),
        pytest.param("volume_drift", profile(), "passed", id="as many rows as ever"),
        pytest.param("volume_drift", profile(rows=1140), "passed", id="14 % more rows"),
        pytest.param("volume_drift", profile(rows=840), "warn", id="16 % fewer rows"),
        pytest.param("volume_drift", profile(rows=499), "error", id="less than half the rows"),
        pytest.param("volume_drift", profile(rows=1600), "error", id="60 % more rows"),
        pytest.param("price_drift", profile(median=130.0), "passed", id="8 % dearer"),
        pytest.param("price_drift", profile(median=140.0), "warn", id="17 % dearer"),
        pytest.param("price_drift", profile(median=1.2), "error", id="in another unit"),
    ],
)
def test_a_day_is_judged_by_its_figures(check: str, today: Profile, expected: str) -> None:
    assert outcome(check, today) == expected


def test_a_day_without_rows_is_odd_but_published() -> None:
    empty = profile(rows=0, distinct_keys=0, nulls={}, least=None, median=None, largest=None)
    result = judge(Candidate(empty, AS_EXPECTED, days(14)), Limits(), RULES)
    assert not any(verdict.stops for verdict in result.values())
    assert not result["volume_drift"].passed


def test_too_few_days_before_it_are_nothing_to_compare_with() -> None:
    assert outcome("volume_drift", profile(rows=10), days(6)) == "passed"
    assert outcome("volume_drift", profile(rows=10), days(7)) == "error"


def test_one_odd_day_among_the_trailing_ones_does_not_move_the_measure() -> None:
    trailing = [*days(13), profile(rows=10)]
    assert outcome("volume_drift", profile(), trailing) == "passed"
    assert outcome("volume_drift", profile(rows=499), trailing) == "error"


def test_a_market_that_moves_a_lot_may_move_on() -> None:
    trailing = [profile(rows=1000 + 300 * (n % 3)) for n in range(14)]
    assert outcome("volume_drift", profile(rows=1700), trailing) == "passed"
    assert outcome("volume_drift", profile(rows=1700)) == "error"


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (AS_EXPECTED, "passed"),
        (ColumnDifferences((), (), (PRICE,)), "passed"),
        (ColumnDifferences((), (), (), (PRICE,)), "passed"),
        (ColumnDifferences((PRICE,), (), ()), "error"),
        (ColumnDifferences((), (Retyped("price", "double", "string"),), ()), "error"),
    ],
    ids=["as expected", "a new column", "one as nulls", "a missing column", "another type"],
)
def test_only_what_breaks_readers_breaks_the_schema(
    differences: ColumnDifferences, expected: str
) -> None:
    assert outcome("schema", profile(), differences=differences) == expected


def test_a_run_with_other_limits_lets_a_day_through() -> None:
    assert outcome("volume_drift", profile(rows=400)) == "error"
    assert outcome("volume_drift", profile(rows=400), drift_block=50) == "warn"


# What stops a day, with the limit that lets it through.
STOPPED: dict[str, tuple[str, Profile, dict[str, float]]] = {
    "null_keys": ("null_rates", profile(nulls=nulls(room_type=1000)), {"null_keys_block": 1}),
    "null_prices": ("null_rates", profile(nulls=nulls(price=1000)), {"null_prices_block": 1}),
    "negative_prices": (
        "price_range",
        profile(least=-3.0, negative=1000),
        {"negative_prices_block": 1},
    ),
    "price": ("price_range", profile(largest=1e300), {"price_block": 1e301}),
    "lost_values": ("values_fit", profile(lost={"host_id": 1000}), {"lost_values_block": 1}),
    "rounded_ids": ("ids_are_exact", ids(900, 900, 8.0), {"rounded_ids_block": 1}),
    "drift": ("volume_drift", profile(rows=10**9), {"drift_block": 1e12}),
}


@pytest.mark.parametrize("kind", STOPPED)
def test_every_limit_can_let_a_day_through_and_the_verdict_says_so(kind: str) -> None:
    check, today, limits = STOPPED[kind]
    stopped = verdict(check, today)
    assert stopped.stops
    assert f"another {kind}_block" in stopped.description
    assert "let_through" not in stopped.metadata
    let = verdict(check, today, **limits)
    assert (let.passed, let.severity) == (False, "warn")
    assert f"{kind}_block is" in let.metadata["let_through"]


def test_there_is_no_limit_that_cannot_let_a_day_through() -> None:
    limits = {name.removesuffix("_block") for name in Limits.model_fields if "_block" in name}
    assert limits == set(STOPPED)


def test_a_limit_that_was_raised_is_not_told_of_where_it_let_nothing_through() -> None:
    result = judge(Candidate(profile(), AS_EXPECTED, days(14)), Limits(null_keys_block=1), RULES)
    assert not any("let_through" in item.metadata for item in result.values())
    assert set(result) == set(checks_of(RULES))


def test_a_day_within_the_limits_of_a_pipelines_file_is_a_day_as_any_other() -> None:
    table = PostgresSnapshot(
        asset="a/b",
        table="a",
        contract={"id": "int64", "price": "double"},
        key="id",
        date_column="day",
        measure="price",
        checks=Limits(price_warn=2e7, price_block=5e7),
    ).source_table
    of_a_run = table.model_copy(update={"limits": Limits(price_block=7e7)})

    def price_range(largest: float, table: SnapshotTable) -> Verdict:
        today = Candidate(profile(largest=largest), AS_EXPECTED, days(14))
        return judge(today, table.limits, table.rules)["price_range"]

    usual = price_range(1.5e7, table)
    assert (usual.passed, "let_through" in usual.metadata) == (True, False)
    assert price_range(6e7, table).stops
    let = price_range(6e7, of_a_run)
    assert let.metadata["let_through"] == "price_block is 7e+07 instead of 5e+07"


def test_ids_without_which_there_are_no_results_have_no_limit() -> None:
    assert outcome("unique_ids", profile(distinct_keys=999), null_keys_block=1) == "error"
    assert outcome("price_range", profile(largest=math.nan), price_block=1e300) == "error"


def test_the_value_that_has_no_place_is_named_and_nothing_else_of_its_row() -> None:
    today = Candidate(profile(lost={"price": 2}), AS_EXPECTED, days(14), {"price": "abc"})
    output = judge(today, Limits(), RULES)["values_fit"].description
    assert "2 values of column price, such as 'abc'," in output


def test_of_keys_that_are_no_numbers_it_is_said_how_they_are_taken() -> None:
    remedy = "Where ids are no numbers, set PLATFORM_LISTINGS_ID_TYPE=string, or let the day"
    assert remedy in verdict("values_fit", profile(lost={"id": 1000})).description
    assert remedy not in verdict("values_fit", profile(lost={"price": 1000})).description


def test_a_profile_of_before_these_figures_can_still_be_read() -> None:
    new = {"negative", "lost", "long_ids"}
    old = {name: value for name, value in profile().model_dump().items() if name not in new}
    assert Profile.model_validate(old) == profile()
    bits = {"long_ids": {"host_id": [900, 7, 35]}}
    assert Profile.model_validate({**old, **bits}).long_ids == {"host_id": (900, 7, 35.0)}
    today = ids(900, 7, 8.25)
    assert Profile.model_validate_json(today.model_dump_json()) == today
