"""Training on several instances: what each reads, what comes out, and that the shares go."""

from contextlib import suppress
from typing import Any

import boto3
import numpy as np
import pytest

from formats import recordio
from platform_assets.mnist import dataset, model, shards
from resources.sagemaker import TrainingError, UnavailableError
from tests.platform_assets.conftest import Platform, reason_of
from tests.platform_assets.mnist_rig import FEW, put_digits, real_digits

DATE = "2026-01-05"


def on_instances(count: int, **hyperparameters: str) -> dict[str, Any]:
    """A run's configuration."""
    config = FEW["ops"]["mnist__model"]["config"] | {
        "compute": {"instance_count": count},
        "hyperparameters": hyperparameters,
    }
    return {"ops": {"mnist__model": {"config": config}}}


def described_jobs(platform: Platform) -> list[dict[str, Any]]:
    client = boto3.client("sagemaker")
    names = [
        item["TrainingJobName"]
        for page in client.get_paginator("list_training_jobs").paginate()
        for item in page["TrainingJobSummaries"]
    ]
    jobs: list[Any] = [client.describe_training_job(TrainingJobName=name) for name in names]
    bucket = platform.store.bucket
    return [job for job in jobs if bucket in job["OutputDataConfig"]["S3OutputPath"]]


def shares(platform: Platform) -> list[str]:
    return [item.key for item in platform.store.list("mnist/dataset/shares=")]


def test_each_instance_gets_a_share_and_all_of_them_are_the_digits(platform: Platform) -> None:
    put_digits(platform, DATE)
    channels = dataset.folder(platform.store, DATE).require("mnist/dataset")
    target = shards.folder(platform.store, "0")
    shards.write(channels, target, 3)

    everything, digits = dataset.read_channel(channels, dataset.MARKED)
    parts = [
        recordio.decode(platform.store.get_bytes(key, max_bytes=2**28)) for key in shares(platform)
    ]
    assert [len(features) for features, _ in parts] == [500, 500, 500]
    together = np.concatenate([features for features, _ in parts])
    order, own_order = (np.lexsort(rows.T) for rows in (together, everything))
    np.testing.assert_array_equal(together[order], everything[own_order])
    for _, labels in parts:
        assert labels is not None
        counts = np.bincount(labels.astype(int), minlength=10)
        expected = np.bincount(digits, minlength=10) / 3
        assert (np.abs(counts - expected) < 25).all(), "each digit in each share"
    shards.remove(target)
    assert shares(platform) == []


def test_two_instances_train_one_model_as_good_as_that_of_one(platform: Platform) -> None:
    put_digits(platform, DATE)
    assets = ["mnist/model"]
    assert platform.run("digits", DATE, assets=assets, config=on_instances(1)).success
    alone = model.judge_model(platform.store, DATE)
    assert platform.run("digits", DATE, assets=assets, config=on_instances(2)).success
    together = model.judge_model(platform.store, DATE)

    one, two = sorted(
        described_jobs(platform), key=lambda job: job["ResourceConfig"]["InstanceCount"]
    )
    source = two["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3DataDistributionType"] == "ShardedByS3Key"
    assert two["ResourceConfig"]["InstanceCount"] == 2
    assert one["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"].endswith("/marked/")
    assert together.metadata["accuracy"] == pytest.approx(alone.metadata["accuracy"], abs=0.03)
    digits = len(real_digits().validation.labels)
    assert together.metadata["validation_digits"] == digits
    assert shares(platform) == []


def test_the_shares_go_where_training_fails(platform: Platform) -> None:
    put_digits(platform, DATE)
    config = on_instances(2, mini_batch_size="no number")
    result = platform.run("digits", DATE, assets=["mnist/model"], config=config)
    assert "mini_batch_size" in reason_of(result)
    assert shares(platform) == []


@pytest.mark.parametrize(
    ("error", "stay"),
    [
        (KeyboardInterrupt(), False),
        (TrainingError("no capacity", transient=True), False),
        # Nobody can tell whether the job goes on.
        (UnavailableError("silent"), True),
    ],
)
def test_the_shares_stay_only_for_a_job_that_may_go_on(
    platform: Platform, error: BaseException, stay: bool
) -> None:
    put_digits(platform, DATE)
    channels = dataset.folder(platform.store, DATE).require("mnist/dataset")
    with suppress(type(error)), shards.training_channels(channels, "0", 2):
        assert len(shares(platform)) == 2
        raise error
    assert len(shares(platform)) == (2 if stay else 0)
