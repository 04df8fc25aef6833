"""One run of one transform job: objects in, requests to the model's containers, answers out.

A `Run` of jobs.py, which keeps the job's document. It has an event loop of its own: requests are
under way side by side, answers are written in the order of the records.
"""

import asyncio
import contextlib
import gzip
import os
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sagemaker_local import image_lookup, log_lines, names, splitting
from sagemaker_local.aws_errors import CAPACITY, AwsError, JobFailure, StopRequestedError
from sagemaker_local.downloads import Downloads
from sagemaker_local.fleet import Answer, ChildLostError, Fleet, Invocation, UnhealthyError
from sagemaker_local.instance_factories import InstanceFactories
from sagemaker_local.job_kinds import Job
from sagemaker_local.s3 import Location, StorageError
from sagemaker_local.store import Document
from sagemaker_local.transform import MOST_PAYLOAD_MB, USUAL_PAYLOAD_MB

_POLL_SECONDS = 0.05
_MB = 2**20
# AWS's defaults.
_TIMEOUT_SECONDS = 600
_RETRIES = 3
_LOST = Answer(0, "text/plain", b"Unable to get response from algorithm")
# As much of an answer that is no 200 as the reason shows.
_WORDS = 300


@dataclass
class _Object:
    """An object of the input on its way.

    Attributes:
        location: Where it lies.
        target: Where its output goes.
        source, output: The files that hold it, and its answers so far.
        waiting: How many of its requests are not answered.
        read: Whether there are no more requests to come.
        failure: Why it has no output.
    """

    location: Location
    target: str
    source: Path
    output: Path
    waiting: int = 0
    read: bool = False
    failure: str = ""


class _Plan(NamedTuple):
    """How the objects are cut into requests, and how many of these are under way at once."""

    payload_mb: int
    single: bool
    requests: int


class TransformRun:
    """One run of one job."""

    def __init__(self, job: Job) -> None:
        self._client: Document = job.document.get("ModelClientConfig", {})
        self._config = replace(
            job.config,
            invoke_seconds=self._client.get("InvocationsTimeoutInSeconds", _TIMEOUT_SECONDS),
            # Requests are larger than those of an endpoint.
            serving_memory_mb=max(job.config.serving_memory_mb, job.config.training_memory_mb),
        )
        self._storage = job.storage
        self._logs = job.logs
        self._document = job.document
        self._set_status = job.set_status
        self._name = job.name
        self._folder = job.folder
        self._input: Document = job.document["TransformInput"]
        self._output: Document = job.document["TransformOutput"]
        self._faults: dict[str, float] = job.document["_faults"]
        self._failures: list[str] = []
        instance = f"i-{secrets.token_hex(8)}"
        self._stream = log_lines.instance_stream(names.TRANSFORM_LOGS, job.name, instance)
        self._fleet: Fleet | None = None
        self.results: Document = {}

    def run(self, stop: threading.Event, no_grace: threading.Event) -> None:
        """Takes the job from its start to the last object's output.

        Args:
            stop: Ends the job; its containers get no time then, for nobody takes their answers.
            no_grace: Not needed: a stop waits for nothing.

        Raises:
            JobFailure: With the reason to show.
            StopRequestedError: It was stopped.
        """
        del no_grace
        self._stop = stop
        asyncio.run(self._run())

    async def _run(self) -> None:
        work = asyncio.create_task(self._work())
        try:
            while not work.done():
                self._check_stop()
                await asyncio.wait([work], timeout=_POLL_SECONDS)
            await work
        finally:
            work.cancel()
            await asyncio.wait([work])
            # Not within what may be cancelled: each instance takes its files with it.
            if self._fleet:
                await self._fleet.close()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StopRequestedError

    async def _work(self) -> None:
        await asyncio.sleep(self._config.starting_seconds + self._faults.get("slow-start", 0.0))
        if "capacity-error" in self._faults:
            raise JobFailure(CAPACITY)
        await asyncio.to_thread(self._set_status, "InProgress")
        factories = InstanceFactories(self._config, self._storage, self._logs, self._stop)
        factory = await asyncio.to_thread(
            factories.of_model, self._name, self._model(), self._folder, names.TRANSFORM_LOGS
        )
        instances = min(
            int(self._document["TransformResources"]["InstanceCount"]), os.cpu_count() or 1
        )
        self._fleet = fleet = Fleet({self._name: factory})
        try:
            await fleet.scale({self._name: instances})
            if "job-failure" in self._faults:
                raise JobFailure("AlgorithmError: failure on demand, exit code: 1")
            wanted = await fleet.least_busy(self._name).execution_parameters()
            await self._transform(fleet, self._plan(wanted, instances))
        except UnhealthyError as error:
            raise JobFailure(
                "AlgorithmError: The container did not pass the ping health check. Please check "
                f"CloudWatch logs for this job. ({error.detail})"
            ) from error

    def _model(self) -> Document:
        """The model with the variables that AWS gives its containers in a transform job."""
        model: Document = self._document["_model"]
        own = {"SAGEMAKER_BATCH": "true"}
        for member, variable in (
            ("MaxPayloadInMB", "SAGEMAKER_MAX_PAYLOAD_IN_MB"),
            ("MaxConcurrentTransforms", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"),
        ):
            if member in self._document:
                own[variable] = str(self._document[member])
        if "BatchStrategy" in self._document:
            single = self._document["BatchStrategy"] == "SingleRecord"
            own["SAGEMAKER_BATCH_STRATEGY"] = "SINGLE_RECORD" if single else "MULTI_RECORD"
        return model | {
            "environment": model["environment"] | self._document.get("Environment", {}) | own
        }

    def _plan(self, wanted: dict[str, Any], instances: int) -> _Plan:
        """What the request says, else what the container wants, else AWS's defaults."""
        concurrent = self._document.get("MaxConcurrentTransforms")
        payload = self._document.get("MaxPayloadInMB") or min(
            _amount(wanted.get("MaxPayloadInMB"), USUAL_PAYLOAD_MB),
            MOST_PAYLOAD_MB // (concurrent or 1),
        )
        concurrent = concurrent or min(
            _amount(wanted.get("MaxConcurrentTransforms"), 1), MOST_PAYLOAD_MB // payload
        )
        strategy = self._document.get("BatchStrategy", wanted.get("BatchStrategy"))
        single = strategy in ("SingleRecord", "SINGLE_RECORD")
        self._note(
            f"MaxConcurrentTransforms={concurrent}, MaxPayloadInMB={payload}, "
            f"BatchStrategy={'SINGLE_RECORD' if single else 'MULTI_RECORD'}"
        )
        return _Plan(payload, single, concurrent * instances)

    async def _transform(self, fleet: Fleet, plan: _Plan) -> None:
        """Asks for all objects; one that fails does not keep the others from their output."""
        downloads = Downloads(self._storage, self._check_stop)
        objects = await asyncio.to_thread(
            downloads.objects, self._input["DataSource"]["S3DataSource"]
        )
        under_way: deque[tuple[_Object, asyncio.Task[Answer]]] = deque()
        try:
            for number, (location, name) in enumerate(objects):
                item = _Object(
                    location,
                    f"{self._output['S3OutputPath'].rstrip('/')}/{name}.out",
                    self._folder / f"{number}.in",
                    self._folder / f"{number}.out",
                )
                bodies = self._bodies(downloads, item, plan)
                while (body := await self._next(item, bodies)) is not None:
                    while len(under_way) >= plan.requests:
                        await self._take(*under_way.popleft())
                    item.waiting += 1
                    under_way.append((item, asyncio.create_task(self._ask(fleet, body))))
                item.read = True
                await self._finish(item)
            while under_way:
                await self._take(*under_way.popleft())
        finally:
            tasks = [task for _, task in under_way]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._failures:
            others = len(self._failures) - 1
            more = f" ({others} more failed, see the job's data-log)" if others else ""
            raise JobFailure(self._failures[0] + more)

    def _bodies(self, downloads: Downloads, item: _Object, plan: _Plan) -> Iterator[bytes]:
        downloads.fetch(item.location, item.source)
        compressed = self._input["CompressionType"] == "Gzip"
        image = image_lookup.custom_image(self._config, self._document["_model"]["image"])
        with gzip.open(item.source) if compressed else item.source.open("rb") as file:
            yield from splitting.bodies(
                file,
                self._input["SplitType"],
                plan.payload_mb * _MB,
                single=plan.single,
                # The built-in k-means knows no others.
                framed=image is None,
            )

    async def _next(self, item: _Object, bodies: Iterator[bytes]) -> bytes | None:
        """The body of the next request; None if there is none, or the object has failed."""
        if item.failure:
            return None
        try:
            return await asyncio.to_thread(next, bodies, None)
        except JobFailure as failure:
            self._fail(item, str(failure))
        except (splitting.SplitError, gzip.BadGzipFile, EOFError, zlib.error) as error:
            self._fail(item, f"ClientError: {item.location}: {error}")
        return None

    async def _ask(self, fleet: Fleet, body: bytes) -> Answer:
        """The answer to a request; what is not the request's fault is tried again."""
        invocation = Invocation(
            body,
            self._input.get("ContentType", ""),
            self._output.get("Accept", ""),
            answer_bytes=MOST_PAYLOAD_MB * _MB,
        )
        answer = _LOST
        for _ in range(1 + self._client.get("InvocationsMaxRetries", _RETRIES)):
            try:
                answer = await fleet.least_busy(self._name).invoke(invocation)
            except ChildLostError:
                answer = _LOST
            if 200 <= answer.status < 500:
                break
        return answer

    async def _take(self, item: _Object, task: asyncio.Task[Answer]) -> None:
        answer = await task
        item.waiting -= 1
        if answer.status != 200:
            self._fail(item, _refusal(item.location, answer))
        elif not item.failure:
            await asyncio.to_thread(self._write, item, answer.body)
        await self._finish(item)

    def _write(self, item: _Object, answer: bytes) -> None:
        line = self._output["AssembleWith"] == "Line" and not answer.endswith(b"\n")
        with item.output.open("ab") as file:
            file.write(answer + b"\n" if line else answer)

    async def _finish(self, item: _Object) -> None:
        """Uploads the output of an object once it is whole."""
        if not item.read or item.waiting:
            return
        if not item.failure:
            # Of an object without records, too.
            item.output.touch()
            self._check_stop()
            try:
                await asyncio.to_thread(self._storage.put, item.output, Location.parse(item.target))
            except StorageError as error:
                self._fail(item, f"ClientError: Output upload failed:{item.target}: {error}")
        for path in (item.source, item.output):
            path.unlink(missing_ok=True)

    def _fail(self, item: _Object, reason: str) -> None:
        if not item.failure:
            item.failure = reason
            self._failures.append(reason)
            self._note(reason)

    def _note(self, line: str) -> None:
        """Writes a line into the job's data-log, in AWS's form."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        # Where the disk is full, the line is lost and not the job.
        with contextlib.suppress(AwsError):
            self._logs.write(
                names.TRANSFORM_LOGS,
                f"{self._stream}/data-log",
                [f"{now}:[sagemaker logs]: {line}"],
            )


def _amount(value: Any, usual: int) -> int:
    """A number of /execution-parameters, if it is one that can be."""
    return value if type(value) is int and 0 < value <= MOST_PAYLOAD_MB else usual


def _refusal(location: Location, answer: Answer) -> str:
    words = answer.body[: 4 * _WORDS].decode(errors="replace").strip()[:_WORDS]
    if answer.status == 0:
        return f"AlgorithmError: {location}: {words}"
    side = "ClientError" if 400 <= answer.status < 500 else "AlgorithmError"
    return f"{side}: {location}: Bad HTTP status received from algorithm: {answer.status} ({words})"
