"""Ports of this machine's loopback as containers reach them: at the address of Docker's bridge."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil


def gateway() -> str:
    """This machine's address in Docker's default bridge."""
    (address,) = (
        entry.address
        for entry in psutil.net_if_addrs()["docker0"]
        if entry.family is socket.AF_INET
    )
    return address


class Bridge:
    """Passes on what comes to a port of that address, to the same port of the loopback.

    Attributes:
        address: Its address.
        waiting: The addresses of those who wait, since `hold`.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.waiting: set[str] = set()
        self._held = ""
        self._passing = threading.Event()
        self._passing.set()
        self._listeners: list[socket.socket] = []

    def hold(self, addresses: str) -> None:
        """Let nothing more through of those whose addresses begin so, until `release`."""
        self.waiting.clear()
        self._held = addresses
        self._passing.clear()

    def release(self) -> None:
        """Let all through, what has waited first."""
        self._passing.set()

    def listen(self, port: int, *, holds: bool = False) -> None:
        """Pass on what comes to a port; `hold` concerns it if `holds` is set."""
        listener = socket.create_server((self.address, port))
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, port, holds), daemon=True).start()

    def close(self) -> None:
        """Accept nothing more."""
        self.release()
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket, port: int, holds: bool) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                # Refused, as by a service that is being started again: the next may be taken.
                client.close()
                continue
            for source, target, held in ((client, server, holds), (server, client, False)):
                arguments = (source, target, held)
                threading.Thread(target=self._copy, args=arguments, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, held: bool) -> None:
        with suppress(OSError):
            address: str = source.getpeername()[0]
            while data := source.recv(65536):
                if held and address.startswith(self._held) and not self._passing.is_set():
                    self.waiting.add(address)
                    self._passing.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def bridged(ports: Iterable[int], held: int) -> Iterator[Bridge]:
    """A bridge to ports, and to one whose traffic can be held."""
    bridge = Bridge(gateway())
    try:
        bridge.listen(held, holds=True)
        for port in ports:
            bridge.listen(port)
        yield bridge
    finally:
        bridge.close()
