"""Tables, observations and checks for people: compared with SQL, and seen to fail with evidence."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date as Date  # noqa: N812 - dates are text everywhere else
from typing import Any

import dagster as dg
import pytest
from psycopg2.extensions import connection

from platform_assets.mnist import deployed
from platform_assets.mnist.endpoint_checks import judge_answers
from platform_assets.models.endpoint import Endpoint
from platform_assets.pictures import DATES_DRAWN, newest
from platform_assets.tables.observed import describe_days
from resources.s3 import Publication
from resources.sagemaker import Invocation, SageMakerResource
from tests.platform_assets import mnist_rig
from tests.platform_assets.airbnb_rig import CHANGES, DATES, FIRST, LAST, ask, biggest, change
from tests.platform_assets.conftest import Platform, definitions, reason_of
from tests.platform_assets.mnist_rig import put_classifier, put_digits

DATE, NEXT = "2026-01-05", "2026-01-06"
ENDPOINT = "mnist/endpoint"
LISTINGS = dg.AssetKey(["airbnb", "listings"])
VERSION = "dagster/data_version"
# Dagster's UI shows Markdown of fewer characters in the overview, and longer ones at a click.
SHOWN_AT_ONCE = 1000


def metadata(platform: Platform, asset: str, date: str) -> Mapping[str, Any]:
    """Of a date's newest materialisation."""
    records = platform.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset.split("/")), asset_partitions=[date]), limit=1
    ).records
    assert records[0].asset_materialization is not None
    return records[0].asset_materialization.metadata


def day(date: object) -> Date:
    return Date.fromisoformat(str(date))


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of a table in Markdown, without its head."""
    lines = markdown.splitlines()[2:]
    return [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines]


@pytest.mark.parametrize(
    ("label", "order"), [("biggest_increase", "rises"), ("biggest_decrease", "falls")]
)
def test_the_biggest_changes_are_those_of_sql_with_their_neighbourhoods(
    platform: Platform, table: connection, label: str, order: str
) -> None:
    change(table, "update listings set neighbourhood = 'a|b <i>' where neighbourhood like 'C%%'")
    # Of some of the listings, the last snapshot is not the one of the day.
    change(table, "delete from listings where download_date = %(day)s and id %% 2 = 0", day=LAST)
    assert platform.run("listings", FIRST, LAST).success
    expected = []
    for row in biggest(table, LAST, order):
        query = "select neighbourhood from listings where id = %(id)s and download_date = %(day)s"
        ((place,),) = ask(table, query, id=row["id"], day=row["last_date"])
        shown = place.replace("|", "&#124;").replace("<", "&#60;")
        expected.append(
            [
                f"{row['price_change_per_day']:,.2f}",
                f"{row['first_price']:,.10g} → {row['last_price']:,.10g}",
                str((day(row["last_date"]) - day(row["first_date"])).days),
                *(shown, str(row["id"])),
            ]
        )
    assert expected
    markdown = str(metadata(platform, CHANGES, LAST)[label].value)
    assert rows_of(markdown) == expected
    assert len(markdown) < SHOWN_AT_ONCE


def test_only_the_newest_dates_of_a_long_range_are_drawn() -> None:
    dates = [f"2026-01-{day:02}" for day in range(1, 31)]
    assert newest(dates[::-1]) == set(dates[-DATES_DRAWN:])


def test_what_cannot_be_drawn_is_a_sentence_and_the_date_is_made(
    platform: Platform, table: connection
) -> None:
    assert platform.run("listings", FIRST, LAST).success
    # The snapshot with the neighbourhood of the biggest change is damaged meanwhile.
    snapshot = f"airbnb/listings/date={LAST}/listings.parquet"
    platform.store.put_bytes(snapshot, b"no parquet")
    assert platform.run("listings", LAST, assets=[CHANGES]).success
    assert "is not the file" in str(metadata(platform, CHANGES, LAST)["not_shown"].value)


def observe(platform: Platform) -> dg.ExecuteInProcessResult:
    """What the button in the UI does, of the table alone."""
    return (
        definitions()
        .resolve_job_def("observe_sources")
        .execute_in_process(
            instance=platform.instance, asset_selection=[LISTINGS], raise_on_error=False
        )
    )


def observations(platform: Platform) -> list[dg.AssetObservation]:
    """Those of the table, the newest first."""
    records = platform.instance.fetch_observations(LISTINGS, limit=100).records
    return [record.asset_observation for record in records if record.asset_observation]


def test_a_day_that_changes_is_observed_again_and_no_other(
    platform: Platform, table: connection
) -> None:
    assert observe(platform).success
    before = {item.partition: (item.tags or {})[VERSION] for item in observations(platform)}
    assert before.keys() == {None, *DATES}

    assert observe(platform).success
    (latest, *_) = observations(platform)
    assert len(observations(platform)) == len(before) + 1
    assert (latest.partition, (latest.tags or {})[VERSION]) == (None, before[None])
    assert latest.metadata["changed_days"].value == 0

    change(
        table,
        "update listings set name = name || '!' where download_date = %(day)s and id = "
        "(select min(id) from listings where download_date = %(day)s)",
        day=DATES[1],
    )
    assert observe(platform).success
    whole, of_day = observations(platform)[:2]
    assert whole.metadata["changed_days"].value == 1
    assert of_day.partition == DATES[1]
    assert (of_day.tags or {})[VERSION] != before[DATES[1]]
    assert (whole.tags or {})[VERSION] != before[None]

    change(table, "delete from listings where download_date = %(day)s", day=DATES[0])
    assert observe(platform).success
    _, of_day = observations(platform)[:2]
    assert of_day.partition == DATES[0]
    assert of_day.metadata["dagster/partition_row_count"].value == 0
    assert (of_day.tags or {})[VERSION] != before[DATES[0]]
    assert observe(platform).success
    assert observations(platform)[0].metadata["changed_days"].value == 0


@pytest.mark.parametrize("kind", ["text", "timestamptz", "none"])
def test_a_table_is_observed_whatever_its_day_is(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "none":
        monkeypatch.setenv("PLATFORM_LISTINGS_DATE_COLUMN", "")
        change(table, "alter table listings drop column download_date cascade")
    else:
        change(table, f"alter table listings alter download_date type {kind}")
        change(table, "alter table listings rename to downloads")
        monkeypatch.setenv("PLATFORM_LISTINGS_TABLE", "downloads")
    name = "listings" if kind == "none" else "downloads"
    ((rows,),) = ask(table, f"select count(*) from {name}")
    assert observe(platform).success
    whole, *days = observations(platform)
    assert whole.metadata["dagster/table_name"].value == name
    assert whole.metadata["dagster/row_count"].value == rows
    assert (
        sum(int(str(item.metadata["dagster/partition_row_count"].value)) for item in days) == rows
    )
    assert len(days) == (1 if kind == "none" else len(DATES))


def test_of_a_table_without_a_day_what_it_held_on_earlier_days_is_not_gone(
    platform: Platform, table: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_LISTINGS_DATE_COLUMN", "")
    change(table, "alter table listings drop column download_date cascade")
    earlier = dg.AssetObservation(LISTINGS, partition=DATES[0], tags={VERSION: "earlier"})
    platform.instance.report_runless_asset_event(earlier)
    assert observe(platform).success
    assert [item.partition for item in observations(platform)].count(DATES[0]) == 1


def test_of_an_empty_table_there_is_no_newest_day_and_of_a_query_no_name() -> None:
    (whole,) = describe_days(LISTINGS, [], {}, table_name="")
    assert whole.metadata["dagster/row_count"].value == 0
    assert not {"newest_day", "dagster/table_name"} & whole.metadata.keys()


def test_a_table_that_cannot_be_observed_says_why(platform: Platform, table: connection) -> None:
    change(table, "alter table listings rename price to nightly")
    assert "column price (double) is missing" in reason_of(observe(platform))
    change(table, "drop table listings")
    assert "there is no such table" in reason_of(observe(platform))


def evaluation(platform: Platform, check: tuple[str, str], date: str = DATE) -> Any:
    """The evaluation of one check, which makes nothing."""
    result = platform.run("checks_alone", date, assets=[], checks=[check])
    assert not result.get_asset_materialization_events()
    (evaluated,) = result.get_asset_check_evaluations()
    return evaluated


def test_an_endpoint_that_is_not_the_wanted_one_is_told_with_both_versions(
    digits: Platform, endpoint: str
) -> None:
    wanted = (ENDPOINT, "is_the_wanted_one")
    missing = evaluation(digits, wanted)
    assert not missing.passed
    assert f"There is no endpoint {endpoint}" in missing.description

    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 400)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    assert evaluation(digits, wanted).passed

    put_classifier(digits, NEXT, 1000)
    live = mnist_rig.live_config(endpoint)
    outdated = evaluation(digits, wanted)
    assert not outdated.passed
    assert outdated.metadata["endpoint_config"].value == live
    assert outdated.metadata["wanted_classifier_date"].value == NEXT
    versions = {outdated.metadata[f"{which}_version"].value for which in ("served", "wanted")}
    assert len(versions) == 2
    assert mnist_rig.live_config(endpoint) == live


class ForgetfulSageMaker(SageMakerResource):
    """Loses the last answer of each request to an endpoint."""

    def invoke(self, *args: Any, **kwargs: Any) -> Invocation:
        """The endpoint's own answers but one."""
        answer = super().invoke(*args, **kwargs)
        predictions = json.loads(answer.body)["predictions"][:-1]
        return replace(answer, body=json.dumps({"predictions": predictions}).encode())


def test_an_endpoint_that_answers_otherwise_than_its_classifier_shows_its_answers(
    digits: Platform, endpoint: str
) -> None:
    answers = (ENDPOINT, "answers_test_digits")
    assert "serves nothing" in evaluation(digits, answers).description
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 30)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    good = evaluation(digits, answers)
    assert good.passed
    assert good.metadata["read_otherwise"].value == 0

    sagemaker = ForgetfulSageMaker(role_arn=digits.env["PLATFORM_SAGEMAKER_ROLE_ARN"])
    short = judge_answers(Endpoint(name=endpoint), digits.store, sagemaker)
    assert short.description == "The endpoint gave 99 answers to 100 test digits."
    assert (short.passed, short.metadata) == (False, {"classifier_date": DATE})

    # What is said to be served is another classifier than the one that answers.
    live = deployed.find_live(digits.store, sagemaker, endpoint)
    assert live is not None
    other = put_classifier(digits, NEXT, 1000).files
    with Publication(live.files.folder) as publication:
        for file in other.manifest.files:
            publication.put(file.name, other.read(file.name, max_bytes=2**26))
        publication.commit(
            partition=DATE,
            rows=other.manifest.rows,
            code_version=other.manifest.code_version,
            inputs={},
            extra=other.manifest.extra,
        )
    bad = evaluation(digits, answers)
    assert not bad.passed
    assert bad.metadata["read_otherwise"].value > 0
    assert re.match(r"!\[.*\]\(data:image/png;base64,", str(bad.metadata["answers"].value))


def test_a_model_below_the_floor_is_warned_of_with_its_confusions(digits: Platform) -> None:
    mnist_rig.publish(digits, mnist_rig.mislabelled(mnist_rig.real_digits()))
    created = ["mnist/raw", "mnist/dataset", "mnist/model"]
    result = digits.run("digits", DATE, assets=created, config=mnist_rig.FEW)
    assert result.success
    warned: Any
    (warned,) = [item for item in result.get_asset_check_evaluations() if not item.passed]
    assert (warned.check_name, warned.severity) == ("accuracy_floor", dg.AssetCheckSeverity.WARN)
    assert 0 < warned.metadata["accuracy"].value < 0.5
    assert "validation digits rightly; 90.0% are asked for" in str(warned.description)
    picture = str(warned.metadata["confusion"].value)
    assert picture.startswith("![Confusion matrix](data:image/png;base64,"), "of no test digits"
