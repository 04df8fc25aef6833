"""A module in a container: created, fed, followed, judged and always removed.

Which engine and which image is `resource.py`'s business, and what a module is `modules.py`'s.
"""

import json
import logging
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
from docker.types import DeviceRequest, LogConfig, Mount

from resources.cancellation import Cancellation
from resources.docker.aws_reach import as_process_output
from resources.docker.errors import (
    ENGINE_ERRORS,
    ContainerRefusedError,
    EngineLostError,
    ModuleFailedError,
    ModuleMemoryError,
    ModuleRunError,
    ModuleTimeoutError,
)
from resources.docker.modules import (
    DeadlinePassedError,
    ModuleSpec,
    Output,
    StreamMessageReader,
    renewing,
)
from resources.docker.private import (
    CREDENTIALS,
    PRIVATE_FOLDER,
    file_variables,
    reach_files,
    setting_private,
    tar,
)

RUN_LABEL = "data-platform.run-id"

STOP_SECONDS = 3
REMOVE_SECONDS = 10.0
# The clock inside only matters where nobody outside is left to look at one.
DEADLINE_INSIDE_EXTRA_SECONDS = 30
EXIT_BY_TIMEOUT = 124
EXIT_BY_SIGKILL = 137
OOM_REPORT_SECONDS = 2.0


@dataclass(frozen=True)
class ContainerOptions:
    """What a container gets beyond its module.

    Attributes:
        network: "bridge", "host", "none" or the name of a network of the engine.
        user: numeric "uid:gid" that the module runs as.
        mounts: "source:target" or "source:target:ro" each.
        gpus: number of GPUs; -1 for all.
    """

    network: str = "bridge"
    user: str = "10001:10001"
    mounts: tuple[str, ...] = ()
    gpus: int = 0


class _ContextFile(dg.PipesContextInjector):
    """Keeps the Pipes context for a file in the container: any size, and not in `inspect`."""

    def __init__(self) -> None:
        self.content = b"{}"

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Generator[PipesParams]:
        self.content = json.dumps(context_data).encode()
        yield {PipesDefaultContextLoader.FILE_PATH_KEY: f"{PRIVATE_FOLDER}/context.json"}

    def no_messages_debug_text(self) -> str:
        return "The context was put into the container as a file."


class ContainerPipesClient(dg.PipesClient):
    """Runs modules in containers of one image, through Dagster Pipes."""

    def __init__(
        self, client: docker.DockerClient, image: Image, options: ContainerOptions
    ) -> None:
        self._client = client
        self._image = image
        self._options = options

    def run(  # pyright: ignore[reportIncompatibleMethodOverride] - as Dagster's own clients do
        self,
        *,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        spec: ModuleSpec,
        extras: Mapping[str, Any] | None = None,
        cancellation: Cancellation,
    ) -> dg.PipesClientCompletedInvocation:
        """Runs a module to its end; whatever happens, no container stays behind.

        Raises:
            ContainerRefusedError: the engine would not create or start the container.
            ModuleRunError: the module did not come to a good end.
        """
        injector, reader = _ContextFile(), StreamMessageReader()
        name = f"{re.sub(r'[^a-zA-Z0-9]+', '-', spec.module)}-{uuid.uuid4().hex[:12]}"
        with dg.open_pipes_session(
            context=context,
            context_injector=injector,
            message_reader=reader,
            extras=dict(extras or {}),
        ) as session:
            environment = {**spec.environment, **session.get_bootstrap_env_vars()}
            files = {"context.json": injector.content, **reach_files(spec.reach)}
            try:
                self._run_container(name, spec, environment, files, reader, cancellation)
            except ModuleRunError as error:
                error.messages = tuple(session.get_custom_messages())
                raise
            finally:
                _remove(self._client, name, context.log)
        return dg.PipesClientCompletedInvocation(session, metadata={"container": name})

    def _run_container(
        self,
        name: str,
        spec: ModuleSpec,
        environment: Mapping[str, str],
        files: Mapping[str, bytes],
        reader: StreamMessageReader,
        cancellation: Cancellation,
    ) -> None:
        deadline = time.monotonic() + spec.deadline_seconds
        container = self._start(name, spec, environment, files)
        output = Output()

        def check() -> bool:
            cancellation.check()
            return True

        try:
            for stream in ("stdout", "stderr"):
                # One reader a stream: pieces of long lines of the two would else be mixed up.
                other = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
                output.follow(stream, container.logs(stream=True, follow=True, **other))
            with renewing(spec.reach, lambda credentials: self._renew(container, credentials)):
                output.pump(reader.consume, deadline=deadline, check=check)
                container.wait(timeout=max(1.0, deadline - time.monotonic()))
            state = _final_state(container)
        except (DeadlinePassedError, requests.exceptions.ReadTimeout):
            raise _timed_out(spec, reader.tail) from None
        except ENGINE_ERRORS as error:
            raise _lost(name, spec, error, reader.tail) from error
        finally:
            output.abandon()
        _judge(state, spec, reader.tail)

    def _start(
        self,
        name: str,
        spec: ModuleSpec,
        environment: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> Container:
        try:
            container = self._create(name, spec, environment)
            self._put(container, files)
            container.start()
        except docker.errors.APIError as error:
            reason = error.explanation or str(error)
            raise ContainerRefusedError(
                f"The Docker Engine would not run {spec.module} in the image"
                f" {self._image.id}: {reason}. Look at the network, mounts and limits that the"
                " Docker resource is configured with."
            ) from error
        except ENGINE_ERRORS as error:
            raise _lost(name, spec, error, ()) from error
        return container

    def _put(self, container: Container, files: Mapping[str, bytes]) -> None:
        uid, _, gid = self._options.user.partition(":")
        archive = tar(files, int(uid), int(gid or uid))
        container.put_archive(PRIVATE_FOLDER, archive)  # pyright: ignore[reportUnknownMemberType]

    def _renew(self, container: Container, credentials: Mapping[str, str]) -> None:
        self._put(container, {CREDENTIALS: as_process_output(credentials)})

    def _create(self, name: str, spec: ModuleSpec, environment: Mapping[str, str]) -> Container:
        inside = spec.deadline_seconds + DEADLINE_INSIDE_EXTRA_SECONDS
        bytes_allowed = spec.memory_mb * 1024 * 1024
        gpus = [DeviceRequest(count=self._options.gpus, capabilities=[["gpu"]])]
        return self._client.containers.create(
            str(self._image.id),
            entrypoint=["timeout", f"--kill-after={STOP_SECONDS}", f"{inside:.0f}"],
            command=[*setting_private(spec.reach), "python", "-m", spec.module, *spec.arguments],
            name=name,
            labels=dict(spec.labels),
            environment={**file_variables(spec.reach), **environment, "HOME": "/tmp"},  # noqa: S108
            network_mode=self._options.network,
            # The host as seen from a bridge network; the engine's own name on Docker Desktop.
            extra_hosts={"host.docker.internal": "host-gateway"}
            if self._options.network not in ("host", "none")
            else {},
            user=self._options.user,
            mem_limit=bytes_allowed,
            memswap_limit=bytes_allowed,
            nano_cpus=int(spec.cpus * 1e9),
            pids_limit=512,
            device_requests=gpus if self._options.gpus else None,
            volumes=list(self._options.mounts),
            mounts=[Mount(PRIVATE_FOLDER, name, type="volume", labels=dict(spec.labels))],
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


def _remove(client: docker.DockerClient, name: str, log: logging.Logger) -> None:
    try:
        remove_container(client, name)
    except ENGINE_ERRORS as error:
        log.warning(
            f"The container {name} could not be removed ({error}); the sweep will do it once the"
            " engine answers."
        )


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


def _judge(state: Mapping[str, Any], spec: ModuleSpec, tail: Sequence[str]) -> None:
    code = int(state["ExitCode"])
    if code == 0:
        return
    if state["OOMKilled"]:
        raise ModuleMemoryError(
            f"{spec.module} ran out of its {spec.memory_mb} MiB of memory in its container."
            " Give it more (memory_mb), or fewer dates in one run.",
            log_tail=tail,
        )
    if code == EXIT_BY_TIMEOUT:
        raise _timed_out(spec, tail)
    by = f" (killed by signal {code - 128})" if code > 128 else ""
    raise ModuleFailedError(
        f"{spec.module} ended in its container with exit code {code}{by}.", log_tail=tail
    )


def _timed_out(spec: ModuleSpec, tail: Sequence[str]) -> ModuleTimeoutError:
    return ModuleTimeoutError(
        f"{spec.module} was still running after {spec.deadline_seconds:g} s and was stopped."
        " Give it more time (deadline_seconds), or fewer dates in one run.",
        log_tail=tail,
    )


def _lost(name: str, spec: ModuleSpec, error: Exception, tail: Sequence[str]) -> EngineLostError:
    return EngineLostError(
        f"The container {name} of {spec.module} was lost on its way: it was removed, or the Docker"
        f" Engine stopped answering ({type(error).__name__}: {error}). Look after the engine, then"
        " run this again.",
        log_tail=tail,
    )
