"""Brings endpoints to the state that their documents ask for, and passes requests to their fleets.

Each change is blue/green: the new fleet is up before the old one gets its last request, and if it
does not come up the old one stays. What clients may ask for is in hosting.py.
"""

import asyncio
import contextlib
import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sagemaker_local import endpoint_states, names
from sagemaker_local.alarms import Alarms
from sagemaker_local.aws_errors import CAPACITY, AwsError, JobFailure
from sagemaker_local.capture_writer import CaptureWriter
from sagemaker_local.config import Config
from sagemaker_local.deployed_config import (
    all_variants,
    instances,
    shadow_shares,
    weights,
)
from sagemaker_local.deployment_policy import rollback_alarms, stages
from sagemaker_local.fleet import Answer, ChildLostError, Fleet, Invocation, UnhealthyError
from sagemaker_local.instance_factories import InstanceFactories
from sagemaker_local.logs import Logs
from sagemaker_local.metrics import Metrics, count_invocation
from sagemaker_local.s3 import Storage
from sagemaker_local.shadows import Shadows
from sagemaker_local.store import Document, Store

_log = logging.getLogger(__name__)
_KIND = names.ENDPOINT
_AGAIN_SECONDS = 1.0
_INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


@dataclass
class _Serving:
    """What answers for an endpoint now.

    Attributes:
        weights: Variant to traffic weight.
        green: The fleet that traffic is being shifted to, with its weights.
        green_percent: Share of the requests that go there.
    """

    fleet: Fleet
    weights: dict[str, float]
    green: tuple[Fleet, dict[str, float]] | None = None
    green_percent: float = 0.0


@dataclass
class _EndpointTask:
    """One endpoint's task, and whether its document may have changed."""

    changed: bool = True
    task: asyncio.Task[None] | None = None


class Endpoints:
    """All endpoints of the server. Everything but `wake` runs in the event loop."""

    def __init__(
        self,
        config: Config,
        store: Store,
        storage: Storage,
        logs: Logs,
        metrics: Metrics,
        alarms: Alarms,
    ) -> None:
        self._config = config
        self._store = store
        self._logs = logs
        self._metrics = metrics
        self._alarms = alarms
        self._closing = threading.Event()
        self._factories = InstanceFactories(config, storage, logs, self._closing)
        self._captures = CaptureWriter(storage)
        self._live: dict[str, _Serving] = {}
        self._shadows = Shadows(self._captures)
        self._workers: dict[str, _EndpointTask] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """After a start: brings every endpoint back that the store knows."""
        self._loop = asyncio.get_running_loop()
        self._captures.start()
        known = {path.name for path in self._config.models_dir.glob("*")}
        wanted: set[str] = set()
        for name in self._store.names(_KIND):
            document = self._store.get(_KIND, name) or {}
            for snapshot in (document.get("_live"), document.get("_pending")):
                if snapshot:
                    wanted.add(snapshot["id"])
            self._wake(name)
        shutil.rmtree(self._config.instances_dir, ignore_errors=True)
        for stale in known - wanted:
            shutil.rmtree(self._config.models_dir / stale, ignore_errors=True)

    def wake(self, name: str) -> None:
        """Says that an endpoint's document has changed; may be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, name)

    async def close(self) -> None:
        """Ends all fleets and writes what was captured."""
        self._closing.set()
        tasks = [worker.task for worker in self._workers.values() if worker.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        fleets = [live.fleet for live in self._live.values()]
        fleets += [live.green[0] for live in self._live.values() if live.green]
        self._live.clear()
        await asyncio.gather(*(fleet.close() for fleet in fleets))
        await asyncio.to_thread(self._captures.close)

    async def invoke(
        self, name: str, variant: str | None, invocation: Invocation
    ) -> tuple[str, Answer]:
        """Lets a variant of an endpoint answer.

        Returns:
            The variant's name and its container's answer.

        Raises:
            AwsError: No such endpoint or variant, or nobody could answer.
        """
        # Once more for a child that died under the request: predictions have no side effects.
        for attempt in (1, 2):
            live = self._live.get(name)
            if live is None:
                raise await asyncio.to_thread(self._refusal, name)
            chosen, fleet = _choose(live, variant, name)
            if attempt == 1:
                self._shadows.copy(name, fleet, invocation)
            began = time.perf_counter()
            try:
                answer = await fleet.least_busy(chosen).invoke(invocation)
            except (ChildLostError, JobFailure) as error:
                _log.warning("endpoint %s: %s (attempt %d)", name, error, attempt)
                if attempt == 1:
                    continue
                answer = None
            seconds = time.perf_counter() - began
            status = answer.status if answer else 0
            count_invocation(self._metrics, name, fleet.config_name, chosen, status, seconds)
            if answer is not None:
                self._captures.add(fleet.data_capture, name, chosen, invocation, answer)
                return chosen, answer
        raise AwsError("ServiceUnavailable", "The service is currently unavailable.", 503)

    def _refusal(self, name: str) -> AwsError:
        """Why an endpoint without a fleet does not answer."""
        document = self._store.get(_KIND, name)
        if document is None or "_live" not in document:
            return AwsError(
                "ValidationError", f"Endpoint {name} of account {self._config.account} not found."
            )
        # It is known to serve, and its fleet is on its way after a restart.
        return AwsError(
            "ModelNotReadyException", f"The model of endpoint {name} is not ready yet.", 429
        )

    def _wake(self, name: str) -> None:
        worker = self._workers.setdefault(name, _EndpointTask())
        worker.changed = True
        if worker.task is None or worker.task.done():
            worker.task = asyncio.get_running_loop().create_task(self._work(name, worker))

    async def _work(self, name: str, worker: _EndpointTask) -> None:
        while worker.changed:
            worker.changed = False
            try:
                await self._reconcile(name)
            except Exception:
                _log.exception("endpoint %s", name)
                await self._settle(name, _INTERNAL)

    async def _reconcile(self, name: str) -> None:
        document = await asyncio.to_thread(self._store.get, _KIND, name)
        if document is None:
            return
        if document["EndpointStatus"] == "Deleting":
            await self._delete(name, document)
            return
        if document.get("_live") and name not in self._live:
            await self._revive(name, document["_live"])
            if name not in self._live:
                return
        if document.get("_pending"):
            await self._deploy(name, document)
        elif document["EndpointStatus"] in ("Updating", "RollingBack"):
            await self._apply_weights(name, document["_live"])

    async def _revive(self, name: str, snapshot: Document) -> None:
        """Serves again what was served before the server ended; S3 may come up after us.

        Gives up when the document has changed: an endpoint that cannot serve can still be deleted.
        """
        while name not in self._live and not self._workers[name].changed:
            try:
                fleet = await self._start_fleet(name, snapshot)
                self._live[name] = _Serving(fleet, weights(snapshot, "Current"))
            except JobFailure as failure:
                _log.warning("endpoint %s cannot serve yet: %s", name, failure)
                await asyncio.sleep(1.0)

    async def _deploy(self, name: str, document: Document) -> None:
        pending: Document = document["_pending"]
        blue = self._live.get(name)
        started = time.monotonic()
        # A snapshot stored by an earlier version, which knew no faults, has none.
        request_faults: dict[str, float] = pending.get("faults", {})
        fleet: Fleet | None = None
        try:
            _fail_on_demand(request_faults, "capacity-error", JobFailure(CAPACITY))
            fleet = await self._start_fleet(name, pending)
            wait = self._config.endpoint_seconds + request_faults.get("slow-start", 0.0)
            await asyncio.sleep(max(0.0, wait - (time.monotonic() - started)))
            variant = pending["variants"][0]["VariantName"]
            failure = UnhealthyError(variant, "failure on demand")
            _fail_on_demand(request_faults, "endpoint-failure", failure)
            await self._shift(name, fleet, pending, document.get("_deployment"))
            await self._promote(name, fleet, pending)
        except (JobFailure, AwsError) as error:
            if fleet is not None:
                await fleet.close()
            # Before the reason is written: where the disk is full, that is what makes room.
            await self._drop_models(pending)
            await self._settle(name, str(error))
            return
        except BaseException:
            if fleet is not None:
                await fleet.close()
            raise
        await asyncio.to_thread(self._note, name, pending)
        if blue is not None:
            await blue.fleet.close()
        if document.get("_live"):
            await self._drop_models(document["_live"])

    async def _shift(
        self, name: str, fleet: Fleet, pending: Document, deployment: Document | None
    ) -> None:
        """Sends a growing share of the requests to the new fleet, as the policy says.

        Raises:
            JobFailure: An alarm of the deployment is in ALARM; all traffic is back.
        """
        live = self._live.get(name)
        if live is None:
            return
        alarms, alarm = rollback_alarms(deployment), None
        try:
            # First with no traffic: an alarm may be in ALARM already.
            for percent, seconds in [(0.0, 0.0), *stages(pending, deployment)]:
                live.green = (fleet, weights(pending, "Desired"))
                live.green_percent = percent
                alarm = await self._alarms.tripped(alarms, seconds * self._config.wait_scale)
                if alarm is not None:
                    break
        finally:
            live.green, live.green_percent = None, 0.0
        if alarm is not None:
            await self._roll_back(name, alarm)

    async def _roll_back(self, name: str, alarm: Document) -> None:
        """Writes that the new fleet goes: after a kill, too, it does not come back."""
        reason = (
            "The deployment was rolled back, because the CloudWatch alarm "
            f"{alarm['AlarmName']} is in ALARM state: {alarm['StateReason']}"
        )

        # Where the disk is full, the new fleet has to go first.
        change = partial(endpoint_states.roll_back, reason)
        with contextlib.suppress(AwsError):
            await asyncio.to_thread(self._store.update, _KIND, name, change)
        raise JobFailure(reason)

    async def _promote(self, name: str, fleet: Fleet, pending: Document) -> None:
        """Makes the new fleet the one that serves.

        Raises:
            AwsError: The disk is full; what served before serves on.
        """
        blue = self._live.get(name)

        # Traffic first: once describe says InService, the new model answers.
        self._live[name] = _Serving(fleet, weights(pending, "Desired"))
        change = partial(endpoint_states.promote, pending)
        try:
            await asyncio.to_thread(self._store.update, _KIND, name, change)
        except AwsError:
            if blue is None:
                del self._live[name]
            else:
                self._live[name] = blue
            raise

    async def _settle(self, name: str, reason: str) -> None:
        """A change failed: what served before serves on, and describe says why."""
        change = partial(endpoint_states.fail, reason)
        await self._once_there_is_room(name, self._store.update, _KIND, name, change)

    async def _once_there_is_room(
        self, name: str, write: Callable[..., object], *arguments: object
    ) -> None:
        """Writes to the store; where the disk is full, as soon as it no longer is."""
        while True:
            try:
                await asyncio.to_thread(write, *arguments)
            except AwsError as full:
                _log.warning("the state of endpoint %s: %s", name, full)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def _apply_weights(self, name: str, snapshot: Document) -> None:
        live = self._live[name]
        await asyncio.sleep(self._config.endpoint_seconds)
        try:
            await live.fleet.scale(instances(snapshot))
        except JobFailure as failure:
            await self._settle(name, str(failure))
            return
        # Traffic first: once describe says InService, the new weights decide.
        live.weights = weights(snapshot, "Desired")
        change = endpoint_states.reach_desired
        await self._once_there_is_room(name, self._store.update, _KIND, name, change)

    async def _delete(self, name: str, document: Document) -> None:
        live = self._live.pop(name, None)
        if live is not None:
            await live.fleet.close()
        await asyncio.sleep(self._config.endpoint_seconds)
        for snapshot in (document.get("_live"), document.get("_pending")):
            if snapshot:
                await self._drop_models(snapshot)
        arn = document["EndpointArn"]
        await self._once_there_is_room(name, self._store.delete, _KIND, name, arn)
        self._workers.pop(name, None)

    async def _start_fleet(self, name: str, snapshot: Document) -> Fleet:
        factories = await asyncio.to_thread(self._factories.of_endpoint, name, snapshot)
        capture = snapshot["config"].get("DataCaptureConfig")
        config_name = snapshot["config"]["EndpointConfigName"]
        fleet = Fleet(factories, capture, shadow_shares(snapshot), config_name)
        await fleet.scale(instances(snapshot))
        return fleet

    async def _drop_models(self, snapshot: Document) -> None:
        folder = self._config.models_dir / snapshot["id"]
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _note(self, name: str, snapshot: Document) -> None:
        for variant in all_variants(snapshot):
            stream = f"{variant['VariantName']}/i-{snapshot['id']}"
            line = f"Serving model {variant['_model']['name']} from {variant['_model']['url']}"
            try:
                self._logs.write(names.endpoint_logs(name), stream, [line])
            except AwsError as full:
                _log.warning("the log of endpoint %s: %s", name, full)


def _fail_on_demand(request_faults: Mapping[str, float], fault: str, failure: JobFailure) -> None:
    if fault in request_faults:
        raise failure


def _choose(live: _Serving, variant: str | None, name: str) -> tuple[str, Fleet]:
    fleet, weights = live.fleet, live.weights
    if live.green is not None and random.random() * 100 < live.green_percent:  # noqa: S311
        fleet, weights = live.green
    if variant is not None:
        if variant not in weights:
            raise AwsError("ValidationError", f"Variant {variant} not found for endpoint {name}.")
        return variant, fleet
    if len(weights) == 1:
        return next(iter(weights)), fleet
    shares = list(weights.values()) if any(weights.values()) else None
    return random.choices(list(weights), shares)[0], fleet  # noqa: S311 - traffic, not secrets
