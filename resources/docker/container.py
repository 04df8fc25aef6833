"""A module in a container: created, given its files, followed to its end and always removed.

Which engine and which image is `resource.py`'s business, and what a module is `modules.py`'s.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import dagster as dg
import docker
import docker.errors
import requests
from dagster_pipes import PipesContextData, PipesDefaultContextLoader, PipesParams
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import LogConfig, Mount

from resources.cancellation import Cancellation
from resources.docker.aws_access import HOST, as_process_output
from resources.docker.container_files import (
    CREDENTIALS,
    PRIVATE_FOLDER,
    USER_ID,
    access_files,
    file_variables,
    source_private_variables,
    tar,
)
from resources.docker.errors import (
    ENGINE_ERRORS,
    ContainerRefusedError,
    EngineLostError,
    ModuleFailedError,
)
from resources.docker.modules import (
    STOP_SECONDS,
    DeadlinePassedError,
    ModuleSpec,
    Output,
    StreamMessageReader,
    out_of_memory,
    renewing,
    timed_out,
)

RUN_LABEL = "data-platform.run-id"

REMOVE_SECONDS = 10.0
EXIT_BY_TIMEOUT = 124
EXIT_BY_SIGKILL = 137
OOM_REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class ContainerSettings:
    """What a container is made with, whatever runs in it.

    Attributes:
        image: an image of the engine.
        network: "bridge", "host", "none" or the name of a network of the engine.
        cpus: upper bound of processors, fractions allowed.
        labels: of the container and its volume.
    """

    image: Image
    network: str
    cpus: float
    labels: Mapping[str, str]


class ContextFile(dg.PipesContextInjector):
    """Keeps the Pipes context for a file in the container: any size, and not in `inspect`."""

    def __init__(self) -> None:
        self.content = b"{}"

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Generator[PipesParams]:
        """Dagster's hook: the module finds the context by the path in its environment."""
        self.content = json.dumps(context_data).encode()
        yield {PipesDefaultContextLoader.FILE_PATH_KEY: f"{PRIVATE_FOLDER}/context.json"}

    def no_messages_debug_text(self) -> str:
        """Dagster's hook: what its log says where no message came."""
        return "The context was put into the container as a file."


def run_in_container(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    client: docker.DockerClient,
    settings: ContainerSettings,
    spec: ModuleSpec,
    pipes_context: bytes,
    reader: StreamMessageReader,
) -> str:
    """Run a module to its end; whatever happens, no container stays behind.

    Returns:
        The name that the container had.

    Raises:
        ContainerRefusedError: The engine would not create or start the container.
        ModuleRunError: The module failed, ran out of memory or time, or was lost.
    """
    name = f"{re.sub(r'[^a-zA-Z0-9]+', '-', spec.module)}-{uuid.uuid4().hex[:12]}"
    files = {"context.json": pipes_context, **access_files(spec.aws)}
    try:
        container = _start(client, settings, name, spec, files)
        state = _follow(container, spec, reader, Cancellation(context.instance, context.run))
    except ENGINE_ERRORS as error:
        raise EngineLostError(
            f"The container {name} of {spec.module} was lost on its way: it was removed, or the"
            f" Docker Engine stopped answering ({type(error).__name__}: {error}). Check the engine,"
            " then run this again.",
            log_tail=reader.tail,
        ) from error
    finally:
        try:
            remove_container(client, name)
        except ENGINE_ERRORS as error:
            context.log.warning(
                f"The container {name} could not be removed ({error}); the sweep will do it once"
                " the engine answers."
            )
    _raise_failure(state, spec, reader.tail)
    return name


def _start(
    client: docker.DockerClient,
    settings: ContainerSettings,
    name: str,
    spec: ModuleSpec,
    files: Mapping[str, bytes],
) -> Container:
    try:
        container = _create(client, settings, name, spec)
        _put_files(container, files)
        container.start()
    except docker.errors.APIError as error:
        reason = error.explanation or str(error)
        raise ContainerRefusedError(
            f"The Docker Engine would not run {spec.module} in the image {settings.image.id}:"
            f" {reason}. Check the network and the limits that the Docker resource is configured"
            " with."
        ) from error
    return container


def _put_files(container: Container, files: Mapping[str, bytes]) -> None:
    container.put_archive(PRIVATE_FOLDER, tar(files))  # pyright: ignore[reportUnknownMemberType]


def _follow(
    container: Container,
    spec: ModuleSpec,
    reader: StreamMessageReader,
    cancellation: Cancellation,
) -> Mapping[str, Any]:
    """Read the container's output until it ends; returns its final state."""
    deadline = time.monotonic() + spec.deadline_seconds
    output = Output()

    def check() -> bool:
        cancellation.check()
        return True

    def renew(credentials: Mapping[str, str]) -> None:
        _put_files(container, {CREDENTIALS: as_process_output(credentials)})

    try:
        for stream in ("stdout", "stderr"):
            # One reader a stream: pieces of long lines of the two would else be mixed up.
            only = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
            output.follow(stream, container.logs(stream=True, follow=True, **only))
        with renewing(spec.aws, renew):
            output.pump(reader.consume, deadline=deadline, check=check)
            container.wait(timeout=max(1.0, deadline - time.monotonic()))
        return _final_state(container)
    except (DeadlinePassedError, requests.exceptions.ReadTimeout):
        raise timed_out(spec, reader.tail) from None
    finally:
        output.abandon()


def _create(
    client: docker.DockerClient, settings: ContainerSettings, name: str, spec: ModuleSpec
) -> Container:
    memory = spec.memory_mb * 1024 * 1024
    # The host as seen from a bridge network; the engine's own name on Docker Desktop.
    hosts = {HOST: "host-gateway"} if settings.network not in ("host", "none") else {}
    return client.containers.create(
        str(settings.image.id),
        entrypoint=["timeout", f"--kill-after={STOP_SECONDS}", f"{spec.deadline_inside:.0f}"],
        command=[*source_private_variables(spec.aws), "python", "-m", spec.module, *spec.arguments],
        name=name,
        labels=dict(settings.labels),
        environment={**file_variables(spec.aws), **spec.environment, "HOME": "/tmp"},  # noqa: S108
        network_mode=settings.network,
        extra_hosts=hosts,
        user=f"{USER_ID}:{USER_ID}",
        mem_limit=memory,
        memswap_limit=memory,
        nano_cpus=int(settings.cpus * 1e9),
        pids_limit=512,
        mounts=[Mount(PRIVATE_FOLDER, name, type="volume", labels=dict(settings.labels))],
        read_only=True,
        tmpfs={"/tmp": "rw,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        init=True,
        log_config=LogConfig(type=LogConfig.types.JSON),
        detach=True,
    )


def labelled_runs(client: docker.DockerClient) -> dict[str, str]:
    """Names of the platform's containers and of their volumes, with the id of the run of each."""
    containers = client.containers.list(all=True, ignore_removed=True, filters={"label": RUN_LABEL})
    volumes = client.volumes.list(filters={"label": RUN_LABEL})
    labels = {str(container.name): container.labels for container in containers}
    labels |= {str(volume.name): volume.attrs.get("Labels") or {} for volume in volumes}
    return {name: own[RUN_LABEL] for name, own in labels.items() if own.get(RUN_LABEL)}


def remove_container(client: docker.DockerClient, name: str) -> None:
    """Stops and removes a container and its volume by name; what is gone already is all right.

    The name was known before the engine knew the container, so nothing escapes between the two,
    and the volume goes also where somebody else removed the container.
    """
    try:
        with suppress(docker.errors.NotFound):
            container = client.containers.get(name)
            try:
                if container.status == "running":
                    container.stop(timeout=STOP_SECONDS)
            finally:
                _until_gone(lambda: container.remove(force=True))
    finally:
        _until_gone(lambda: client.volumes.get(name).remove(force=True))


def _until_gone(remove: Callable[[], object]) -> None:
    """Removes something that somebody else may just be removing too, which is a conflict."""
    patience = time.monotonic() + REMOVE_SECONDS
    while True:
        try:
            remove()
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT or time.monotonic() >= patience:
                raise
            time.sleep(0.2)
        else:
            return


def _final_state(container: Container) -> Mapping[str, Any]:
    """The state after the end; the engine may learn of the kernel's kill a moment later."""
    patience = time.monotonic() + OOM_REPORT_SECONDS
    while True:
        container.reload()
        state: Mapping[str, Any] = container.attrs["State"]
        late = time.monotonic() >= patience
        if state["OOMKilled"] or state["ExitCode"] != EXIT_BY_SIGKILL or late:
            return state
        time.sleep(0.1)


def _raise_failure(state: Mapping[str, Any], spec: ModuleSpec, tail: Sequence[str]) -> None:
    """Raise what an exit code other than 0 means."""
    code = int(state["ExitCode"])
    if code == 0:
        return
    if state["OOMKilled"]:
        raise out_of_memory(spec, "container", tail)
    if code == EXIT_BY_TIMEOUT:
        raise timed_out(spec, tail)
    by = f" (killed by signal {code - 128})" if code > 128 else ""
    raise ModuleFailedError(
        f"{spec.module} ended in its container with exit code {code}{by}.", log_tail=tail
    )
