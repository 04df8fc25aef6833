"""The instances that serve one endpoint configuration, and the built-in k-means' kind of them.

Which variant gets a request is decided in endpoints.py, which instance of it here. Instances of
custom images are in serving_container.py.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sagemaker_local import children
from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.config import Config
from sagemaker_local.store import Document

_START_SECONDS = 60.0
_BUFFER = 8 * 1024 * 1024
# InvokeEndpoint's limit for a request, and for its answer.
INVOCATION_BYTES = 6_291_456


class ChildLostError(Exception):
    """The child ended or went silent in the middle of a request."""


class UnhealthyError(JobFailure):
    """A container of an endpoint does not come up.

    Attributes:
        detail: What is wrong with it.
    """

    def __init__(self, variant: str, detail: str) -> None:
        super().__init__(
            f"The primary container for production variant {variant} did not pass the ping health "
            f"check. Please check CloudWatch logs for this endpoint. ({detail})"
        )
        self.detail = detail


@dataclass(frozen=True)
class Invocation:
    """A request as a container gets it.

    Attributes:
        inference_id: The caller's own name for the request, for data capture.
        answer_bytes: How long the answer of a custom image may be.
    """

    body: bytes
    content_type: str
    accept: str
    custom_attributes: str = ""
    inference_id: str = ""
    answer_bytes: int = INVOCATION_BYTES


@dataclass(frozen=True)
class Answer:
    """What a container answered; status 0 says that it did not."""

    status: int
    content_type: str
    body: bytes
    custom_attributes: str = ""


class Instance(Protocol):
    """One instance of a variant, whatever serves in it.

    Attributes:
        variant: The variant it serves.
        requests: How many it has or are waiting for it.
    """

    variant: str
    requests: int

    async def start(self) -> None:
        """Starts and waits until it can serve; raises JobFailure."""
        ...

    async def invoke(self, invocation: Invocation) -> Answer:
        """Carries one request; raises ChildLostError or JobFailure."""
        ...

    async def execution_parameters(self) -> dict[str, Any]:
        """What it wants a transform job to be like, in the words of /execution-parameters."""
        ...

    async def close(self) -> None:
        """Ends it once the requests it has are answered."""
        ...


InstanceFactory = Callable[[], Instance]


class ServingChild:
    """One instance's process.

    Attributes:
        variant: The variant it serves.
        requests: How many it has or are waiting for it.
    """

    def __init__(self, config: Config, variant: str, model: Path) -> None:
        self.variant = variant
        self.requests = 0
        self._config = config
        self._model = model
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False

    async def start(self) -> None:
        """Starts the process and waits until it has its model.

        Raises:
            JobFailure: It could not load the model or did not come up.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # Spawned from the event loop's thread: the kernel ends a child with the thread that
            # started it.
            self._process = children.spawn(
                "sagemaker_local.serving",
                [
                    str(theirs.fileno()),
                    str(self._model),
                    str(os.getpid()),
                    str(self._config.serving_memory_mb),
                ],
                pass_fds=[theirs.fileno()],
            )
        try:
            connection = await asyncio.open_unix_connection(sock=ours, limit=_BUFFER)
            self._reader, self._writer = connection
            async with asyncio.timeout(_START_SECONDS):
                head, _ = await self._receive()
        except (TimeoutError, ChildLostError):
            await self._end()
            raise UnhealthyError(self.variant, "the container did not start") from None
        except BaseException:
            # Cut off: its first words would be taken for the answer to the next request.
            await self._end()
            raise
        if "error" in head:
            await self._end()
            raise UnhealthyError(self.variant, str(head["error"]))

    async def invoke(self, invocation: Invocation) -> Answer:
        """Carries one request to the process; a process that is gone is replaced first.

        Raises:
            ChildLostError: The process died or went silent while it had the request.
            JobFailure: It could not be replaced.
        """
        self.requests += 1
        try:
            async with self._turn:
                return await self._in_turn(invocation)
        finally:
            self.requests -= 1

    async def execution_parameters(self) -> dict[str, Any]:
        """K-means takes what the transform job says."""
        return {}

    async def close(self) -> None:
        """Ends the process once the request it has is answered."""
        async with self._turn:
            self._closed = True
            await self._end()

    async def _in_turn(self, invocation: Invocation) -> Answer:
        if self._closed:
            raise ChildLostError(f"variant {self.variant} is being replaced")
        if self._process is None or self._process.poll() is not None:
            await self._end()
            await self.start()
        try:
            async with asyncio.timeout(self._config.invoke_seconds):
                return await self._ask(invocation)
        except (TimeoutError, ChildLostError, OSError) as error:
            await self._end()
            raise ChildLostError(f"variant {self.variant} did not answer") from error
        except asyncio.CancelledError:
            # The caller hung up: the answer that is under way belongs to nobody.
            await self._end()
            raise

    async def _ask(self, invocation: Invocation) -> Answer:
        assert self._writer is not None  # noqa: S101 - set by start()
        types = {"content_type": invocation.content_type, "accept": invocation.accept}
        head = json.dumps(types).encode()
        self._writer.write(children.FRAME.pack(len(head), len(invocation.body)) + head)
        self._writer.write(invocation.body)
        await self._writer.drain()
        answer, data = await self._receive()
        status, kind = int(answer["status"]), str(answer["content_type"])
        return Answer(status, kind, data, invocation.custom_attributes)

    async def _receive(self) -> tuple[dict[str, Any], bytes]:
        assert self._reader is not None  # noqa: S101 - set by start()
        try:
            head, body = children.FRAME.unpack(await self._reader.readexactly(children.FRAME.size))
            return (
                json.loads(await self._reader.readexactly(head)),
                await self._reader.readexactly(body),
            )
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChildLostError(str(error)) from error

    async def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = self._reader = None
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(children.kill, process)


class Fleet:
    """The instances of one snapshot, as many as are asked for and the machine has cores.

    Attributes:
        data_capture: The snapshot's DataCaptureConfig, if it has one.
        shadows: Variants that get copies of requests, with their share of them, from 0 to 1.
        copies: Of requests, under way to these; they end with the fleet.
        config_name: The endpoint configuration that it serves.
    """

    def __init__(
        self,
        factories: Mapping[str, InstanceFactory],
        data_capture: Document | None = None,
        shadows: Mapping[str, float] | None = None,
        config_name: str = "",
    ) -> None:
        """Takes what makes another instance of each variant, shadows included."""
        self.data_capture = data_capture
        self.config_name = config_name
        self._factories = factories
        self.shadows = shadows or {}
        self.copies: set[asyncio.Task[None]] = set()
        self._children: dict[str, list[Instance]] = {variant: [] for variant in factories}

    async def scale(self, instances: Mapping[str, int]) -> None:
        """Starts or ends children until each variant has as many as asked; all or none start.

        Raises:
            JobFailure: The first child that could not start.
        """
        new: list[Instance] = []
        spare: list[Instance] = []
        for variant, children_now in self._children.items():
            wanted = max(1, min(instances.get(variant, 1), os.cpu_count() or 1))
            spare += children_now[wanted:]
            missing = range(len(children_now), wanted)
            new += [self._factories[variant]() for _ in missing]
        starts = (child.start() for child in new)
        try:
            results = await asyncio.gather(*starts, return_exceptions=True)
        except asyncio.CancelledError:
            # They are in no list yet, from which somebody else could end them.
            await asyncio.gather(*(child.close() for child in new))
            raise
        for result in results:
            if isinstance(result, BaseException):
                await asyncio.gather(*(child.close() for child in new))
                raise result
        for variant, children_now in self._children.items():
            kept = [child for child in children_now if child not in spare]
            self._children[variant] = kept + [child for child in new if child.variant == variant]
        await asyncio.gather(*(child.close() for child in spare))

    def least_busy(self, variant: str) -> Instance:
        """The child of a variant that has least to do."""
        return min(self._children[variant], key=lambda child: child.requests)

    async def close(self) -> None:
        """Ends all children, each after the request it has; nobody waits for copies."""
        for copy in self.copies:
            copy.cancel()
        everyone = [child for of_variant in self._children.values() for child in of_variant]
        await asyncio.gather(*(child.close() for child in everyone))
