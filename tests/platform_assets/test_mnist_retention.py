"""What a deploy removes of what is old, what a rollback finds, and what must never go."""

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest

from platform_assets.mnist import deployed, model
from platform_assets.mnist.endpoint import mnist_endpoint
from platform_assets.mnist.published_classifier import ARTIFACT
from platform_assets.models import retention
from platform_assets.models.training import work_folder
from resources.s3 import ManifestInvalidError, ObjectStore, Publication
from resources.sagemaker import SageMakerResource
from tests.conftest import CHECKOUT
from tests.platform_assets.conftest import Platform, definitions
from tests.platform_assets.mnist_rig import live_config, put_classifier, put_digits
from tests.s3_front import in_front_of, with_keys

pytestmark = pytest.mark.minutes

DATES = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]
LATER = datetime(2100, 1, 1, tzinfo=UTC)
LOG = logging.getLogger(__name__)


def deploy(platform: Platform, date: str, *, keep: int = 2) -> dg.ExecuteInProcessResult:
    """Have the endpoint asset put the newest classifier into service."""
    kept = {"name": platform.env["PLATFORM_ENDPOINT_NAME"], "keep_versions": keep}
    config = {"resources": {"endpoint": {"config": kept}}}
    result = platform.run("digits", date, assets=["mnist/endpoint"], config=config)
    assert result.success
    return result


def press(platform: Platform, button: str, **config: Any) -> bool:
    return (
        definitions()
        .resolve_job_def(button)
        .execute_in_process(
            instance=platform.instance,
            run_config={"ops": {"rollback_endpoint_form": {"config": config}}},
            raise_on_error=False,
        )
        .success
    )


def standing(platform: Platform, endpoint: str) -> set[str]:
    """The sha256 of the classifiers that stand for an endpoint."""
    root = deployed.classifiers(platform.store).folder(endpoint, "").prefix
    return {item.key.removeprefix(root).split("/")[0] for item in platform.store.list(root)}


def latest_metadata(platform: Platform) -> dict[str, Any]:
    """Of the endpoint's latest materialisation."""
    event = platform.instance.get_latest_materialization_event(dg.AssetKey(["mnist", "endpoint"]))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_classifiers_go_with_the_versions_that_had_them_and_a_rollback_finds_the_rest(
    digits: Platform, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_digits(digits, *DATES)
    shas, configs = [], []
    for number, date in enumerate(DATES):
        shas.append(put_classifier(digits, date, 400 + number).sha256)
        deploy(digits, date)
        configs.append(live_config(endpoint))
    assert standing(digits, endpoint) == set(shas[2:])
    models = boto3.client("sagemaker").list_models(NameContains=endpoint)["Models"]
    assert len(models) == 2

    assert press(digits, "rollback_endpoint")
    assert live_config(endpoint) == configs[2]
    shown = latest_metadata(digits)
    assert shown["endpoint_config"] == configs[2]
    assert shown["classifier_date"] == DATES[2]
    tags = boto3.client("sagemaker").list_tags(
        ResourceArn=boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)[
            "EndpointArn"
        ]
    )["Tags"]
    assert {"Key": "partition", "Value": DATES[2]} in tags

    # What is live is told although nobody can say any more what it is.
    roll_back = SageMakerResource.rollback

    def roll_back_and_lose(sagemaker: SageMakerResource, *args: Any, **kwargs: Any) -> Any:
        done = roll_back(sagemaker, *args, **kwargs)
        deployed.classifiers(digits.store).folder(endpoint, shas[3]).remove()
        return done

    monkeypatch.setattr(SageMakerResource, "rollback", roll_back_and_lose)
    assert press(digits, "rollback_endpoint", to=configs[3])
    shown = latest_metadata(digits)
    assert shown["endpoint_config"] == configs[3]
    assert "which is no classifier" in shown["not_shown"]


@pytest.mark.parametrize("button", ["rollback_endpoint", "teardown_endpoint"])
def test_a_button_waits_for_a_deploy_under_way(button: str) -> None:
    """Or else the deploy would prove, and mark, a version that it did not put there."""
    (op,) = definitions().resolve_job_def(button).all_node_defs
    assert op.pools == mnist_endpoint.op.pools != set()


def test_a_rollback_by_the_command_past_several_versions_keeps_all_newer_ones_out(
    digits: Platform, endpoint: str, tmp_path: Path
) -> None:
    put_digits(digits, *DATES[:3])
    configs = []
    for number, date in enumerate(DATES[:3]):
        put_classifier(digits, date, 400 + number)
        assert digits.run("digits", date, assets=["mnist/endpoint"]).success
        configs.append(live_config(endpoint))

    chosen = tmp_path / "rollback.yaml"
    chosen.write_text(
        json.dumps({"ops": {"rollback_endpoint_form": {"config": {"to": configs[0]}}}})
    )
    job = ["-m", "platform_assets.definitions", "-j", "rollback_endpoint"]
    command = [sys.executable, "-m", "dagster", "job", "execute", *job]
    done = subprocess.run(
        [*command, "-c", str(chosen)],
        cwd=CHECKOUT,
        env=os.environ | {"DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert live_config(endpoint) == configs[0]
    assert digits.run("digits", DATES[2], assets=["mnist/endpoint"]).success
    assert live_config(endpoint) == configs[0]


def test_a_rollback_to_what_does_not_answer_rightly_is_undone(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, *DATES[:2])
    first = put_classifier(digits, DATES[0], 400)
    deploy(digits, DATES[0])
    second = put_classifier(digits, DATES[1], 410)
    deploy(digits, DATES[1])
    live = live_config(endpoint)
    # What the endpoint will load is not the artifact that was judged.
    digits.store.copy_from(
        digits.store,
        deployed.classifiers(digits.store).folder(endpoint, second.sha256).key(ARTIFACT),
        deployed.classifiers(digits.store).folder(endpoint, first.sha256).key(ARTIFACT),
    )

    assert not press(digits, "rollback_endpoint")
    assert live_config(endpoint) == live


def test_an_artifact_that_comes_back_is_of_its_latest_date(digits: Platform, endpoint: str) -> None:
    put_digits(digits, *DATES[:3])
    for date, examples in zip(DATES, [400, 410, 400], strict=False):
        put_classifier(digits, date, examples)
        deploy(digits, date)
    role = digits.env["PLATFORM_SAGEMAKER_ROLE_ARN"]
    live = deployed.find_live(digits.store, SageMakerResource(role_arn=role), endpoint)
    assert live is not None
    assert live.date == DATES[2]


def put_work(platform: Platform, digest: str, *dates: str) -> None:
    """A finished training, and dates that have its model."""
    work = work_folder(platform.store, model.PREFIX, digest)
    with Publication(work) as publication:
        publication.put("job/output/model.tar.gz", digest.encode())
        publication.commit(partition="", rows=1, code_version="1")
    for date in dates:
        with Publication(model.folder(platform.store, date)) as publication:
            publication.commit(
                partition=date,
                rows=1,
                code_version="1",
                extra={"artifact": work.key("job/output/model.tar.gz")},
            )


def works(platform: Platform) -> set[str]:
    root = work_folder(platform.store, model.PREFIX, "").prefix
    return {item.key.removeprefix(root).split("/")[0] for item in platform.store.list(root)}


def test_models_that_no_date_has_go_but_for_the_newest(platform: Platform) -> None:
    put_work(platform, "had", DATES[0], DATES[1])
    for digest in ["left-1", "left-2", "left-3"]:
        put_work(platform, digest)
        # S3 tells times to the second.
        wait_for_the_next_second()
    # A training under way: its artifact is there, its manifest is not.
    begun = work_folder(platform.store, model.PREFIX, "begun")
    platform.store.put_bytes(begun.key("job/output/model.tar.gz"), b"x")

    assert retention.remove_models(platform.store, model.PREFIX, keep=3, log=LOG) == 0
    assert retention.remove_models(platform.store, model.PREFIX, keep=1, log=LOG) == 2
    assert works(platform) == {"had", "left-3", "begun"}
    assert retention.remove_models(platform.store, model.PREFIX, keep=1, log=LOG) == 0


def wait_for_the_next_second() -> None:
    second = datetime.now(UTC).second
    while datetime.now(UTC).second == second:
        pass


def test_nothing_is_removed_where_a_date_cannot_be_read(platform: Platform) -> None:
    put_work(platform, "had", DATES[0])
    put_work(platform, "left")
    platform.store.put_bytes(model.folder(platform.store, DATES[1]).key("manifest.json"), b"{}")
    with pytest.raises(ManifestInvalidError):
        retention.remove_models(platform.store, model.PREFIX, keep=1, log=LOG)
    assert works(platform) == {"had", "left"}


def test_what_is_in_use_or_just_begun_stays(digits: Platform, endpoint: str) -> None:
    put_digits(digits, DATES[0])
    first = deployed.classifiers(digits.store).copy(put_classifier(digits, DATES[0], 40), endpoint)
    second = deployed.classifiers(digits.store).copy(put_classifier(digits, DATES[0], 50), endpoint)
    others = deployed.classifiers(digits.store).copy(
        put_classifier(digits, DATES[0], 60), "another"
    )
    began = min(item.modified for item in digits.store.list(first.files.folder.prefix))

    def remove(in_use: set[str], before: datetime) -> int:
        return retention.remove_deployed_models(
            deployed.classifiers(digits.store), endpoint, in_use=in_use, before=before, log=LOG
        )

    uris = {first.artifact_uri, second.artifact_uri}
    assert remove(uris, LATER) == 0
    assert remove(set(), began) == 0
    assert remove({first.artifact_uri}, LATER) == 1
    assert standing(digits, endpoint) == {first.sha256}
    assert standing(digits, "another") == {others.sha256}


def test_a_clean_up_that_fails_is_told_and_fails_no_deploy(digits: Platform, endpoint: str) -> None:
    for number in range(3):
        put_work(digits, f"left-{number}")
    digits.store.put_bytes(model.folder(digits.store, DATES[0]).key("manifest.json"), b"{}")
    put_digits(digits, DATES[0])
    put_classifier(digits, DATES[0], 400)
    (created,) = deploy(digits, DATES[0]).asset_materializations_for_node("mnist__endpoint")
    assert "is not a manifest" in str(created.metadata["clean_up_failed"].value)
    assert works(digits) == {"left-0", "left-1", "left-2"}


def test_what_any_endpoint_serves_stays(digits: Platform, endpoint: str) -> None:
    """A model that somebody made by hand of a classifier of ours, and serves."""
    put_digits(digits, DATES[0], DATES[1], DATES[2])
    first = put_classifier(digits, DATES[0], 400)
    deploy(digits, DATES[0])
    guest = f"{endpoint[5:]}-guest"
    client: Any = boto3.client("sagemaker")
    client.create_model(
        ModelName=guest,
        ExecutionRoleArn=digits.env["PLATFORM_SAGEMAKER_ROLE_ARN"],
        PrimaryContainer=served_by(client, live_config(endpoint)),
    )
    variant = {"VariantName": "one", "ModelName": guest, "InstanceType": "ml.m5.large"}
    client.create_endpoint_config(
        EndpointConfigName=guest, ProductionVariants=[{**variant, "InitialInstanceCount": 1}]
    )
    client.create_endpoint(EndpointName=guest, EndpointConfigName=guest)
    try:
        for number, date in enumerate(DATES[1:3], 1):
            put_classifier(digits, date, 400 + number)
            deploy(digits, date, keep=1)
        assert first.sha256 in standing(digits, endpoint)
    finally:
        SageMakerResource(
            role_arn=digits.env["PLATFORM_SAGEMAKER_ROLE_ARN"], poll_seconds=0.1
        ).teardown(guest)
        client.delete_endpoint_config(EndpointConfigName=guest)
        client.delete_model(ModelName=guest)


def served_by(client: Any, config: str) -> dict[str, Any]:
    (variant,) = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    container = client.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
    return {"Image": container["Image"], "ModelDataUrl": container["ModelDataUrl"]}


def test_what_is_foreign_among_models_is_named_and_stays(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    put_work(platform, "had", DATES[0])
    put_work(platform, "left")
    foreign = [
        model.folder(platform.store, "x").key("manifest.json"),
        model.folder(platform.store, DATES[0]).key(""),
        work_folder(platform.store, model.PREFIX, "left").key("a note.txt"),
        work_folder(platform.store, model.PREFIX, "left").key("line\nbreak/manifest.json"),
    ]
    for key in foreign:
        platform.store.put_bytes(key, b"")
    with caplog.at_level(logging.WARNING):
        assert retention.remove_models(platform.store, model.PREFIX, keep=0, log=LOG) == 1
    left = {
        item.key
        for item in platform.store.list(work_folder(platform.store, model.PREFIX, "left").prefix)
    }
    assert left == set(foreign[2:])
    assert all(caplog.text.count(repr(key)) == 1 for key in foreign)


def test_a_second_slash_does_not_have_somebody_elses_model_removed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The embedded S3 takes two slashes for one, so that a front of it has to show the key."""
    put_work(platform, "had", DATES[0])
    keys = [
        work_folder(platform.store, model.PREFIX, "had").key("/manifest.json"),
        model.folder(platform.store, DATES[0]).key("/m.json"),
    ]
    with in_front_of(platform.env["AWS_ENDPOINT_URL_S3"]) as front:
        front.rewrite = with_keys(*keys)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", front.url)
        store = ObjectStore(bucket=platform.store.bucket)
        assert retention.remove_models(store, model.PREFIX, keep=0, log=LOG) == 0
        assert {method for method, _ in front.requests} == {"GET"}
    assert works(platform) == {"had"}
    assert all(repr(key) in caplog.text for key in keys)
