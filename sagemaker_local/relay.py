"""Brings containers to an S3 on this machine's loopback, and to nothing else of it."""

import contextlib
import socket
import socketserver
import threading
from functools import cache
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CHUNK = 64 * 1024
# What Docker Desktop calls the machine's loopback.
_DESKTOP = "host.docker.internal"


def reachable(endpoint: str, gateway: str) -> str:
    """A service's address as containers reach it.

    Args:
        endpoint: Its URL on this machine.
        gateway: This machine's own address in the network of the containers.

    Returns:
        For a service on loopback the URL of a relay that listens on the gateway alone; any other
        as it is.
    """
    parts = urlsplit(endpoint)
    if parts.hostname not in _LOOPBACK:
        return endpoint
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        place = f"{gateway}:{_relay(gateway, str(parts.hostname), port)}"
    except OSError:
        # The gateway is no address of this machine: the engine is in a virtual machine.
        place = f"{_DESKTOP}:{port}"
    return parts._replace(netloc=place).geturl()


class _Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64
    target: tuple[str, int] = ("", 0)


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Relay)  # noqa: S101 - for the type
        with contextlib.suppress(OSError), socket.create_connection(self.server.target) as target:
            back = threading.Thread(target=_copy, args=(target, self.request), daemon=True)
            back.start()
            _copy(self.request, target)
            back.join()


@cache
def _relay(gateway: str, host: str, port: int) -> int:
    """Starts a relay that runs as long as the server; returns its port."""
    relay = _Relay((gateway, 0), _Connection)
    relay.target = (host, port)
    threading.Thread(target=relay.serve_forever, daemon=True).start()
    return relay.server_address[1]


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    # The other direction goes on: whoever has said everything may still listen.
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
