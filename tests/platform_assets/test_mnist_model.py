"""From the channels to a live endpoint: training, the gate, deployment and what stops it."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import dagster as dg
import numpy as np
import pytest

from formats import ndarray_file, recordio
from formats.mnist_pickle import MnistDataset, Split
from platform_assets.mnist import classifier, dataset, model
from platform_assets.mnist.gate import AccuracyMargin
from platform_assets.mnist.published_classifier import ARTIFACT
from platform_assets.models.training import work_folder
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.mnist_rig import (
    FEW,
    live_config,
    mislabelled,
    publish,
    put_classifier,
    put_digits,
    real_digits,
)

pytestmark = pytest.mark.minutes

DATE, NEXT = "2026-01-05", "2026-01-06"
STRICT = {"ops": {**FEW["ops"], "mnist__classifier": {"config": {"min_accuracy": 0.999}}}}
MODEL, CLASSIFIER, ENDPOINT = "mnist/model", "mnist/classifier", "mnist/endpoint"


def jobs(platform: Platform) -> list[str]:
    """Names of the training jobs that write into this test's bucket."""
    client = boto3.client("sagemaker")
    names = [
        item["TrainingJobName"]
        for page in client.get_paginator("list_training_jobs").paginate()
        for item in page["TrainingJobSummaries"]
    ]
    outputs = {
        name: client.describe_training_job(TrainingJobName=name)["OutputDataConfig"]["S3OutputPath"]
        for name in names
    }
    return [name for name, output in outputs.items() if platform.store.bucket in output]


def evaluation(platform: Platform, date: str = DATE) -> dict[str, Any]:
    key = f"mnist/classifiers/date={date}/evaluation.json"
    return json.loads(platform.store.get_bytes(key, max_bytes=2**20))


def metadata(platform: Platform, asset: str) -> dict[str, Any]:
    event = platform.instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def test_the_live_endpoint_answers_with_digits_as_rightly_as_it_was_judged(
    digits: Platform, endpoint: str
) -> None:
    assert digits.run("digits", DATE, config=FEW).success

    data = digits.store.get_bytes(
        dataset.folder(digits.store, DATE).key("test/data.rec"), max_bytes=2**24
    )
    images, labels = recordio.decode(data)
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint,
        ContentType="text/csv",
        Accept="text/csv",
        Body="\n".join(",".join(f"{value:.9g}" for value in image) for image in images.tolist()),
    )
    clusters = [float(line.split(b",")[0]) for line in answer["Body"].read().splitlines()]
    accuracy = np.mean(np.array(clusters) % 10 == labels)

    assert evaluation(digits)["accuracy"] == pytest.approx(accuracy)
    assert accuracy >= 0.9
    assert np.sum(evaluation(digits)["confusion"]) == 300
    assert np.trace(evaluation(digits)["confusion"]) == pytest.approx(accuracy * 300)


def test_a_run_after_a_success_changes_nothing_and_equal_digits_later_are_not_trained_again(
    digits: Platform, endpoint: str
) -> None:
    assert digits.run("digits", DATE, config=FEW).success
    config = live_config(endpoint)
    assert metadata(digits, MODEL)["billable_seconds"] > 0
    before = {item.key: item.etag for item in digits.store.list("mnist/")}
    assert digits.run("digits", DATE, config=FEW).success
    assert {item.key: item.etag for item in digits.store.list("mnist/")} == before
    assert len(jobs(digits)) == 1

    assert digits.run("digits", NEXT, config=FEW).success
    (job,) = jobs(digits)
    assert metadata(digits, MODEL)["training_job"] == job
    assert metadata(digits, MODEL)["reused"] is True
    assert metadata(digits, MODEL)["billable_seconds"] == 0
    # The same artifact on another date is no other version.
    assert metadata(digits, ENDPOINT)["outcome"] == "unchanged"
    assert live_config(endpoint) == config


def test_a_model_that_somebody_has_removed_is_trained_again(digits: Platform) -> None:
    """SageMaker still has the finished job, and its artifact is nowhere."""
    created = ["mnist/raw", "mnist/dataset", MODEL, CLASSIFIER]
    assert digits.run("digits", DATE, assets=created, config=FEW).success
    digits.store.delete_prefix(work_folder(digits.store, model.PREFIX, "").prefix)
    assert digits.run("digits", DATE, assets=created, config=FEW).success
    assert len(jobs(digits)) == 2


def test_what_fails_its_gate_is_not_deployed(digits: Platform, endpoint: str) -> None:
    result = digits.run("digits", DATE, config=STRICT)
    assert list(failed_checks(result)) == ["accuracy_above_gate"]
    assert not boto3.client("sagemaker").list_endpoints(NameContains=endpoint)["Endpoints"]


def test_what_fails_its_gate_leaves_the_old_version_live(digits: Platform, endpoint: str) -> None:
    assert digits.run("digits", DATE, config=FEW).success
    config = live_config(endpoint)
    publish(digits, mislabelled(real_digits()))
    result = digits.run("digits", NEXT, config=FEW)

    assert "accuracy_above_gate" in failed_checks(result)
    assert live_config(endpoint) == config
    # Asked for by itself, where no check stands before it, the endpoint still goes by the verdict.
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    assert live_config(endpoint) == config


def test_a_date_made_again_does_not_touch_what_is_live(digits: Platform, endpoint: str) -> None:
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 1000)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    client: Any = boto3.client("sagemaker")

    def live_artifact() -> bytes:
        config = client.describe_endpoint_config(EndpointConfigName=live_config(endpoint))
        model = client.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
        uri = model["PrimaryContainer"]["ModelDataUrl"]
        return digits.store.get_bytes(uri.removeprefix(digits.store.uri("")), max_bytes=2**24)

    before = live_artifact()
    few = {"ops": {"mnist__model": {"config": {"clusters": 12}}}}
    again = digits.run("digits", DATE, assets=[MODEL, CLASSIFIER, ENDPOINT], config=few)
    assert not again.success  # 12 clusters fail the gate
    assert live_artifact() == before


def test_without_any_approved_classifier_the_endpoint_says_what_to_do(
    digits: Platform, endpoint: str
) -> None:
    message = reason_of(digits.run("digits", DATE, assets=[ENDPOINT]))
    assert "has passed its gate: materialise mnist/classifier" in message


def test_a_classifier_that_nobody_could_prove_does_not_go_live_in_the_first_place(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 400)
    digits.store.delete(dataset.folder(digits.store, DATE).key("manifest.json"))
    message = reason_of(digits.run("digits", DATE, assets=[ENDPOINT]))
    assert f"mnist/dataset/date={DATE}: materialise mnist/dataset for this date first." in message
    assert "failed its smoke request" not in message
    client = boto3.client("sagemaker")
    assert not client.list_endpoint_configs(NameContains=endpoint)["EndpointConfigs"]


def test_a_backfill_of_an_old_date_does_not_put_an_old_model_live(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, NEXT, 1000)
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    config = live_config(endpoint)
    assert digits.run("digits", DATE, assets=[MODEL, CLASSIFIER, ENDPOINT], config=FEW).success
    assert live_config(endpoint) == config


def test_a_training_job_that_fails_fails_the_run_with_its_reason(digits: Platform) -> None:
    too_many = {"ops": {"mnist__model": {"config": {"clusters": 1501}}}}
    message = reason_of(digits.run("digits", DATE, config=too_many))
    assert "1501" in message
    assert not digits.materialized(CLASSIFIER)


def test_a_model_is_not_judged_by_digits_that_it_may_have_been_trained_on(
    digits: Platform,
) -> None:
    """The public file's splits were dealt anew, and mnist/model was not made again."""
    assert digits.run(
        "digits", DATE, assets=["mnist/raw", "mnist/dataset", MODEL], config=FEW
    ).success
    whole = real_digits()
    publish(
        digits,
        MnistDataset(
            Split(whole.train.images[::-1].copy(), whole.train.labels[::-1].copy()),
            whole.validation,
            whole.test,
        ),
    )
    message = reason_of(
        digits.run("digits", DATE, assets=["mnist/raw", "mnist/dataset", CLASSIFIER])
    )
    assert "materialise mnist/model for this date first." in message
    assert digits.run("digits", DATE, config=FEW).success


def test_what_has_failed_is_not_paid_for_again_on_every_date_of_a_range(digits: Platform) -> None:
    too_many = {"ops": {"mnist__model": {"config": {"clusters": 1501}}}}
    message = reason_of(digits.run("digits", DATE, NEXT, config=too_many))
    assert len(jobs(digits)) == 1
    assert f"2 date(s) failed. {DATE}, {NEXT}: mnist/model: Training job mnist-{DATE}" in message


def corrupt(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def other_centroids(data: bytes) -> bytes:
    return ndarray_file.pack_model(ndarray_file.unpack_model(data)[::-1].copy())


@pytest.mark.parametrize("damage", [corrupt, other_centroids])
def test_the_gate_fails_when_the_artifact_is_not_the_one_that_was_judged(
    digits: Platform, damage: Callable[[bytes], bytes]
) -> None:
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 1000)
    folder = classifier.folder(digits.store, DATE)
    key = folder.key(ARTIFACT)
    assert classifier.judge_accuracy(folder, nothing_live).passed
    digits.store.put_bytes(key, damage(digits.store.get_bytes(key, max_bytes=2**24)))
    assert not classifier.judge_accuracy(folder, nothing_live).passed


def nothing_live() -> AccuracyMargin:
    return AccuracyMargin(None)
