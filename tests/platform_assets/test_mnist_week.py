"""A week of the digits in which the public object changes twice."""

from dataclasses import replace

import boto3

from embedded.graphql import days
from formats.mnist_pickle import MnistDataset, Split
from tests.platform_assets.conftest import Platform
from tests.platform_assets.mnist_rig import FEW, live_config, publish, real_digits

WEEK = days("2026-03-01", "2026-03-07")
CHANGES = {WEEK[1]: 50, WEEK[4]: 100}
# The gate is not what is tested: the few digits of a change may make it better or worse.
CONFIG = {
    "ops": {**FEW["ops"], "mnist__classifier": {"config": {"min_accuracy": 0.1, "max_drop": 1.0}}}
}


def without(count: int) -> MnistDataset:
    """The digits without some of those to train with."""
    digits = real_digits()
    train = Split(digits.train.images[count:], digits.train.labels[count:])
    return replace(digits, train=train)


def trained(bucket: str) -> int:
    """How many training jobs there are that read a bucket."""
    client = boto3.client("sagemaker")
    jobs = client.get_paginator("list_training_jobs").paginate()
    names = [job["TrainingJobName"] for page in jobs for job in page["TrainingJobSummaries"]]
    outputs = [
        client.describe_training_job(TrainingJobName=name)["OutputDataConfig"]["S3OutputPath"]
        for name in names
    ]
    return sum(output.startswith(f"s3://{bucket}/") for output in outputs)


def test_two_changes_in_a_week_are_two_retrainings_and_two_deployments(
    digits: Platform, endpoint: str
) -> None:
    """Day 1 trains and deploys for the first time; then only days 2 and 5 do."""
    bucket = digits.env["PLATFORM_BUCKET"]
    jobs, live = [], []
    for day in WEEK:
        if day in CHANGES:
            publish(digits, without(CHANGES[day]))
        assert digits.run("digits", day, config=CONFIG).success
        jobs.append(trained(bucket))
        live.append(live_config(endpoint))
    assert jobs == [1, 2, 2, 2, 3, 3, 3]
    first, second, third = live[0], live[1], live[4]
    assert len({first, second, third}) == 3
    assert live == [first, second, second, second, third, third, third]
