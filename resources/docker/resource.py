"""Docker: Python modules in containers where an engine answers, as child processes where not.

The resource decides where a module runs and within what; `container.py` and
`process.py` do it. Which module, and what its messages mean, is the caller's business.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import docker
import docker.errors
from docker.models.images import Image
from pydantic import Field

from resources.docker.aws_reach import Reach, find_reach, off_this_host
from resources.docker.container import (
    RUN_LABEL,
    ContextFile,
    labelled_runs,
    remove_container,
    run_in_container,
)
from resources.docker.errors import (
    ENGINE_ERRORS,
    EngineUnavailableError,
    ImageMissingError,
    ModuleRunError,
)
from resources.docker.modules import ModuleSpec, StreamMessageReader
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
    pull: Literal["never", "missing", "always"] = Field(
        default="never",
        description="When the image is fetched from its registry. Local images: never.",
    )
    registry: str = Field(
        default="", description="Registry to log in to before a pull; empty for no login."
    )
    registry_username: str = Field(default="", description="User name at the registry.")
    registry_password: str = Field(
        default="", repr=False, description="Password or token at the registry."
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
    endpoint_url_s3: str = Field(
        default="",
        description="S3 endpoint as seen from this machine; empty for the one that boto3 finds. In"
        " a container off the host's network loopback is replaced by host.docker.internal.",
    )
    region: str = Field(default="", description="AWS region of the module; empty for its default.")
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
        engine = self._find_engine()
        reach = find_reach(
            endpoint_url_s3=self.endpoint_url_s3,
            region=self.region,
            forward_credentials=self.forward_credentials,
        )
        reader = StreamMessageReader()
        context_file = ContextFile()
        injector: dg.PipesContextInjector = context_file
        metadata: dict[str, str | int | float]
        if isinstance(engine, str):
            injector = dg.PipesEnvContextInjector()
            metadata = {"mode": "process", "mode_reason": engine}
        else:
            metadata = {"mode": "docker", **_image_metadata(self.image, engine[1])}
            if self.network != "host":
                reach = off_this_host(reach)
        with dg.open_pipes_session(
            context=context,
            context_injector=injector,
            message_reader=reader,
            extras=dict(extras or {}),
        ) as session:
            pipes_variables = session.get_bootstrap_env_vars()
            spec = self._spec(context, module, arguments, reach, pipes_variables)
            try:
                if isinstance(engine, str):
                    peak = run_in_process(context, spec, reader)
                    metadata["peak_memory_mb"] = round(peak / 1024**2)
                else:
                    client, image = engine
                    with closing(client):
                        metadata["container"] = run_in_container(
                            context, client, image, spec, context_file.content, reader
                        )
            except ModuleRunError as error:
                error.messages = tuple(session.get_custom_messages())
                raise
        metadata["seconds"] = round(time.monotonic() - started, 3)
        return ModuleRun(tuple(session.get_custom_messages()), metadata)

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

    def _find_engine(self) -> tuple[docker.DockerClient, Image] | str:
        """The engine and the image to use, or the reason why a child process is used instead."""
        if self.mode == "process":
            return "a child process is asked for"
        try:
            client = connect()
            try:
                return client, self._find_image(client)
            except BaseException:
                client.close()
                raise
        except (EngineUnavailableError, ImageMissingError) as error:
            if self.mode == "docker":
                raise
            return str(error)

    def _find_image(self, client: docker.DockerClient) -> Image:
        try:
            if self.pull == "always":
                return self._pull(client)
            return client.images.get(self.image)
        except docker.errors.ImageNotFound as error:
            if self.pull == "missing":
                return self._pull(client)
            raise ImageMissingError(
                f"The Docker Engine has no image {self.image}. Build it with 'make image', or"
                " configure the Docker resource with a registry's image and pull=missing."
            ) from error
        except ENGINE_ERRORS as error:
            raise _unavailable(error) from error

    def _pull(self, client: docker.DockerClient) -> Image:
        try:
            if self.registry:
                client.login(self.registry_username, self.registry_password, registry=self.registry)
            repository, tag = _split_image_name(self.image)
            return client.images.pull(repository, tag=tag)
        except ENGINE_ERRORS as error:
            raise ImageMissingError(
                f"The image {self.image} could not be fetched from its registry ({error})."
                " Check the name, the network and the registry's credentials."
            ) from error

    def _spec(
        self,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        module: str,
        arguments: Sequence[str],
        reach: Reach,
        pipes_variables: Mapping[str, str],
    ) -> ModuleSpec:
        environment = {
            # The module's work is small pieces: threads would cost memory and gain nothing.
            "OMP_NUM_THREADS": str(math.ceil(self.cpus)),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }
        keys = context.selected_asset_keys if context.has_assets_def else ()
        assets = sorted(key.to_user_string() for key in keys)
        return ModuleSpec(
            module=module,
            arguments=tuple(arguments),
            environment={**environment, **reach.environment, **pipes_variables},
            reach=reach,
            memory_mb=self.memory_mb,
            cpus=self.cpus,
            deadline_seconds=self.deadline_seconds,
            network=self.network,
            labels={
                RUN_LABEL: context.run.run_id,
                "data-platform.job": context.job_name,
                "data-platform.asset": ",".join(assets),
                "data-platform.module": module,
            },
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


def _image_metadata(name: str, image: Image) -> dict[str, str | int | float]:
    digests: list[str] = image.attrs.get("RepoDigests") or []
    # A locally built image has no digest of a registry; its id is one of its content.
    digest = digests[0].rpartition("@")[2] if digests else str(image.id)
    return {"image": name, "image_id": str(image.id), "image_digest": digest}


def _split_image_name(name: str) -> tuple[str, str | None]:
    if "@" in name:
        repository, _, digest = name.partition("@")
        return repository, digest
    head, slash, last = name.rpartition("/")
    repository, colon, tag = last.partition(":")
    return f"{head}{slash}{repository}", tag if colon else "latest"


def _unavailable(error: Exception) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"No Docker Engine answers ({type(error).__name__}: {error}). Start one, point DOCKER_HOST"
        " at one, or run without containers (PLATFORM_CRUNCHER=process)."
    )
