"""A custom image as one instance that answers requests, under AWS's contract for `serve`.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sagemaker_local import archives, containers, local_http, log_lines
from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.config import Config
from sagemaker_local.containers import Container
from sagemaker_local.fleet import Answer, ChildLostError, Invocation, UnhealthyError
from sagemaker_local.images import Image, Launch
from sagemaker_local.logs import Logs

_PING_SECONDS = 2.0
_PARAMETERS_SECONDS = 10.0
_POLL_SECONDS = 0.05
# Between SIGTERM and SIGKILL.
_GRACE_SECONDS = 30.0
_LOG_SECONDS = 5.0
_CUSTOM = "x-amzn-sagemaker-custom-attributes"
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)
_TOO_LARGE = "Response payload size exceeded maximum allowed payload ({} bytes)."


@dataclass(frozen=True)
class Program:
    """What the instances of a variant run.

    Attributes:
        variant: The name of the variant, or of the transform job.
        image: What runs it.
        environment: The model's variables.
        isolated: Whether the model has no keys.
        archives: Folder below the base folder to the archive that is unpacked there.
        start_seconds: After this long without a good answer to /ping the start has failed.
        log_group: Of the endpoint, or of all transform jobs.
    """

    variant: str
    image: Image
    environment: Mapping[str, str]
    isolated: bool
    archives: Mapping[str, Path]
    start_seconds: float
    log_group: str


class ServingContainer:
    """One instance: a container that answers over HTTP.

    Attributes:
        variant: The variant it serves.
        requests: How many it has.
    """

    def __init__(
        self, config: Config, logs: Logs, program: Program, no_grace: threading.Event
    ) -> None:
        """Nothing runs yet. Once `no_grace` is set, a container that ends gets no time for it."""
        self.variant = program.variant
        self.requests = 0
        self._config = config
        self._logs = logs
        self._program = program
        self._no_grace = no_grace
        self._restart: asyncio.Task[None] | None = None
        self._container: Container | None = None
        self._base: Path | None = None
        self._reader: threading.Thread | None = None
        self._port = 0
        self._closed = False

    async def start(self) -> None:
        """Starts the container and waits until it is healthy.

        Raises:
            JobFailure: It ended, did not become healthy in time, or has no proper model.
        """
        seconds = self._program.start_seconds
        launching = asyncio.ensure_future(asyncio.to_thread(self._launch))
        try:
            await asyncio.shield(launching)
            async with asyncio.timeout(seconds):
                await self._until_healthy()
        except TimeoutError:
            await self._end(0.0)
            raise UnhealthyError(
                self.variant, f"/ping did not answer 200 in {seconds:g} s"
            ) from None
        except BaseException:
            # What a thread is about to start has to be there to be ended.
            await asyncio.wait([launching])
            await self._end(0.0)
            raise

    async def invoke(self, invocation: Invocation) -> Answer:
        """Carries one request to the container; one that is gone is replaced first.

        Raises:
            ChildLostError: The container ended or broke off while it had the request.
            JobFailure: It could not be replaced.
        """
        self.requests += 1
        try:
            await self._revive()
            return await self._ask(invocation)
        finally:
            self.requests -= 1

    async def execution_parameters(self) -> dict[str, Any]:
        """What it wants a transform job to be like; nothing where it does not say so in JSON."""
        status, body = await self._get("/execution-parameters", _PARAMETERS_SECONDS)
        if status != 200:
            return {}
        with contextlib.suppress(ValueError, RecursionError):
            wanted: Any = json.loads(body)
            if isinstance(wanted, dict):
                return wanted
        return {}

    async def close(self) -> None:
        """Ends the container once the requests it has are answered."""
        self._closed = True
        while self.requests and not self._no_grace.is_set():
            await asyncio.sleep(_POLL_SECONDS)
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.wait([self._restart])
        await self._end()

    async def _revive(self) -> None:
        """Waits for a container that runs; starting one goes on if the caller hangs up."""
        if self._closed:
            raise ChildLostError(f"variant {self.variant} is being replaced")
        lost = self._container is None or self._container.poll() is not None
        if lost and self._restart is None:
            self._restart = asyncio.create_task(self._replace())
        if self._restart is not None:
            try:
                async with asyncio.timeout(self._config.invoke_seconds):
                    await asyncio.shield(self._restart)
            except TimeoutError:
                raise ChildLostError(f"variant {self.variant} is still starting") from None

    async def _replace(self) -> None:
        try:
            await self._end(0.0)
            await self.start()
        finally:
            self._restart = None

    async def _ask(self, invocation: Invocation) -> Answer:
        asked = self._container
        headers = {
            "content-type": invocation.content_type,
            "accept": invocation.accept,
            _CUSTOM: invocation.custom_attributes,
        }
        given = {name: value for name, value in headers.items() if value}
        call = local_http.request(
            self._port, "POST", "/invocations", given, invocation.body, invocation.answer_bytes
        )
        try:
            async with asyncio.timeout(self._config.invoke_seconds):
                status, answered, body = await call
        except TimeoutError:
            if not await self._healthy():
                await self._drop(asked)
            return Answer(0, "text/plain", _TIMED_OUT.encode())
        except local_http.TooLargeError:
            words = _TOO_LARGE.format(invocation.answer_bytes)
            return Answer(0, "text/plain", words.encode())
        except httpx.TransportError as error:
            await self._drop(asked)
            raise ChildLostError(f"variant {self.variant} did not answer: {error}") from error
        kind = answered.get("content-type", "application/octet-stream")
        return Answer(status, kind, body, answered.get(_CUSTOM, ""))

    async def _drop(self, container: Container | None) -> None:
        """Ends a container that failed, unless another has taken its place already."""
        if self._container is container and self._restart is None:
            await self._end(0.0)

    def _launch(self) -> None:
        instance = f"i-{secrets.token_hex(8)}"
        base = self._config.instances_dir / instance
        self._base = base
        for folder in ("model", "code"):
            (base / folder).mkdir(parents=True)
        for folder, archive in self._program.archives.items():
            try:
                archives.unpack(archive, base / folder)
            except archives.ArchiveError as error:
                raise JobFailure(
                    f"Failed to extract the archive {archive.name} for container "
                    f'"container_1": {error}'
                ) from error
        self._port = _free_port()
        program = self._program
        launch = Launch(
            program.image,
            program.image.serve,
            base,
            program.environment,
            program.isolated,
            port=self._port,
        )
        container = containers.start(self._config, launch)
        self._container = container
        stream = log_lines.instance_stream(self._program.log_group, self.variant, instance)
        self._reader = threading.Thread(
            target=log_lines.follow,
            args=(
                container.output,
                self._logs,
                self._program.log_group,
                stream,
            ),
            daemon=True,
        )
        self._reader.start()

    async def _until_healthy(self) -> None:
        while not await self._healthy():
            code = self._container.poll() if self._container else None
            if code is not None:
                raise UnhealthyError(self.variant, f"the container ended with exit code {code}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _healthy(self) -> bool:
        status, _ = await self._get("/ping", _PING_SECONDS)
        return status == 200

    async def _get(self, path: str, seconds: float) -> tuple[int, bytes]:
        """Status and body of a short answer; status 0 says that there was none in time."""
        # Not wait_for, in which Python 3.11 may lose a cancellation.
        with contextlib.suppress(TimeoutError, httpx.TransportError, local_http.TooLargeError):
            async with asyncio.timeout(seconds):
                status, _, body = await local_http.request(self._port, "GET", path)
                return status, body
        return 0, b""

    async def _end(self, seconds: float = _GRACE_SECONDS) -> None:
        container, self._container = self._container, None
        base, self._base = self._base, None
        reader, self._reader = self._reader, None
        if container is not None:
            await asyncio.to_thread(containers.end_all, [container], seconds, self._no_grace)
        if reader is not None:
            # Its last words are in the log once it counts as ended.
            await asyncio.to_thread(reader.join, _LOG_SECONDS)
        if base is not None:
            await asyncio.to_thread(shutil.rmtree, base, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
