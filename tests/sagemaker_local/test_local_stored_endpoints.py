"""Endpoints within the test's own process: what is stored of them, and when it counts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np

from formats import ndarray_file
from sagemaker_local import deployed_config, names
from sagemaker_local.alarms import Alarms
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.endpoints import Endpoints
from sagemaker_local.fleet import Invocation
from sagemaker_local.logs import Logs
from sagemaker_local.metrics import Metrics
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document, Store
from tests.sagemaker_local.rig import (
    IMAGE,
    PATIENCE_SECONDS,
)


class WatchedStore(Store):
    """Calls `in_service`, in the thread that writes, once an endpoint's status is that."""

    in_service: Callable[[], object]

    def update(self, kind: str, name: str, change: Any) -> Document | None:
        document = super().update(kind, name, change)
        if document and document["EndpointStatus"] == "InService":
            self.in_service()
        return document


@asynccontextmanager
async def serving_from(settings: Config, store: Store) -> AsyncIterator[Endpoints]:
    """Endpoints in this process, for as long as a test may wait."""
    metrics = Metrics(1.0)
    alarms, logs = Alarms(settings, store, metrics), Logs(store, settings)
    endpoints = Endpoints(settings, store, Storage(settings), logs, metrics, alarms)
    async with asyncio.timeout(PATIENCE_SECONDS):
        endpoints.open()
        try:
            yield endpoints
        finally:
            await endpoints.close()


def served(settings: Config, snapshot: str, name: str, weight: float, **more: str) -> Document:
    """A variant of a snapshot, with its artifact: two centroids."""
    artifact = settings.models_dir / snapshot / name / "model.tar.gz"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(ndarray_file.pack_model(np.eye(2, dtype=np.float32)))
    model = {"name": name, "url": "s3://bucket/model.tar.gz", **more}
    weights = {"CurrentWeight": weight, "DesiredWeight": weight}
    return {"VariantName": name, "_model": model, **weights}


async def answering(endpoints: Endpoints) -> str:
    """The variant that answers."""
    return (await endpoints.invoke("e", None, Invocation(b"0,0", "text/csv", "text/csv")))[0]


async def answering_once_ready(endpoints: Endpoints) -> str:
    """The first variant that answers after a start."""
    while True:
        try:
            return await answering(endpoints)
        except AwsError as error:
            assert error.code == "ModelNotReadyException"  # noqa: PT017 - until it is ready
            await asyncio.sleep(0.05)


def test_new_weights_decide_once_the_endpoint_is_in_service(tmp_path: Path) -> None:
    """Not a moment later: who answers is asked at the moment at which its status is written."""
    settings = Config(tmp_path, "key", "secret", "eu-west-1", endpoint_seconds=0.0)

    async def change_weights(store: WatchedStore) -> None:
        loop = asyncio.get_running_loop()
        variant = loop.create_future()

        def ask() -> None:
            answer = asyncio.run_coroutine_threadsafe(answering(endpoints), loop)
            loop.call_soon_threadsafe(variant.set_result, answer.result(PATIENCE_SECONDS))

        async with serving_from(settings, store) as endpoints:
            assert await answering_once_ready(endpoints) == "old"
            await asyncio.to_thread(store.update, names.ENDPOINT, "e", ask_for_the_new)
            store.in_service = ask
            endpoints.wake("e")
            assert await variant == "new"

    def ask_for_the_new(document: Document) -> str:
        for one, weight in zip(document["_live"]["variants"], (0.0, 1.0), strict=True):
            one["DesiredWeight"] = weight
        document["EndpointStatus"] = "Updating"
        return "Updating"

    live = {
        "id": "1",
        "config": {"EndpointConfigName": "c"},
        "variants": [
            served(settings, "1", "old", 1.0, image=IMAGE),
            served(settings, "1", "new", 0.0, image=IMAGE),
        ],
        "shadows": [],
    }
    with closing(WatchedStore(tmp_path)) as store:
        store.insert(names.ENDPOINT, "e", {"EndpointStatus": "InService", "_live": live})
        asyncio.run(change_weights(store))


def test_what_an_earlier_version_stored_goes_on(tmp_path: Path) -> None:
    """It knew no shadow variants, no faults, no packages, and no image but that of k-means."""
    settings = Config(tmp_path, "key", "secret", "eu-west-1", endpoint_seconds=0.0)

    async def update(store: WatchedStore) -> None:
        loop, updated = asyncio.get_running_loop(), asyncio.Event()
        store.in_service = lambda: loop.call_soon_threadsafe(updated.set)
        async with serving_from(settings, store) as endpoints:
            await updated.wait()
            assert await answering(endpoints) == "new"

    old, new = (
        {
            "id": variant,
            "config": {"EndpointConfigName": "c"},
            "variants": [served(settings, variant, variant, 1.0)],
        }
        for variant in ("old", "new")
    )
    document = {"EndpointStatus": "Updating", "_live": old, "_pending": new}
    with closing(WatchedStore(tmp_path)) as store:
        store.insert(names.ENDPOINT, "e", document)
        asyncio.run(update(store))
        stored = store.get(names.ENDPOINT, "e")
    assert stored is not None
    assert "FailureReason" not in stored

    container = {"Image": IMAGE, "ModelDataUrl": "s3://bucket/model.tar.gz"}
    for form in ({"PrimaryContainer": container}, {"Containers": [container]}):
        model = {"ModelName": "m", "EnableNetworkIsolation": False, **form}
        assert deployed_config.serving_spec(model)["image"] == IMAGE
