"""The ports of the stack, all on 127.0.0.1, and which program uses one that should be free."""

import socket
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import psutil

from embedded.errors import ConfigurationError, PortInUseError

HOST = "127.0.0.1"
_FIRST_INNER = 17100
# SeaweedFS's worker looks for the admin server's gRPC there and nowhere else.
_ADMIN_GRPC_OFFSET = 10000
# Where it always was: Prometheus is told of it by number.
_METRICS_OFFSET = 15


@dataclass(frozen=True)
class Ports:
    """One port a purpose; the `s3_…` ones are SeaweedFS's own, for nobody else."""

    ui: int
    api: int
    s3: int
    sagemaker: int
    postgres: int
    s3_grpc: int
    s3_master: int
    s3_master_grpc: int
    s3_volume: int
    s3_volume_grpc: int
    s3_filer: int
    s3_filer_grpc: int
    s3_admin: int
    s3_admin_grpc: int
    metrics: int

    def of_s3(self) -> tuple[int, ...]:
        """All ports of SeaweedFS."""
        return tuple(getattr(self, field.name) for field in fields(self) if "s3" in field.name)


def from_base(base: int) -> Ports:
    """Consecutive ports from `base` on: UI, page, S3, SageMaker, Postgres, then the inner ones.

    Raises:
        ConfigurationError: The base leaves no room.
    """
    if not 1024 <= base <= 55000:
        raise ConfigurationError(
            f"PLATFORM_PORT_BASE={base} leaves no room for the ports: use one from 1024 to 55000."
        )
    names = [field.name for field in fields(Ports)]
    ports = Ports(**{name: base + offset for offset, name in enumerate(names)})
    return replace(
        ports,
        s3_admin_grpc=ports.s3_admin + _ADMIN_GRPC_OFFSET,
        metrics=base + _METRICS_OFFSET,
    )


def choose(base: str | None) -> Ports:
    """The ports for a value of PLATFORM_PORT_BASE; without one, UI 3000 and page 8000.

    Raises:
        ConfigurationError: Not a number, or one that leaves no room.
    """
    if not base:
        return replace(from_base(_FIRST_INNER), ui=3000, api=8000)
    try:
        return from_base(int(base))
    except ValueError:
        raise ConfigurationError(
            f"PLATFORM_PORT_BASE={base!r} is not a number: use one from 1024 to 55000."
        ) from None


def free_base(bases: Iterable[int]) -> int:
    """The first of `bases` whose ports are all free now.

    Raises:
        PortInUseError: There is none.
    """
    for base in bases:
        ports = from_base(base)
        if not any(in_use(getattr(ports, field.name)) for field in fields(ports)):
            return base
    raise PortInUseError("No block of free ports was found.")


def in_use(port: int) -> bool:
    """Whether somebody listens on the port of 127.0.0.1, or of all addresses."""
    with socket.socket() as probe:
        # Otherwise connections that have just been closed count as somebody.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    # macOS lets a second program bind beside one that listens on all addresses.
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def require_listener(port: int) -> None:
    """Look whether a program has come up. Clients of HTTP and of AWS take far longer to make.

    Raises:
        OSError: Nobody listens on the port.
    """
    socket.create_connection((HOST, port), timeout=2).close()


def require_free(wanted: dict[str, int]) -> None:
    """Check ports before programs are started on them.

    Args:
        wanted: Port by what it is for.

    Raises:
        PortInUseError: Names the first port that is taken and, where it can be told, by whom.
    """
    for purpose, port in wanted.items():
        if in_use(port):
            raise PortInUseError(
                f"Port {port}, which {purpose} needs, is in use by {_owner(port)}: stop that, or "
                "move all ports of the stack with PLATFORM_PORT_BASE, "
                "for example `PLATFORM_PORT_BASE=20000 make up`."
            )


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {process.pid})"
    except psutil.Error:
        pass  # not ours to look at: macOS, or another user's
    return "another program"
