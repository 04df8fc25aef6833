"""A network fault in front of a real S3: a proxy resets connections after some bytes."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit

import pytest


class Proxy:
    """Passes TCP connections on to S3, and resets them after a number of bytes if asked to.

    Attributes:
        cut_answers_after: bytes of an answer after which its connection is reset.
        cut_requests_after: bytes of requests after which their connection is reset.
        cuts: how many more connections are to be reset.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.cut_answers_after = self.cut_requests_after = self.cuts = 0
        self._target = target
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._open.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for item in (client, server):
                    self._open.enter_context(item)
                Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                limit = self.cut_answers_after if is_answer else self.cut_requests_after
                if limit and passed > limit and self.cuts > 0:
                    self.cuts -= 1
                    break
                sink.sendall(data)
        for item in (source, sink):
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the S3 of an environment; the environment points to the proxy."""
    address = urlsplit(environment["AWS_ENDPOINT_URL_S3"])
    proxy = Proxy((address.hostname or "", address.port or 0))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    try:
        yield proxy
    finally:
        proxy.close()
