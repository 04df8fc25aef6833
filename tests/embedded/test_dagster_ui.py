"""What Dagster's GraphQL, and its UI in a real browser, show after a range with bad dates.

One stack for all. Tests come in the order of a story: a range with bad dates; the dates are mended
and repaired; a date that was never made; a backfill from the UI. Screenshots stay in
`test-output/screenshots`.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from embedded import seed_digits, seed_listings
from embedded.aws import aws_client
from embedded.graphql import Dagster, days
from tests.browser import (
    CHROMIUM,
    RERUN_AFTER_NETWORK_CHANGES,
    chromium,
    screenshots_folder,
)
from tests.embedded.dagster_rig import Ui, launch_backfill, running_stack
from tests.hostile_texts import HOSTILE
from tests.receivers import Receiver, webhook

pytestmark = [pytest.mark.minutes, RERUN_AFTER_NETWORK_CHANGES]

ASSETS = ["snapshot", "price_changes", "neighbourhood_summary"]
# The UI's dialog offers the last 90 days. Yesterday is left out: midnight may come.
TODAY = datetime.now(UTC).date()
DATES = days(str(TODAY - timedelta(36)), str(TODAY - timedelta(7)))
BAD = [DATES[n] for n in (3, 6, 10, 11, 19, 24, 28)]
NEVER_MADE = str(TODAY - timedelta(6))
FROM_THE_UI = days(str(TODAY - timedelta(5)), str(TODAY - timedelta(3)))
OF_THE_JOB = str(TODAY - timedelta(2))
# Assets whose newest materialisation has pictures; another one is a line here.
WITH_PICTURES = ["mnist/classifier"]


def _materialized(run: Mapping[str, Any]) -> dict[str, set[str]]:
    """Asset → the dates that a run materialised."""
    dates: dict[str, set[str]] = {}
    for event in run["assetMaterializations"]:
        dates.setdefault(event["assetKey"]["path"][-1], set()).add(event["partition"])
    return dates


def _evaluated(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [event["evaluation"] for event in run["eventConnection"]["events"] if event]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Who is told of problems."""
    with webhook() as listening:
        yield listening


@pytest.fixture(scope="module")
def ui(receiver: Receiver) -> Iterator[Ui]:
    """A stack with listings of a month and three days, seven days of them with a bad price."""
    with running_stack(DATES[0], PLATFORM_ALERTS=receiver.url) as (stack, started):
        seed_digits.seed(aws_client(stack.plan.environment, "s3"))
        seed_listings.seed(started.dsn, [*DATES, NEVER_MADE, *FROM_THE_UI, OF_THE_JOB], places=60)
        for date in BAD:
            started.set_price(date, -1)
        yield started


@pytest.fixture(scope="module")
def after_range(ui: Ui) -> Ui:
    """After a backfill of the month's range, and a run of the digits at the same time."""
    dagster = Dagster(ui.url)
    digits = dagster.launch("digits", DATES[0], DATES[0])
    (run,) = ui.backfill(
        assetSelection=[{"path": ["airbnb", asset]} for asset in ASSETS], partitionNames=DATES
    )
    assert run["status"] == "FAILURE"
    assert ui.ended(digits)["status"] == "SUCCESS"
    return ui


@pytest.fixture(scope="module")
def repaired(after_range: Ui) -> tuple[Ui, dict[str, Any]]:
    """After the prices were mended and `repair` was launched as its form opens; with its run."""
    for date in BAD:
        after_range.set_price(date, 80)
    return after_range, repair(after_range, which="failed")


def repair(ui: Ui, **config: str) -> dict[str, Any]:
    """Launch the job with what its form says otherwise than by default."""
    return ui.launch("repair", runConfigData={"ops": {"repair_dates": {"config": config}}})


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One that keeps what it has loaded: the UI is megabytes of scripts."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with (
        chromium() as running,
        closing(running.new_context(viewport={"width": 1280, "height": 900})) as context,
    ):
        yield context


@contextmanager
def visit(browser: BrowserContext, ui: Ui, path: str) -> Iterator[Page]:
    """A page of the UI; an error of its script, or one that it shows, fails the test."""
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    try:
        page.goto(f"{ui.url}{path}")
        yield page
    finally:
        page.close()
        # What it tells counts before what is missing on it.
        assert not errors


def shoot(page: Page, name: str) -> None:
    path: Path = screenshots_folder() / f"dagster-{name}.png"
    page.screenshot(path=path)


@pytest.mark.parametrize("asset", ASSETS)
def test_a_range_names_exactly_its_bad_dates_as_failed(after_range: Ui, asset: str) -> None:
    expected = {date: "FAILED" if date in BAD else "MATERIALIZED" for date in DATES}
    assert after_range.statuses(asset) == expected


def test_checks_after_a_range_say_so_of_each_date(after_range: Ui) -> None:
    checks = after_range.checks("snapshot")
    expected = {date: "FAILED" if date in BAD else "SUCCEEDED" for date in DATES}
    assert checks["price_range"] == expected
    assert set(checks["schema"].values()) == {"SUCCEEDED"}


def test_execute_all_judges_the_newest_date(after_range: Ui) -> None:
    names = list(after_range.checks("snapshot"))
    run = after_range.launch(
        "__ASSET_JOB",
        selector={
            "assetSelection": [],
            "assetCheckSelection": [
                {"assetKey": {"path": ["airbnb", "snapshot"]}, "name": name} for name in names
            ],
        },
    )
    assert run["status"] == "SUCCESS"
    evaluated = [(check["checkName"], check["partition"]) for check in _evaluated(run)]
    assert sorted(evaluated) == sorted((name, DATES[-1]) for name in names)


@pytest.mark.parametrize(
    ("group", "nodes"),
    [
        ("airbnb", ["listings", *ASSETS]),
        ("mnist", ["public", "raw", "dataset", "model", "classifier", "endpoint"]),
    ],
)
def test_the_lineage_shows_every_node(
    browser: BrowserContext, after_range: Ui, group: str, nodes: list[str]
) -> None:
    path = f"/locations/platform_assets.definitions/asset-groups/{group}/lineage"
    with visit(browser, after_range, path) as page:
        for node in nodes:
            expect(page.locator("foreignObject").get_by_text(node, exact=True)).to_be_visible()
        shoot(page, f"lineage-{group}")


def test_the_whole_lineage_has_both_groups(browser: BrowserContext, after_range: Ui) -> None:
    with visit(browser, after_range, "/asset-groups") as page:
        for group in ("airbnb", "mnist"):
            expect(page.locator("foreignObject").get_by_text(group).first).to_be_visible()
        shoot(page, "lineage")


def test_the_partitions_page_counts_the_bad_dates(browser: BrowserContext, after_range: Ui) -> None:
    with visit(browser, after_range, "/assets/airbnb/snapshot?view=partitions") as page:
        expect(page.get_by_text(f"Failed ({len(BAD)})")).to_be_visible()
        expect(page.get_by_text(f"Materialized ({len(DATES) - len(BAD)})")).to_be_visible()
        shoot(page, "partitions")


def test_a_failed_check_shows_its_dates_and_reason(
    browser: BrowserContext, after_range: Ui
) -> None:
    path = "/assets/airbnb/snapshot?view=checks&checkDetail=price_range"
    with visit(browser, after_range, path) as page:
        expect(page.get_by_text("Every price is a number from 0 on")).to_be_visible()
        expect(page.get_by_text("Prices go from").first).to_be_visible()
        shoot(page, "check")
        page.get_by_role("tab", name="Partitions").last.click()
        expect(page.get_by_text(f"Failed ({len(BAD)})")).to_be_visible()
        shoot(page, "check-partitions")


@pytest.mark.parametrize("asset", WITH_PICTURES)
def test_the_pictures_of_a_materialisation_are_visible(
    browser: BrowserContext, after_range: Ui, asset: str
) -> None:
    with visit(browser, after_range, f"/assets/{asset}?view=overview") as page:
        behind = page.get_by_text("[Show Markdown]").first
        picture = page.locator("img[src^='data:image/png']").first
        expect(behind.or_(picture).first).to_be_visible()
        if behind.is_visible():
            behind.click()
        expect(picture).to_be_visible()
        assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 0
        shoot(page, f"pictures-{asset.replace('/', '-')}")


def test_repair_opens_with_its_form(browser: BrowserContext, after_range: Ui) -> None:
    path = "/locations/platform_assets.definitions/jobs/repair/playground"
    with visit(browser, after_range, path) as page:
        editor = page.locator(".CodeMirror-code, .cm-content").first
        expect(editor).to_contain_text("which: failed")
        expect(editor).to_contain_text("resources: {}")
        shoot(page, "repair")


@pytest.mark.usefixtures("after_range")
def test_a_failed_range_is_one_message(receiver: Receiver) -> None:
    """Sent by the stack's own daemon; that it is not repeated shows after the repair."""
    receiver.wait_for("A materialisation failed")
    (text,) = messages_of_ranges(receiver)
    assert f"Date: {', '.join(BAD)}\n" in text
    assert "negative" in text


def messages_of_ranges(receiver: Receiver) -> list[str]:
    return [text for text in receiver.texts() if "A materialisation failed" in text]


def test_repair_makes_exactly_the_failed_dates_in_one_run(
    repaired: tuple[Ui, dict[str, Any]],
) -> None:
    ui, run = repaired
    assert run["status"] == "SUCCESS"
    assert _materialized(run) == {asset: set(BAD) for asset in ASSETS}
    for asset in ASSETS:
        assert set(ui.statuses(asset).values()) == {"MATERIALIZED"}
    assert set(ui.checks("snapshot")["price_range"].values()) == {"SUCCEEDED"}


@pytest.mark.usefixtures("repaired")
def test_a_repaired_range_is_well_again_by_one_message(receiver: Receiver) -> None:
    receiver.wait_for("Well again: A materialisation failed")
    failed, well = messages_of_ranges(receiver)
    assert failed.startswith("*A materialisation failed*")
    assert well.startswith("*Well again: A materialisation failed*")


def test_later_dates_are_outdated_until_they_are_repaired(
    repaired: tuple[Ui, dict[str, Any]],
) -> None:
    ui, _ = repaired
    warned = {
        date
        for date, status in ui.checks("price_changes")["real_rises_and_falls"].items()
        if status == "FAILED"
    }
    later = {date for date in DATES if date > BAD[0]} - set(BAD)
    assert warned == later
    run = repair(ui, which="outdated")
    assert run["status"] == "SUCCESS"
    assert _materialized(run)["price_changes"] == warned
    assert set(ui.checks("price_changes")["real_rises_and_falls"].values()) == {"SUCCEEDED"}


def test_repair_makes_exactly_the_missing_date(repaired: tuple[Ui, dict[str, Any]]) -> None:
    ui, _ = repaired
    run = repair(ui, which="missing", to_date=NEVER_MADE)
    assert run["status"] == "SUCCESS"
    assert _materialized(run) == {asset: {NEVER_MADE} for asset in ASSETS}


def test_a_backfill_from_the_uis_own_dialog_completes(
    browser: BrowserContext, after_range: Ui
) -> None:
    with visit(browser, after_range, "/assets/airbnb/snapshot?view=partitions") as page:
        launched = launch_backfill(page, FROM_THE_UI[0], FROM_THE_UI[-1])
    runs = after_range.backfilled(launched)
    assert [run["status"] for run in runs] == ["SUCCESS"]
    statuses = after_range.statuses("snapshot")
    assert {statuses.get(date) for date in FROM_THE_UI} == {"MATERIALIZED"}


def test_texts_of_strangers_are_shown_as_texts(browser: BrowserContext, ui: Ui) -> None:
    ui.set_neighbourhoods(OF_THE_JOB, HOSTILE)
    (run,) = ui.backfill(
        assetSelection=[{"path": ["airbnb", asset]} for asset in ASSETS],
        partitionNames=[OF_THE_JOB],
    )
    assert run["status"] == "SUCCESS"
    path = f"/assets/airbnb/neighbourhood_summary?view=partitions&partition={OF_THE_JOB}"
    with visit(browser, ui, path) as page:
        page.get_by_text("[Show Markdown]").first.click()
        table = page.get_by_role("dialog").locator("table")
        expect(table).to_contain_text("<img src=x onerror=alert(1)><script>alert(1)</script>")
        expect(table).to_contain_text("**bold** _italic_ ~~gone~~ `code`")
        shoot(page, "hostile-texts")
        assert table.locator("img, a, script, strong, em, del, code").count() == 0


def test_a_backfill_of_the_job_leaves_out_the_check_of_yesterday(ui: Ui) -> None:
    repository = {
        "repositoryLocationName": "platform_assets.definitions",
        "repositoryName": "__repository__",
    }
    runs = ui.backfill(
        partitionNames=[OF_THE_JOB],
        selector={"partitionSetName": "listings_partition_set", "repositorySelector": repository},
    )
    names = {check["checkName"] for run in runs for check in _evaluated(run)}
    assert "price_range" in names
    assert "yesterday_is_there" not in names
