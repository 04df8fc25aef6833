"""What the UI can show of every node and every materialisation, asked for as the UI does."""

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image
from psycopg2.extensions import connection
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from embedded.graphql import Dagster, DagsterError
from platform_assets.pictures import DATES_DRAWN
from tests.conftest import CHECKOUT, Services, clean_environ
from tests.local_servers import free_port
from tests.platform_assets.airbnb_rig import DATES, FIRST, LAST
from tests.platform_assets.conftest import Platform, definitions
from tests.platform_assets.mnist_rig import FEW

NODES = """query { assetNodes {
  assetKey { path } description groupName kinds owners { ... on TeamAssetOwner { team } }
  tags { key value } isObservable isMaterializable dependencyKeys { path }
  internalFreshnessPolicy { __typename }
  metadataEntries { label
    ... on UrlMetadataEntry { url }
    ... on CodeReferencesMetadataEntry { codeReferences {
      ... on LocalFileCodeReference { filePath lineNumber } } } } } }"""
EVENTS = """query { assetNodes { assetKey { path }
  assetObservations(limit: 100) { partition tags { key value }
    metadataEntries { label ... on IntMetadataEntry { intValue }
      ... on TextMetadataEntry { text } ... on TimestampMetadataEntry { timestamp } } }
  assetMaterializations(limit: 100) { partition tags { key value }
    metadataEntries { label
      ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
      ... on UrlMetadataEntry { url } ... on MarkdownMetadataEntry { mdStr }
      ... on TableSchemaMetadataEntry { schema { columns { name description } } } } } } }"""
MOST_PICTURE_BYTES = 60_000
PICTURES = {
    "mnist/dataset": {"digits"},
    "mnist/classifier": {"centroids", "confusion_picture", "worst_mistakes"},
    "mnist/endpoint": {"proof"},
    "airbnb/price_changes": {"changes"},
    "airbnb/neighbourhood_summary": {"median_prices"},
}


@pytest.fixture(scope="module")
def webserver(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Dagster]]:
    """Dagster's webserver on the platform, and the DAGSTER_HOME with its records."""
    home = tmp_path_factory.mktemp("records")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    own = {"DAGSTER_HOME": str(home), "PLATFORM_API_URL": "https://digits.example.com/v1"}
    port = str(free_port())
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster_webserver", "-m", "platform_assets.definitions"),
            *("--host", "127.0.0.1", "--port", port, "--log-level", "error"),
        ],
        cwd=CHECKOUT,
        env=clean_environ(**{**services.env, **own}),
    )
    try:
        yield home, Dagster(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def shown(
    digits: Platform, webserver: tuple[Path, Dagster], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Platform, Dagster]]:
    """The platform with the records that the webserver shows: those of earlier tests stay."""
    home, dagster = webserver
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield replace(digits, instance=instance), dagster


def ask(dagster: Dagster, query: str) -> dict[str, dict[str, Any]]:
    """What is answered of each asset, by its key; waits until the webserver answers."""
    answers = Retrying(
        retry=retry_if_exception_type(DagsterError),
        stop=stop_after_delay(300),
        wait=wait_fixed(0.5),
        reraise=True,
    )(dagster.query, query)["assetNodes"]
    return {"/".join(answer["assetKey"]["path"]): answer for answer in answers}


def entries(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event's metadata by their labels."""
    return {
        entry["label"]: next((value for name, value in entry.items() if name != "label"), None)
        for entry in event["metadataEntries"]
    }


def picture(markdown: str) -> Image.Image:
    """The picture in a value of Markdown."""
    encoded = re.match(r"!\[.+\]\(data:image/png;base64,([^)]+)\)", markdown)
    assert encoded is not None
    assert len(encoded[1]) <= MOST_PICTURE_BYTES
    image = Image.open(io.BytesIO(base64.b64decode(encoded[1])))
    image.load()
    assert image.format == "PNG"
    return image.convert("RGB")


def test_every_node_says_what_it_is_whose_it_is_and_where_its_code_is(
    shown: tuple[Platform, Dagster],
) -> None:
    nodes = ask(shown[1], NODES)
    assert {
        *("mnist/public", "mnist/raw", "mnist/dataset", "mnist/model", "mnist/classifier"),
        *("mnist/endpoint", "mnist/api", "mnist/page"),
        *("airbnb/listings", "airbnb/snapshot", "airbnb/price_changes"),
        "airbnb/neighbourhood_summary",
    } <= nodes.keys()
    for key, node in nodes.items():
        assert node["description"], key
        assert node["kinds"], key
        assert [owner["team"] for owner in node["owners"]], key
        assert node["groupName"] == key.split("/")[0]
        tags = {tag["key"]: tag["value"] for tag in node["tags"]}
        assert tags["domain"] in ("digits", "listings"), key
        assert tags["tier"] in ("source", "raw", "derived", "served"), key
        code = entries(node)["dagster/code_references"][0]
        lines = Path(code["filePath"]).read_text().splitlines()
        assert 0 < code["lineNumber"] <= len(lines), key
        # What is due every day says so: all that a job makes.
        assert bool(node["internalFreshnessPolicy"]) == node["isMaterializable"], key
    assert {key for key, node in nodes.items() if node["isObservable"]} == {
        "mnist/public",
        "airbnb/listings",
    }
    assert nodes["mnist/page"]["dependencyKeys"] == [{"path": ["mnist", "api"]}]
    assert nodes["mnist/api"]["dependencyKeys"] == [{"path": ["mnist", "endpoint"]}]
    assert entries(nodes["mnist/api"])["url"] == "https://digits.example.com/v1"
    assert entries(nodes["mnist/page"])["url"] == "https://digits.example.com/v1/"


def test_every_materialisation_has_rows_a_version_and_something_to_look_at(
    shown: tuple[Platform, Dagster], table: connection
) -> None:
    platform, dagster = shown
    assert platform.run("digits", LAST, config=FEW).success
    assert platform.run("listings", FIRST, LAST).success
    answers = ask(dagster, EVENTS)
    created = {key: answer["assetMaterializations"] for key, answer in answers.items()}
    assert {key for key, events in created.items() if events} == {
        *("mnist/raw", "mnist/dataset", "mnist/model", "mnist/classifier", "mnist/endpoint"),
        *("airbnb/snapshot", "airbnb/price_changes", "airbnb/neighbourhood_summary"),
    }
    assert len(created["airbnb/snapshot"]) == len(DATES) <= DATES_DRAWN
    for key, events in created.items():
        for event in events:
            metadata = entries(event)
            rows = "dagster/partition_row_count" if event["partition"] else "dagster/row_count"
            least = 0 if (key, event["partition"]) == ("airbnb/price_changes", FIRST) else 1
            assert metadata[rows] >= least, (key, event["partition"])
            assert any(tag["key"] == "dagster/data_version" for tag in event["tags"]), key
            # Nothing of the machine, of other dates, or of a cloud that is not there.
            assert not metadata.keys() & {"mode_reason", "seconds", "peak_memory_mb"}
            assert "console.aws.amazon.com" not in str(metadata)
            assert "not_shown" not in metadata, metadata
            # Prices can have changed from the second day on: before, there is nothing to draw.
            labels = PICTURES.get(key, ()) if least else ()
            for label in labels:
                colours = picture(metadata[label]).getcolors(2**16)
                assert colours is not None
                assert len(colours) > 2, (key, label)
            for column in metadata.get("dagster/column_schema", {}).get("columns", ()):
                assert column["description"], (key, column["name"])
    for event in created["airbnb/snapshot"]:
        figures = entries(event)
        assert 0 < figures["null_share"] < 1
        assert 0 < figures["unpriced_share"] < 1
        assert figures["median_price"] > 0
        assert figures["export_seconds"] > 0


def test_both_sources_are_observed_by_one_job(
    shown: tuple[Platform, Dagster], table: connection
) -> None:
    platform, dagster = shown
    job = definitions().resolve_job_def("observe_sources")
    assert job.execute_in_process(instance=platform.instance).success
    answers = ask(dagster, EVENTS)
    (seen,) = answers["mnist/public"]["assetObservations"]
    public = entries(seen)
    assert public["bytes"] > 0
    assert public["etag"] in [tag["value"] for tag in seen["tags"]]
    assert public["last_modified"] > 0
    of_table, *of_days = answers["airbnb/listings"]["assetObservations"]
    listings = entries(of_table)
    with table.cursor() as cursor:
        cursor.execute("select count(*), max(download_date)::text from listings")
        assert (listings["dagster/row_count"], listings["newest_day"]) == cursor.fetchone()
    assert {event["partition"] for event in of_days} == set(DATES)
