"""Digits for tests of the digits' chain: few and real, and classifiers that need no training."""

from functools import cache
from typing import TYPE_CHECKING

import boto3
import numpy as np

from embedded import seed_digits
from formats import ndarray_file
from formats.mnist_pickle import MnistDataset, Split, dump
from platform_assets.mnist import classifier, dataset, evaluation
from platform_assets.mnist.gate import Gate
from platform_assets.mnist.published_classifier import PublishedClassifier

if TYPE_CHECKING:
    from tests.platform_assets.conftest import Platform

PUBLIC = "public/mnist.pkl.gz"
# Anything goes but what is worse than the live one by more than two percent.
EASY = Gate(min_accuracy=0.1)
FEW = {"ops": {"mnist__model": {"config": {"clusters": 60}}}}


@cache
def real_digits() -> MnistDataset:
    """1,500 digits to train with, 500 to validate and 300 to test."""
    digits = seed_digits.dataset()

    def some(split: Split, count: int) -> Split:
        return Split(split.images[:count], split.labels[:count])

    return MnistDataset(
        some(digits.train, 1500), some(digits.validation, 500), some(digits.test, 300)
    )


@cache
def real_file() -> bytes:
    """The same digits as the public file has them."""
    return dump(real_digits())


def mislabelled(digits: MnistDataset) -> MnistDataset:
    """The same digits with labels that have nothing to do with them."""
    random = np.random.default_rng(0)

    def shuffled(split: Split) -> Split:
        return Split(split.images, random.permutation(split.labels))

    return MnistDataset(*(shuffled(split) for split in digits.splits().values()))


def publish(platform: "Platform", digits: MnistDataset) -> None:
    """Put digits into the public place."""
    platform.store.put_bytes(PUBLIC, dump(digits))


def put_digits(platform: "Platform", *dates: str) -> None:
    """Publish the real digits as the datasets of dates, without what stands before them."""
    for date in dates:
        target = dataset.folder(platform.store, date)
        dataset.publish_channels(target, date, real_digits(), inputs={})


def put_classifier(
    platform: "Platform", date: str, examples: int, gate: Gate = EASY
) -> PublishedClassifier:
    """Publish as a date's classifier one whose centroids are the first so many train digits.

    The more they are, the more test digits it reads rightly.
    """
    channels = dataset.folder(platform.store, date).require("mnist/dataset")
    marked, _ = dataset.read_channel(channels, dataset.MARKED)
    artifact = classifier.label(marked[:examples])
    served = ndarray_file.unpack_model(artifact)
    tested_by = dataset.read_channel(channels, "test")
    judged_by = dataset.read_channel(channels, "validation")
    measured = {
        **evaluation.evaluate(served, *tested_by, gate),
        **evaluation.calibrate(served, *judged_by),
    }
    target = classifier.folder(platform.store, date)
    return classifier.publish(target, date, artifact, measured, {}, rows=len(served))


def live_config(endpoint: str) -> str:
    """The endpoint config that is live."""
    return boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
