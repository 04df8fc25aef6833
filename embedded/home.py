"""PLATFORM_HOME: the folders of the stack's state, logs and credentials, readable by their owner.

`plan` uses the credentials.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from embedded.errors import BusyError, ConfigurationError, NoSpaceError

CONTROL_SOCKET, CODE_SERVER_SOCKET = "supervisor.sock", "code-server.sock"
CHECKOUT = Path(__file__).resolve().parent.parent
_NEEDED_BYTES = 1 << 30
_FULL_BYTES = 16 << 20
# SeaweedFS writes nothing to the last hundredth of a disk.
_RESERVED_PART = 100
# The shortest limit on a Unix socket's path among the systems in use (macOS).
_SOCKET_PATH_LIMIT = 100
# For another command to finish.
_LOCK_SECONDS = 180


@dataclass(frozen=True)
class Credentials:
    """Random values of characters that need no quoting anywhere, generated once and kept.

    `stack_id` marks every process of this home.
    """

    stack_id: str = field(default_factory=partial(secrets.token_hex, 8))
    access_key_id: str = field(default_factory=lambda: f"PLATFORM{secrets.token_hex(6).upper()}")
    secret_access_key: str = field(default_factory=partial(secrets.token_hex, 20))
    postgres_admin_password: str = field(default_factory=partial(secrets.token_hex, 16))
    postgres_password: str = field(default_factory=partial(secrets.token_hex, 16))
    control_password: str = field(default_factory=partial(secrets.token_hex, 16))


@dataclass(frozen=True)
class Home:
    """The folders and files of one PLATFORM_HOME."""

    root: Path

    @property
    def was_started(self) -> bool:
        """Whether anything was ever started here."""
        return (self.root / "credentials.json").exists()

    @property
    def env_file(self) -> Path:
        """Shell assignments for clients."""
        return self.root / "env"

    @property
    def data(self) -> Path:
        """What must outlive the processes."""
        return self.root / "data"

    @property
    def postgres_data(self) -> Path:
        """The cluster of the embedded Postgres; by this folder its processes are known."""
        return self.data / "postgres"

    @property
    def logs(self) -> Path:
        """One file a program."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is of use only while the stack runs: generated configuration, pid files, sockets."""
        return self.root / "run"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    def sockets(self, stack_id: str) -> Path:
        """Where programs listen for each other: `run`, unless its path is none for a socket.

        It may be too long, and gRPC takes a path for a part of a URI.
        """
        path = str(self.run / CODE_SERVER_SOCKET)
        if len(path) <= _SOCKET_PATH_LIMIT and re.fullmatch(r"[\w./-]+", path, re.ASCII):
            return self.run
        return Path(tempfile.gettempdir()) / f"platform-{stack_id}"

    def make_folders(self) -> None:
        """Make what is missing, readable by the owner only.

        Raises:
            ConfigurationError: The place is not a folder, not ours to write to, or open to others.
        """
        try:
            for folder in (self.root, self.data, self.logs, self.run, self.dagster):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whether it helps is seen below.
            with suppress(OSError):
                self.root.chmod(0o700)
            open_to_others = self.root.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        except OSError as error:
            raise ConfigurationError(
                f"{self.root} cannot be used for the stack's state ({error.strerror}); "
                "set PLATFORM_HOME to a folder that you may write to."
            ) from error
        if open_to_others:
            raise ConfigurationError(
                f"{self.root} cannot be closed to other users of this machine, and would hold "
                "passwords: it is somebody else's, or its file system keeps no access modes. Set "
                "PLATFORM_HOME to a folder of yours on another file system."
            )

    def credentials(self) -> Credentials:
        """Those of this home, made at the first call.

        Raises:
            ConfigurationError: The file is there and holds something else.
        """
        path = self.root / "credentials.json"
        if not path.exists():
            generated = Credentials()
            write_private(path, json.dumps(asdict(generated), indent=2) + "\n")
            return generated
        try:
            kept = json.loads(path.read_text())
            return Credentials(**{one.name: str(kept[one.name]) for one in fields(Credentials)})
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path} is damaged. Without it the data of {self.root} cannot be opened: restore "
                "it, or start from nothing with `make clean`."
            ) from error

    def require_space(self) -> None:
        """Refuse to start on a full disk.

        Raises:
            NoSpaceError: Fewer than 1 GiB are free, or fewer than one percent.
        """
        disk = shutil.disk_usage(self.root)
        needed = max(_NEEDED_BYTES, disk.total // _RESERVED_PART)
        if disk.free < needed:
            raise NoSpaceError(
                f"Only {disk.free >> 20} MB are free on the disk of {self.root} and the services "
                f"need {needed >> 20}: free some space, or set PLATFORM_HOME to a folder on "
                "another disk."
            )

    def is_full(self) -> bool:
        """Whether services may die of the disk, or take nothing."""
        disk = shutil.disk_usage(self.root)
        return disk.free < max(_FULL_BYTES, disk.total // _RESERVED_PART)

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of this home: one `up` or `down` at a time.

        The lock is the kernel's, so it goes with a killed process.

        Raises:
            BusyError: Another one did not finish in time.
        """
        lock = FileLock(self.root / "lock", mode=0o600)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                say(f"Another command is at work on {self.root}: waiting for it")
                lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout as error:
            raise BusyError(
                f"Another `make up`, `make down` or `make demo` has been at work on {self.root} "
                f"for {_LOCK_SECONDS} s: wait for it to finish, or stop it."
            ) from error
        try:
            yield
        finally:
            lock.release()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all.

    Raises:
        NoSpaceError: The disk is full.
    """
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise NoSpaceError(
                f"{path} could not be written, since the disk is full: free some space."
            ) from error
        raise
