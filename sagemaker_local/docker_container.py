"""An image as a container of the Docker Engine, by the protocol `Container` of containers.py.

/opt/ml is a copy: the base folder goes into the container, and what it leaves comes back once it
has ended. So nothing of this machine is mounted, the container's root never writes here,
and the engine may have other user ids than the server.
"""

import contextlib
import io
import logging
import shutil
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sagemaker_local import archives, docker_engine, relay
from sagemaker_local.aws_errors import OUT_OF_MEMORY, JobFailure
from sagemaker_local.config import Config
from sagemaker_local.docker_engine import EngineError
from sagemaker_local.images import Launch

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.networks import Network

_log = logging.getLogger(__name__)
_PORT = 8080
_CREDENTIALS = "/etc/embedded-sagemaker/credentials"
_PROCESSES = 4096
# What of a line is held back until its end; longer ones may be torn.
_LINE = 256 * 1024
# Docker's own list without raw packets, devices and changes of root: what images that begin as
# root and go on as another user need.
_CAPABILITIES = [
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID",
]  # fmt: skip
# What a shell says of a process that was killed: the engine does not say more.
_KILLED = 137
_END_SECONDS = 600.0
_OOM_REPORT_SECONDS = 1.0


class DockerContainer:
    """A `Container`.

    Attributes:
        output: Standard output and error.
    """

    def __init__(self, config: Config, launch: Launch) -> None:
        """Starts an image with a copy of its base folder.

        Raises:
            JobFailure: There is no engine or no such image, or the engine refuses.
        """
        self._base = launch.base
        self._collect = launch.collect
        self._code: int | None = None
        self._problem = ""
        self._asked_to_end = False
        self._ended = threading.Event()
        self._removed = False
        # Before the first is there: a server that is killed in between has to look for it.
        config.containers_mark.touch()
        try:
            self._client = docker_engine.connect(config)
            self._container = _create(self._client, config, launch)
            try:
                with docker_engine.refusals():
                    _put_files(self._container, launch.base, None if launch.isolated else config)
                    # Before the start, so that it has the first line.
                    chunks = self._container.attach(
                        stdout=True, stderr=True, stream=True, demux=True
                    )
                    self._container.start()
            except BaseException:
                self._remove()
                raise
        except EngineError as error:
            raise JobFailure(
                f"ClientError: The image {launch.image.pattern} cannot run as a container: {error}"
            ) from error
        self.output: IO[bytes] = io.BufferedReader(_Stream(by_lines(chunks)))
        threading.Thread(target=self._watch, daemon=True).start()

    def poll(self) -> int | None:
        """The exit code once what it left is here; None before."""
        return self._code

    def problem(self, memory_mb: int) -> str:
        """That it came to its limit of memory, which the engine holds, or was lost."""
        del memory_mb
        return self._problem

    def terminate(self) -> None:
        """Sends SIGTERM; one that has ended already does not mind."""
        self._asked_to_end = True
        with contextlib.suppress(EngineError), docker_engine.refusals():
            self._container.kill("SIGTERM")

    def kill(self) -> None:
        """Ends and removes it, and returns once what it left is here."""
        if self._removed:
            return
        self._asked_to_end = True
        with contextlib.suppress(EngineError), docker_engine.refusals():
            self._container.kill()
        self._ended.wait(_END_SECONDS)
        self._remove()

    def _remove(self) -> None:
        self._removed = True
        try:
            docker_engine.remove(self._container)
        except EngineError as error:
            _log.warning("a container is left, and goes at the next start: %s", error)
        self._client.close()

    def _watch(self) -> None:
        """Waits for the end, and brings back what is left."""
        code = _KILLED
        try:
            with docker_engine.refusals():
                code = int(self._container.wait()["StatusCode"])
                if self._ran_out_of_memory(code):
                    self._problem = OUT_OF_MEMORY
                self._bring_back()
        except archives.ArchiveError as error:
            self._problem = self._problem or f"ClientError: Unable to pack /opt/ml: {error}"
        except EngineError as error:
            self._problem = self._problem or (
                f"InternalServerError: The container was lost: {error}. Please try again."
            )
        except OSError as error:
            self._problem = self._problem or (
                f"InternalServerError: What the container left cannot be kept: {error.strerror}."
            )
        finally:
            self._code = code
            self._ended.set()

    def _ran_out_of_memory(self, code: int) -> bool:
        """Whether the kernel killed in it; the engine may learn of that a moment after the end."""
        patience = time.monotonic() + _OOM_REPORT_SECONDS
        while True:
            self._container.reload()
            if self._container.attrs["State"]["OOMKilled"]:
                return True
            if code == 0 or self._asked_to_end or time.monotonic() > patience:
                return False
            time.sleep(0.1)

    def _bring_back(self) -> None:
        import docker.errors

        for name in self._collect:
            # What went in, and may be gone there. The container's own link finds no place then.
            folder = self._base / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(docker.errors.NotFound):
                chunks, _ = self._container.get_archive(f"/opt/ml/{name}")
                archives.receive(io.BufferedReader(_Stream(chunks)), folder.parent)


def _create(client: "DockerClient", config: Config, launch: Launch) -> "Container":
    from docker.types import LogConfig

    image = docker_engine.image_id(client, launch.image.pattern)
    # An isolated one that serves has to be reached.
    alone = launch.isolated and launch.port is None
    network = None if alone else docker_engine.network(client, config, isolated=launch.isolated)
    role = {} if launch.isolated or network is None else _role(config, network)
    serves = {"SAGEMAKER_BIND_TO_PORT": str(_PORT)} if launch.port else {}
    memory = config.training_memory_mb * 1024 * 1024
    with docker_engine.refusals():
        cores = int(client.info()["NCPU"])
        return client.containers.create(
            image,
            list(launch.command),
            entrypoint=list(launch.entrypoint) or None,
            hostname=launch.base.name,
            labels={docker_engine.LABEL: str(config.data_dir)},
            environment={"PYTHONUNBUFFERED": "1", **role, **launch.environment, **serves},
            network_mode=str(network.id) if network else "none",
            ports={f"{_PORT}/tcp": ("127.0.0.1", launch.port)} if launch.port else {},
            mem_limit=memory,
            # No more with swap than without.
            memswap_limit=memory,
            # Workers of deep learning pass their data by it; it counts as memory.
            shm_size=memory // 2,
            # One core is for the server, where there are several.
            nano_cpus=max(1, cores - 1) * 10**9,
            pids_limit=_PROCESSES,
            cap_drop=["ALL"],
            cap_add=_CAPABILITIES,
            security_opt=["no-new-privileges"],
            # Signals end it, and orphans are buried, whatever its program knows of that.
            init=True,
            # Its lines are read as they come; the engine keeps none.
            log_config=LogConfig(type=LogConfig.types.NONE),
        )


def _role(config: Config, network: "Network") -> dict[str, str]:
    """What leads AWS's clients to S3 and to the keys, which are no variables: those show."""
    variables = {"AWS_SHARED_CREDENTIALS_FILE": _CREDENTIALS}
    if config.s3_endpoint:
        gateway = docker_engine.gateway(network)
        variables["AWS_ENDPOINT_URL_S3"] = relay.reachable(config.s3_endpoint, gateway)
    return variables


def _put_files(container: "Container", base: Path, role: Config | None) -> None:
    """Copies the base folder to /opt/ml, and the keys where there is a role."""
    with tempfile.TemporaryFile(dir=base.parent) as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(base, "opt/ml", filter=_for_anybody)
            if role is not None:
                keys = (
                    f"[default]\naws_access_key_id = {role.access_key}\n"
                    f"aws_secret_access_key = {role.secret_key}\n"
                ).encode()
                entry = tarfile.TarInfo(_CREDENTIALS.lstrip("/"))
                entry.size, entry.mode = len(keys), 0o444
                tar.addfile(entry, io.BytesIO(keys))
        file.seek(0)
        container.put_archive("/", file)


def _for_anybody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whichever user the image has may read and write it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o777 if member.isdir() else 0o666
    return member


def by_lines(chunks: Iterator[Sequence[bytes | None]]) -> Iterator[bytes]:
    """Standard output and error as one stream, in which no line is torn by one of the other's.

    Args:
        chunks: Of each pair of output and error one comes from the container.
    """
    rests = [b"", b""]
    for pair in chunks:
        for number, chunk in enumerate(pair):
            text = rests[number] + (chunk or b"")
            end = len(text) if len(text) > _LINE else text.rfind(b"\n") + 1
            rests[number] = text[end:]
            if end:
                yield text[:end]
    yield from filter(None, rests)


class _Stream(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
