"""Docker: Python modules in containers where an engine answers, as child processes where not.

The resource decides where a module runs and within what; `container.py` and
`process.py` do it. Which module, and what its messages mean, is the caller's business.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import dagster as dg
import docker
import docker.errors
from docker.models.images import Image
from pydantic import Field

from resources.docker.aws_access import AwsAccess, as_seen_from_container, discover_aws_access
from resources.docker.container import (
    RUN_LABEL,
    ContainerSettings,
    ContextFile,
    labelled_runs,
    remove_container,
    run_in_container,
)
from resources.docker.errors import ENGINE_ERRORS, EngineUnavailableError, ImageMissingError
from resources.docker.modules import ModuleSpec, StreamMessageReader, pipes_session
from resources.docker.process import run_in_process

_PROBE_SECONDS = 5
_REQUEST_SECONDS = 120


@dataclass(frozen=True)
class ModuleRun:
    """A module that came to a good end.

    Attributes:
        messages: its Pipes custom messages, in order.
        metadata: how it was run: `mode`, `seconds`, and in a container its `image`,
            `image_id`, `image_digest` and `container`; `mode_reason` where a process was chosen.
    """

    messages: tuple[Mapping[str, Any], ...]
    metadata: Mapping[str, str | int | float]


@dataclass(frozen=True)
class _Request:
    """What `DockerResource.run` is asked for, and how AWS is reached from here."""

    context: dg.OpExecutionContext | dg.AssetExecutionContext
    module: str
    arguments: tuple[str, ...]
    extras: Mapping[str, Any]
    aws: AwsAccess


class DockerResource(dg.ConfigurableResource[Any]):
    """Runs Python modules outside Dagster's process, in a container wherever that can be had.

    The engine is the one that the Docker command would use: `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and
    `DOCKER_CERT_PATH`, which reach remote engines by TLS, or the socket of this machine.
    """

    mode: Literal["auto", "docker", "process"] = Field(
        default="auto",
        description=(
            "docker: in a container, or fail. process: as a child process. auto: in a container"
            " where an engine answers and has the image, else as a child process."
        ),
    )
    image: str = Field(
        default="numbercruncher",
        description="Image whose Python has the modules; name, name:tag or name@sha256:digest.",
    )
    network: str = Field(
        default="bridge",
        description="bridge, host, none, or the name of a network of the engine.",
    )
    memory_mb: int = Field(
        default=1024, ge=32, description="Upper bound of the module's memory, in MiB."
    )
    cpus: float = Field(default=2.0, gt=0, description="Upper bound of its processors.")
    deadline_seconds: float = Field(
        default=3600.0, gt=0, description="Time after which it is stopped, in seconds."
    )
    forward_credentials: bool = Field(
        default=True,
        description="Give the module the AWS credentials of this process, by a private file.",
    )

    def run(
        self,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        module: str,
        *,
        extras: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
    ) -> ModuleRun:
        """Runs `python -m module` to its end, its log and messages arriving live.

        Args:
            module: importable name, in the image and in this environment.
            extras: JSON value that the module finds in its Pipes context, of any size.
            arguments: command-line arguments; visible to everybody on the machine.

        Returns:
            The module's messages, and metadata that say how it was run.

        Raises:
            ModuleRunError: it failed, ran out of memory or time, or its engine was lost; holds
                the messages that had arrived.
            EngineUnavailableError, ImageMissingError, ContainerRefusedError: it never started.
        """
        started = time.monotonic()
        aws = discover_aws_access(forward_credentials=self.forward_credentials)
        request = _Request(context, module, tuple(arguments), extras or {}, aws)
        engine, reason = None, "a child process is asked for"
        if self.mode != "process":
            try:
                engine = self._connect_and_find_image()
            except (EngineUnavailableError, ImageMissingError) as error:
                if self.mode == "docker":
                    raise
                reason = str(error)
        if engine is None:
            run = self._run_in_process(request, reason)
        else:
            client, image = engine
            with closing(client):
                run = self._run_in_container(request, client, image)
        seconds = round(time.monotonic() - started, 3)
        return replace(run, metadata={**run.metadata, "seconds": seconds})

    def _run_in_process(self, request: _Request, reason: str) -> ModuleRun:
        """Runs it as a child process, which was chosen for a reason."""
        reader = StreamMessageReader()
        injector = dg.PipesEnvContextInjector()
        with pipes_session(request.context, injector, reader, request.extras) as session:
            spec = self._spec(request, session, request.aws)
            peak = run_in_process(request.context, spec, reader)
        return ModuleRun(
            tuple(session.get_custom_messages()),
            {
                "mode": "process",
                "mode_reason": reason,
                "peak_memory_mb": round(peak / 1024**2),
            },
        )

    def _run_in_container(
        self, request: _Request, client: docker.DockerClient, image: Image
    ) -> ModuleRun:
        context, aws = request.context, request.aws
        if self.network != "host":
            aws = as_seen_from_container(aws)
        reader = StreamMessageReader()
        file = ContextFile()
        with pipes_session(context, file, reader, request.extras) as session:
            spec = self._spec(request, session, aws)
            settings = ContainerSettings(
                image=image, network=self.network, cpus=self.cpus, labels=_labels(request)
            )
            name = run_in_container(context, client, settings, spec, file.content, reader)
        return ModuleRun(
            tuple(session.get_custom_messages()),
            {"mode": "docker", **_image_metadata(self.image, image), "container": name},
        )

    def sweep(self, has_ended: Callable[[str], bool]) -> list[str]:
        """Removes the containers that a run left behind when it was killed.

        Args:
            has_ended: (id of a Dagster run) → whether it is known to have ended.

        Returns:
            Names of what was removed, container and volume of the same name alike; none where no
            engine answers and a child process would have been used.

        Raises:
            EngineUnavailableError: no engine answers though `mode` is "docker".
        """
        if self.mode == "process":
            return []
        try:
            client = connect()
        except EngineUnavailableError:
            if self.mode == "docker":
                raise
            return []
        with closing(client):
            runs = labelled_runs(client)
            gone = [name for name, run_id in sorted(runs.items()) if has_ended(run_id)]
            for name in gone:
                remove_container(client, name)
        return gone

    def _connect_and_find_image(self) -> tuple[docker.DockerClient, Image]:
        """The engine, which the caller closes, and the image."""
        client = connect()
        try:
            return client, self._find_image(client)
        except BaseException:  # also where the run is cancelled meanwhile
            client.close()
            raise

    def _find_image(self, client: docker.DockerClient) -> Image:
        try:
            return client.images.get(self.image)
        except docker.errors.ImageNotFound as error:
            raise ImageMissingError(
                f"The Docker Engine has no image {self.image}. Build it with 'make image', pull it"
                f" with 'docker pull {self.image}', or name one that the engine has"
                " (PLATFORM_CRUNCHER_IMAGE for the number cruncher; a component's own `image`)."
            ) from error
        except ENGINE_ERRORS as error:
            raise _unavailable(error) from error

    def _spec(self, request: _Request, session: dg.PipesSession, aws: AwsAccess) -> ModuleSpec:
        environment = {
            # Arrow's threads: by itself it counts the machine's processors, not the container's.
            "OMP_NUM_THREADS": str(math.ceil(self.cpus)),
            # numpy's, for large matrices: of tables they would cost memory and gain nothing.
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }
        return ModuleSpec(
            module=request.module,
            arguments=request.arguments,
            environment={**environment, **aws.environment, **session.get_bootstrap_env_vars()},
            aws=aws,
            memory_mb=self.memory_mb,
            deadline_seconds=self.deadline_seconds,
        )


def connect() -> docker.DockerClient:
    """A client of the engine that the environment names, once it has answered.

    Raises:
        EngineUnavailableError: it does not answer.
    """
    try:
        client = docker.from_env(timeout=_PROBE_SECONDS)
        client.ping()
    except ENGINE_ERRORS as error:
        raise _unavailable(error) from error
    client.api.timeout = _REQUEST_SECONDS
    return client


def _labels(request: _Request) -> dict[str, str]:
    context = request.context
    keys = context.selected_asset_keys if context.has_assets_def else ()
    return {
        RUN_LABEL: context.run.run_id,
        "data-platform.job": context.job_name,
        "data-platform.asset": ",".join(sorted(key.to_user_string() for key in keys)),
        "data-platform.module": request.module,
    }


def _image_metadata(name: str, image: Image) -> dict[str, str | int | float]:
    digests: list[str] = image.attrs.get("RepoDigests") or []
    # A locally built image has no digest of a registry; its id is one of its content.
    digest = digests[0].rpartition("@")[2] if digests else str(image.id)
    return {"image": name, "image_id": str(image.id), "image_digest": digest}


def _unavailable(error: Exception) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"No Docker Engine answers ({type(error).__name__}: {error}). Start one, point DOCKER_HOST"
        " at one, or run without containers (PLATFORM_CRUNCHER=process)."
    )
