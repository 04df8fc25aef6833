"""A really trained endpoint on the embedded SageMaker, and the API served in front of it."""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from filelock import FileLock

from embedded.seed_digits import real_digits
from tests.api.rig import Centroids, Deployment, Served, Split, serve, train
from tests.conftest import Services


@pytest.fixture(scope="session")
def digits() -> dict[str, Split]:
    """Real digits: 4,000 to train on, 500 to measure confidence by, 500 that nothing has seen."""
    images, labels = real_digits()
    order = np.random.default_rng(0).permutation(len(images))
    pixels = images[order].reshape(-1, 28, 28)
    parts = {"train": slice(4000), "validation": slice(4000, 4500), "test": slice(4500, 5000)}
    return {name: Split(pixels[part], labels[order][part]) for name, part in parts.items()}


@pytest.fixture(scope="session")
def trained(
    services: Services,
    digits: dict[str, Split],
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Centroids:
    """What a SageMaker job made of the digits to train on; one worker's job is enough for all."""
    if worker_id == "master":
        return train(services.env, digits["train"])
    kept = tmp_path_factory.getbasetemp().parent / "trained-digits.npy"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            np.save(kept, train(services.env, digits["train"]))
    return np.load(kept)


@pytest.fixture(scope="session")
def deployment(
    services: Services, digits: dict[str, Split], trained: Centroids
) -> Iterator[Deployment]:
    """An endpoint that serves a classifier of these centroids."""
    with Deployment.create(services.env, trained, digits["validation"]) as created:
        yield created


@pytest.fixture(scope="session")
def served(
    services: Services, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The API in front of that endpoint."""
    env = {**services.env, "PLATFORM_ENDPOINT_NAME": deployment.endpoint}
    with serve(env, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def api(served: Served) -> Iterator[httpx.Client]:
    """A client of the API."""
    with served.client() as client:
        yield client
