"""Production on one host, for real: deploy/README.md's commands, Compose, and a run a container.

Tests come in the order of a story: both chains by way of the login; a run that is terminated; one
that is killed, and all services restarted, within a backfill; a new password; a backup, a wipe, and
a restore; and then, where the secrets are.
"""

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import numpy as np
import psycopg2
import pytest
from psycopg2.extensions import connection

from embedded import seed_listings
from embedded.aws import aws_client
from formats import recordio
from formats.mnist_pickle import dump
from tests.conftest import Services, fresh_bucket, fresh_database
from tests.deploy.compose_rig import IMAGE, Deployment, deployed
from tests.embedded.dagster_rig import Ui
from tests.platform_assets import airbnb_rig, mnist_rig
from tests.waiting import until

pytestmark = [pytest.mark.minutes, pytest.mark.docker]

DATES = [f"2026-03-{day:02}" for day in range(1, 7)]
MADE_FIRST, TERMINATED, BACKFILLED = DATES[:2], DATES[2], DATES[2:]
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
HISTORY = """{
  runsOrError { ... on Runs { results { runId status jobName tags { key value } } } }
  assetsOrError { ... on AssetConnection { nodes { key { path }
    assetMaterializations { runId partition timestamp } } } }
}"""


@pytest.fixture(scope="module")
def deployment(
    services: Services, s3_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with fresh_bucket(s3_client) as bucket, fresh_database(services) as database:
        digits = dump(mnist_rig.real_digits())
        s3_client.put_object(Bucket=bucket, Key=mnist_rig.PUBLIC, Body=digits)
        seed_listings.seed(database, DATES, places=120)
        settings = {
            "PLATFORM_BUCKET": bucket,
            "PLATFORM_AIRBNB_BUCKET": bucket,
            "PLATFORM_POSTGRES_DSN": database,
            "PLATFORM_MNIST_SOURCE": f"s3://{bucket}/{mnist_rig.PUBLIC}",
            "PLATFORM_ENDPOINT_NAME": f"test-{secrets.token_hex(4)}",
            "PLATFORM_FIRST_PARTITION": DATES[0],
            "PLATFORM_SAGEMAKER_POLL_SECONDS": "0.2",
            # As a generator of passwords may make it.
            "PLATFORM_PSEUDONYM_KEY": f"$HOME#'\"{secrets.token_urlsafe(16)} \\n",
            "PLATFORM_PSEUDONYMISE": '["host_id"]',
            "PLATFORM_ALERTS": f"http://127.0.0.1:9/{secrets.token_urlsafe(16)}",
        }
        with deployed(services, settings, tmp_path_factory.mktemp("compose")) as running:
            yield running


@pytest.fixture
def table(services: Services, deployment: Deployment) -> Iterator[connection]:
    """The table of listings, past the platform."""
    dsn = deployment.settings["PLATFORM_POSTGRES_DSN"]
    with closing(psycopg2.connect(dsn.replace(deployment.bridge.address, "127.0.0.1"))) as opened:
        yield opened


def begin(ui: Ui, first: str, last: str) -> str:
    """Begin a backfill of the listings of some dates; its id."""
    return ui.begin_backfill(
        assetSelection=[
            {"path": ["airbnb", name]}
            for name in ("snapshot", "price_changes", "neighbourhood_summary")
        ],
        partitionNames=[day for day in DATES if first <= day <= last],
    )


def result(deployment: Deployment, s3_client: Any, key: str) -> Any:
    bucket = deployment.settings["PLATFORM_AIRBNB_BUCKET"]
    return json.loads(s3_client.get_object(Bucket=bucket, Key=key)["Body"].read())


def assert_right(
    deployment: Deployment, s3_client: Any, table: connection, days: list[str]
) -> None:
    """What was published of the listings is what SQL makes of the table."""
    for day in days:
        for name, order in (("biggest_increase", "rises"), ("biggest_decrease", "falls")):
            key = f"airbnb/price_changes/date={day}/{name}.json"
            published = result(deployment, s3_client, key)
            assert published == airbnb_rig.biggest(table, day, order), (day, name)


def test_both_chains_are_made_by_who_may_and_are_right(
    deployment: Deployment, s3_client: Any, table: connection
) -> None:
    reader, editor = deployment.ui("reader"), deployment.ui("editor")
    with httpx.Client(trust_env=False, timeout=120) as nobody:
        asked = {"query": "{ version }"}
        assert nobody.post(f"{deployment.ui('').url}/graphql", json=asked).status_code == 401
    params = {"selector": {}, "executionMetadata": {"tags": []}}
    digits = {**params, "executionMetadata": {"tags": [tag("dagster/partition", DATES[0])]}}
    listings = {
        **params,
        "executionMetadata": {"tags": [tag(*pair) for pair in zip(RANGE, MADE_FIRST, strict=True)]},
    }
    with pytest.raises(AssertionError, match="UnauthorizedError"):
        reader.launch("digits", **digits)
    for job, dates in (("listings", listings), ("digits", digits)):
        run = editor.launch(job, **dates)
        assert run["status"] == "SUCCESS", failures_of(editor, run["id"])
    assert_right(deployment, s3_client, table, MADE_FIRST[1:])
    assert reads_digits(deployment, s3_client) >= 0.9


def failures_of(ui: Ui, run_id: str) -> list[str]:
    """What the failed steps of a run said."""
    events = ui.query(
        """query($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection(limit: 10000) {
             events { ... on ExecutionStepFailureEvent { error { message } } } } } } }""",
        id=run_id,
    )["runOrError"]["eventConnection"]["events"]
    return [event["error"]["message"] for event in events if event]


def tag(key: str, value: str) -> dict[str, str]:
    return {"key": key, "value": value}


def reads_digits(deployment: Deployment, s3_client: Any) -> float:
    """Of the public test digits, the share that the endpoint reads rightly."""
    expected = mnist_rig.real_digits().test.labels
    key = f"mnist/dataset/date={DATES[0]}/test/data.rec"
    data = s3_client.get_object(Bucket=deployment.settings["PLATFORM_BUCKET"], Key=key)
    images, _ = recordio.decode(data["Body"].read())
    runtime = aws_client(deployment.settings, "sagemaker-runtime")
    answer = runtime.invoke_endpoint(
        EndpointName=deployment.settings["PLATFORM_ENDPOINT_NAME"],
        ContentType="text/csv",
        Accept="text/csv",
        Body="\n".join(",".join(f"{value:.9g}" for value in image) for image in images.tolist()),
    )
    clusters = [float(line.split(b",")[0]) for line in answer["Body"].read().splitlines()]
    return float(np.mean(np.array(clusters) % 10 == expected))


def hold(deployment: Deployment) -> None:
    """Have number crunchers wait for S3: their network is the bridge's, that of runs is not."""
    deployment.bridge.hold(deployment.bridge.address.rpartition(".")[0])


def held_run(deployment: Deployment, ui: Ui, backfill: str, *before: str) -> str:
    """The run of a backfill, beside those before, once its number cruncher waits; its id."""

    def waiting() -> str | None:
        for run in ui.show_backfill(backfill)["runs"]:
            if run["runId"] not in before:
                for cruncher in deployment.containers(f"data-platform.run-id={run['runId']}"):
                    address = cruncher.attrs["NetworkSettings"]["IPAddress"]
                    if address in deployment.bridge.waiting:
                        return run["runId"]
        return None

    return until(waiting)


def test_a_run_is_terminated(deployment: Deployment) -> None:
    ui = deployment.ui("editor")
    hold(deployment)
    run_id = held_run(deployment, ui, begin(ui, TERMINATED, TERMINATED))
    ui.query("mutation($id: String!) { terminateRun(runId: $id) { __typename } }", id=run_id)
    assert ui.ended(run_id)["status"] == "CANCELED"
    for label in (f"dagster/run_id={run_id}", f"data-platform.run-id={run_id}"):
        until(lambda label=label: not deployment.containers(label))
    deployment.bridge.release()
    assert ui.statuses("price_changes").get(TERMINATED) != "MATERIALIZED"


def test_a_killed_run_and_restarted_services_within_a_backfill(
    deployment: Deployment, s3_client: Any, table: connection
) -> None:
    ui = deployment.ui("editor")
    hold(deployment)
    backfill = begin(ui, BACKFILLED[0], BACKFILLED[-1])
    killed = held_run(deployment, ui, backfill)
    (container,) = deployment.containers(f"dagster/run_id={killed}")
    container.kill()
    # Its successor begins by itself, and its number cruncher waits as well.
    again = held_run(deployment, ui, backfill, killed)
    deployment.compose("restart")
    deployment.bridge.release()
    deployment.compose("up -d --wait")
    runs = {run["id"]: run["status"] for run in ui.backfilled(backfill)}
    assert runs == {killed: "FAILURE", again: "SUCCESS"}
    assert ui.show_backfill(backfill)["status"] == "COMPLETED_SUCCESS"
    assert ui.statuses("price_changes") == dict.fromkeys(DATES, "MATERIALIZED")
    assert_right(deployment, s3_client, table, DATES[1:])


def test_history_outlives_its_database(deployment: Deployment) -> None:
    editor = deployment.ui("editor")
    before = editor.query(HISTORY)
    assert len(before["runsOrError"]["results"]) >= 5
    old = deployment.private("platform/records_password").read_text()
    # With a new password on the way.
    deployment.compose("run --rm records rotate")
    assert deployment.private("platform/records_password").read_text() != old
    deployment.compose("run --rm records backup")
    deployment.witness.seen["what services printed"] = deployment.compose("logs --no-color")
    deployment.compose("down --volumes")
    deployment.compose("run --rm records restore")
    deployment.compose("up -d --wait")
    assert editor.query(HISTORY) == before


def test_no_secret_is_where_others_may_look(deployment: Deployment, s3_client: Any) -> None:
    planted = deployment.planted()
    assert all(len(secret) >= 12 for secret in planted.values())
    places = {
        **deployment.witness.seen,
        "the image": json.dumps(deployment.client.images.get(IMAGE).attrs),
        "its history": json.dumps(deployment.client.images.get(IMAGE).history()),
        "what services print now": deployment.compose("logs --no-color"),
        "Dagster's records": deployment.compose("exec -T postgres pg_dump -U dagster dagster"),
        **printed_by_runs(deployment, s3_client),
    }
    kinds = ("code-server", "daemon", "webserver", "postgres", "login", "records")
    for kind in kinds:
        assert any(f"-{kind}-" in name for name in deployment.witness.seen), kind
    assert any("dagster/run_id" in said for said in deployment.witness.seen.values())
    assert any("data-platform.run-id" in said for said in deployment.witness.seen.values())
    assert [
        (what, place)
        for place, text in places.items()
        for what, secret in planted.items()
        if secret in text or json.dumps(secret)[1:-1] in text
    ] == []
    assert_layers_lack(deployment, planted)


def printed_by_runs(deployment: Deployment, s3_client: Any) -> dict[str, str]:
    """What runs have printed, by the names of the objects."""
    bucket = deployment.settings["PLATFORM_BUCKET"]
    listed = s3_client.list_objects_v2(Bucket=bucket, Prefix="dagster/storage/")
    keys = [item["Key"] for item in listed["Contents"]]
    return {
        key: s3_client.get_object(Bucket=bucket, Key=key)["Body"].read().decode() for key in keys
    }


def assert_layers_lack(deployment: Deployment, planted: dict[str, str]) -> None:
    """No layer of the image has one of these, whatever a later one hides."""
    saved = subprocess.Popen(["docker", "save", IMAGE], stdout=subprocess.PIPE)
    patterns = [word for secret in planted.values() for word in ("-e", secret)]
    looked = subprocess.run(
        ["grep", "--binary-files=text", "--fixed-strings", "--quiet", *patterns],
        stdin=saved.stdout,
        env={"LC_ALL": "C"},
        check=False,
    )
    assert looked.returncode == 1
    assert saved.wait() == 0
