"""A module in a child process: for where no Docker Engine answers.

The same clock, memory limit, messages, errors and secrecy as in a container, without its walls.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import dagster as dg
import psutil

from resources.cancellation import Cancellation
from resources.docker.aws_access import AwsAccess, as_process_output
from resources.docker.errors import ModuleFailedError
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

# By its path: importing this package, Dagster and all, would cost it a second and 100 MB.
CHILD = (sys.executable, "-P", str(Path(__file__).with_name("child.py")))
CREDENTIALS = "DATA_PLATFORM_CREDENTIALS"
FAMILY_SECONDS = 1.0

# A child gets these of its parent's variables and no others: the parent's hold secrets.
INHERITED = frozenset(
    {
        "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "JAVA_HOME",
        "SPARK_CONF_DIR", "SPARK_LOCAL_IP",
    }
)  # fmt: skip


class _Memory:
    """Watches the resident memory of a process and of all it started."""

    def __init__(self, pid: int, limit_bytes: int) -> None:
        self._pid = pid
        self._limit = limit_bytes
        self._family: list[psutil.Process] = []
        self._look_again = 0.0
        self.peak = 0

    def within_limit(self) -> bool:
        used = 0
        for process in self._processes():
            with suppress(psutil.Error):
                used += process.memory_info().rss
        self.peak = max(self.peak, used)
        return used <= self._limit

    def _processes(self) -> list[psutil.Process]:
        """The family of a second ago at most: to find it takes a look at every process."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + FAMILY_SECONDS
            with suppress(psutil.Error):
                leader = psutil.Process(self._pid)
                self._family = [leader, *leader.children(recursive=True)]
        return self._family


class _MemoryExceededError(Exception):
    pass


def run_in_process(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    spec: ModuleSpec,
    reader: StreamMessageReader,
) -> int:
    """Run a module to its end; whatever happens, none of its processes stays behind.

    Returns:
        The peak of its resident memory in bytes.

    Raises:
        ModuleRunError: The module failed, or ran out of memory or time.
    """
    with _credential_variables(spec.aws) as credentials:
        settings = {**spec.environment, **spec.aws.private, **credentials}
        if spec.aws.ca_bundle:
            settings["AWS_CA_BUNDLE"] = spec.aws.ca_bundle
        return _run_process(spec, settings, reader, Cancellation(context.instance, context.run))


def _run_process(
    spec: ModuleSpec,
    settings: Mapping[str, str],
    reader: StreamMessageReader,
    cancellation: Cancellation,
) -> int:
    deadline = time.monotonic() + spec.deadline_seconds
    process = subprocess.Popen(
        [*CHILD, f"{spec.deadline_inside:.0f}", spec.module, *spec.arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name in INHERITED},
        start_new_session=True,
    )
    memory = _Memory(process.pid, spec.memory_mb * 1024**2)
    output = Output()

    def check() -> bool:
        cancellation.check()
        if not memory.within_limit():
            raise _MemoryExceededError
        return process.poll() is None

    try:
        _send(process, settings)
        output.follow("stdout", _chunks(process.stdout))
        output.follow("stderr", _chunks(process.stderr))
        with renewing(spec.aws, lambda credentials: _send(process, _renewed(credentials))):
            output.pump(reader.consume, deadline=deadline, check=check)
            _await_end(check, deadline)
    except _MemoryExceededError:
        raise out_of_memory(spec, "process", reader.tail) from None
    except DeadlinePassedError:
        raise timed_out(spec, reader.tail) from None
    finally:
        output.abandon()
        _end(process)
    code = process.returncode
    if code == -signal.SIGKILL:
        raise ModuleFailedError(
            f"{spec.module} was killed from outside in its process (signal 9), by somebody or by"
            " the kernel for lack of memory on this machine.",
            log_tail=reader.tail,
        )
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise ModuleFailedError(
            f"{spec.module} ended in its process with {how}.", log_tail=reader.tail
        )
    return memory.peak


@contextmanager
def _credential_variables(access: AwsAccess) -> Generator[dict[str, str]]:
    """The variables by which the child finds its credentials."""
    if not access.expires:
        yield access.credentials()
        return
    # Credentials that change have to change in one variable: key and secret in two would for a
    # moment be of different ones. AWS clients ask a command for it, which a file has to name.
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config"
        config.write_text(f"[default]\ncredential_process = printenv {CREDENTIALS}\n")
        yield _renewed(access.credentials()) | {
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(config.with_name("none")),
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def _renewed(credentials: Mapping[str, str]) -> dict[str, str]:
    return {CREDENTIALS: as_process_output(credentials).decode()}


def _send(process: subprocess.Popen[bytes], settings: Mapping[str, str]) -> None:
    """Hands over settings; the pipe stays open as the child's sign that we are alive."""
    with suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(json.dumps(dict(settings)).encode() + b"\n")
            process.stdin.flush()


def _await_end(check: Callable[[], bool], deadline: float) -> None:
    """Waits for a process whose streams have ended and which itself may not have."""
    while check():
        if time.monotonic() >= deadline:
            raise DeadlinePassedError
        time.sleep(0.02)


def _chunks(pipe: IO[bytes] | None) -> Iterator[bytes]:
    while pipe is not None and (chunk := os.read(pipe.fileno(), 65536)):
        yield chunk


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole process group: politely, then surely."""
    try:
        if process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=STOP_SECONDS)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(BrokenPipeError):
            if process.stdin is not None:
                process.stdin.close()
