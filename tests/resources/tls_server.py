"""Servers of HTTPS that clients do not get to talk to: an untrusted one, one that goes away."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.certificates import make_authority, write_server_files


@contextmanager
def tls_server(folder: Path, *, goes_away: bool = False) -> Iterator[str]:
    """The URL of a server whose certificate nobody has heard of.

    Args:
        folder: For its certificate.
        goes_away: Whether it ends connections before it has shown the certificate.
    """
    write_server_files(folder, make_authority("Unknown"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if goes_away:
                self.request.recv(65536)  # what is unread would make it a reset
                return
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                client.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
