"""Runs an image as AWS runs its container: as a process, or in docker_container.py as a container.

What its base folder, which stands for /opt/ml, holds is in opt_ml.py.
"""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

import psutil

from sagemaker_local import children
from sagemaker_local.aws_errors import OUT_OF_MEMORY
from sagemaker_local.config import Config
from sagemaker_local.docker_container import DockerContainer
from sagemaker_local.images import Launch

_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.5
_SUPERVISOR_SECONDS = 10.0
# Of the server's variables a command gets these: no PYTHONPATH, for its Python may be another one.
# The last one is a mark by which `make down` finds what belongs to its stack.
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PLATFORM_STACK_ID")


class Container(Protocol):
    """One instance's container while it runs."""

    @property
    def output(self) -> IO[bytes]:
        """Standard output and error."""
        ...

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        ...

    def problem(self, memory_mb: int) -> str:
        """Why it has to fail, whatever its exit code; empty if nothing is wrong.

        Args:
            memory_mb: As much memory as it may use with everything that it started.
        """
        ...

    def terminate(self) -> None:
        """Asks it to end."""
        ...

    def kill(self) -> None:
        """Ends it and everything that it started; returns once they are gone."""
        ...


class ChildContainer:
    """A child process of the server, which starts no others."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Takes a process of children.spawn with pipes for its input and output."""
        self.process = process

    @property
    def output(self) -> IO[bytes]:
        """Standard output and error."""
        assert self.process.stdout is not None  # noqa: S101 - asked for at its start
        return self.process.stdout

    def tell(self, line: str) -> None:
        """Writes a line to its standard input; one that has ended already does not mind."""
        assert self.process.stdin is not None  # noqa: S101 - asked for at its start
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.poll()

    def problem(self, memory_mb: int) -> str:
        """That it uses more memory than it may."""
        runs = self.poll() is None
        return OUT_OF_MEMORY if runs and self._memory() > memory_mb * 1024 * 1024 else ""

    def _memory(self) -> int:
        """In bytes."""
        try:
            return _resident(psutil.Process(self.process.pid))
        except psutil.NoSuchProcess:
            return 0

    def terminate(self) -> None:
        """Asks its process group to end."""
        children.terminate(self.process)

    def kill(self) -> None:
        """Ends its process group."""
        children.kill(self.process)


class ProcessContainer(ChildContainer):
    """An image's command as a process."""

    def __init__(self, command: Sequence[str], base: Path, environment: Mapping[str, str]) -> None:
        """Starts the command in its base folder.

        Args:
            command: Program and arguments.
            base: The folder that stands for /opt/ml.
            environment: What a container would get; `SAGEMAKER_BASE_DIR` is added.
        """
        super().__init__(
            children.spawn(
                "sagemaker_local.supervisor", [], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        # A container has no home of the user's, where other keys may lie.
        own = {"HOME": str(base), "SAGEMAKER_BASE_DIR": str(base)}
        buffered = {"PYTHONUNBUFFERED": "1"}
        order = {
            "command": list(command),
            "folder": str(base),
            "environment": inherited | buffered | dict(environment) | own,
        }
        self.tell(json.dumps(order))
        self._used, self._looked = 0, time.monotonic()

    def _memory(self) -> int:
        """Of the command and everything that it started."""
        # To find them takes a look at all processes of the machine.
        if time.monotonic() > self._looked + _LOOK_SECONDS:
            self._looked = time.monotonic()
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(self.process.pid).children(recursive=True)
                self._used = sum(map(_resident, family))
        return self._used

    def kill(self) -> None:
        """Ends the command and everything that it started, wherever it went."""
        if self.process.stdin is not None:
            # The supervisor's sign to end what it has.
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_SUPERVISOR_SECONDS)
        super().kill()
        if self.process.returncode < 0:
            # Somebody killed the supervisor: what it had goes on without it, in its session.
            _end_session(self.process.pid)


def _end_session(session: int) -> None:
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)


def start(config: Config, launch: Launch) -> Container:
    """Starts an image, as a process or as a container, with the region in its variables.

    Raises:
        JobFailure: It cannot run as a container.
    """
    region = {"AWS_REGION": config.region, "AWS_DEFAULT_REGION": config.region}
    launch = replace(launch, environment={**launch.environment, **region})
    if launch.image.container:
        return DockerContainer(config, launch)
    role = {} if launch.isolated else _role(config)
    place = {"SAGEMAKER_BIND_TO_PORT": str(launch.port)} if launch.port else {}
    return ProcessContainer(launch.command, launch.base, {**role, **launch.environment, **place})


def _role(config: Config) -> dict[str, str]:
    """What a container has from its role: access to S3. There is one key pair for everything."""
    return {
        "AWS_ACCESS_KEY_ID": config.access_key,
        "AWS_SECRET_ACCESS_KEY": config.secret_key,
        **({"AWS_ENDPOINT_URL_S3": config.s3_endpoint} if config.s3_endpoint else {}),
    }


def end_all(
    containers: Sequence[Container], seconds: float, no_grace: threading.Event | None = None
) -> None:
    """Ends several containers: all are asked first, and killed if they do not end in time.

    Args:
        containers: Those that run, and those that have ended.
        seconds: How long they get.
        no_grace: Once set, they get no more time.
    """
    deadline = time.monotonic() + seconds
    for container in containers:
        if container.poll() is None:
            container.terminate()
    while time.monotonic() < deadline and not (no_grace and no_grace.is_set()):
        if all(container.poll() is not None for container in containers):
            break
        time.sleep(_POLL_SECONDS)
    for container in containers:
        container.kill()


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
