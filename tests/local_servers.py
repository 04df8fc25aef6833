"""Servers that tests run on this machine: a free port, and a server for as long as a block runs."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler
from threading import Thread


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class QuietHandler(BaseHTTPRequestHandler):
    """Handles requests of HTTP, and logs none."""

    def reply(self, body: bytes, status: int = 200) -> None:
        """Answers with a body."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""


@contextmanager
def serving(
    handler: Callable[..., BaseRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Handles connections, each in a thread, until the block ends; its value is the port.

    Args:
        handler: Makes what handles one; it may speak another protocol than HTTP.
        tls: Encrypts them.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # pyright: ignore[reportArgumentType]
        if tls:
            # A handshake is made by the thread of its connection.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
