"""Hosts for tests: network namespaces on a bridge of their own, which reach nothing but each other.

What listens on this machine's loopback is passed on to them, and the other way round, by sockets
that are made in one namespace and used from outside. Needs root and iproute2.
"""

import asyncio
import ctypes
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO

from tests.conftest import CHECKOUT

_LIBC = ctypes.CDLL(None, use_errno=True)
# Of TEST-NET-2 (RFC 5737), which no real network uses.
_NET = "198.51.100"
GATEWAY = f"{_NET}.1"


@dataclass
class Host:
    """A network namespace.

    Attributes:
        name: Of the namespace.
        address: Its own on the bridge.
        link: Its end of the cable at the bridge.
    """

    name: str
    address: str
    link: str = ""
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, command: Sequence[str], env: Mapping[str, str], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a program on it, which goes away with this process, whatever becomes of it."""
        prefix = ("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.name)
        process = subprocess.Popen(
            [*prefix, *command], cwd=CHECKOUT, env=dict(env), stdout=log, stderr=log
        )
        self._started.append(process)
        return process

    def processes(self) -> list[int]:
        """Ids of all that runs on it."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.name], check=True, capture_output=True, text=True
        )
        return [int(pid) for pid in done.stdout.split()]

    def kill(self) -> None:
        """End all that runs on it by SIGKILL."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                process.wait()


class Network:
    """A gateway and hosts on its bridge.

    Attributes:
        gateway: On which services are reached.
        hosts: The others.
    """

    def __init__(self, hosts: int) -> None:
        test = f"test{secrets.token_hex(3)}"
        self.gateway = Host(f"{test}-0", GATEWAY)
        self.hosts = [
            Host(f"{test}-{n}", f"{_NET}.{10 + n}", f"host{n}") for n in range(1, hosts + 1)
        ]
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        Thread(target=self._loop.run_forever, daemon=True).start()

    def make(self) -> None:
        """Make the namespaces, bridge and cables."""
        gateway = self.gateway.name
        _ip("netns", "add", gateway)
        _ip("-netns", gateway, "link", "set", "lo", "up")
        _ip("-netns", gateway, "link", "add", "bridge", "type", "bridge")
        _ip("-netns", gateway, "address", "add", f"{GATEWAY}/24", "dev", "bridge")
        _ip("-netns", gateway, "link", "set", "bridge", "up")
        for host in self.hosts:
            peer = ("peer", "name", "eth0", "netns", host.name)
            _ip("netns", "add", host.name)
            _ip("-netns", gateway, "link", "add", host.link, "type", "veth", *peer)
            _ip("-netns", gateway, "link", "set", host.link, "master", "bridge", "up")
            _ip("-netns", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-netns", host.name, "link", "set", "lo", "up")
            _ip("-netns", host.name, "link", "set", "eth0", "up")

    def unplug(self, host: Host) -> None:
        """Take a host's cable away: packets vanish, and nobody is told."""
        _ip("-netns", self.gateway.name, "link", "set", host.link, "down")

    def remove(self) -> None:
        """End all that runs there, and leave nothing behind."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        for host in (*self.hosts, self.gateway):
            with suppress(subprocess.CalledProcessError):  # it was not made
                host.kill()
                _ip("netns", "delete", host.name)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        passing = asyncio.all_tasks() - {asyncio.current_task()}
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    def let_in(self, port: int) -> None:
        """Have a port of all their loopbacks reach this machine's, that of hosts by cable."""
        here = ("127.0.0.1", port)
        for address in (GATEWAY, "127.0.0.1"):
            self._pass_on(self.gateway.name, (address, port), None, here)
        for host in self.hosts:
            self._pass_on(host.name, here, host.name, (GATEWAY, port))

    def let_out(self, port: int) -> int:
        """Have a port of this machine's loopback reach one of the gateway's; returns it."""
        return self._pass_on(None, ("127.0.0.1", 0), self.gateway.name, ("127.0.0.1", port))

    def _pass_on(
        self,
        listen_in: str | None,
        at: tuple[str, int],
        connect_in: str | None,
        to: tuple[str, int],
    ) -> int:
        with inside(listen_in):
            listener = socket.create_server(at)

        async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
            with inside(connect_in):
                target = socket.socket()
            target.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(target, to)
                server, request = await asyncio.open_connection(sock=target)
                await asyncio.gather(_copy(client, request), _copy(server, answer))
            except (OSError, asyncio.CancelledError):  # nobody is there, or the test is over
                answer.close()

        starting = asyncio.start_server(serve, sock=listener)
        self._servers.append(asyncio.run_coroutine_threadsafe(starting, self._loop).result())
        return listener.getsockname()[1]


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    with suppress(OSError):
        sink.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def inside(namespace: str | None) -> Iterator[None]:
    """Have this thread make its sockets in a network namespace; None for the machine's own."""
    if namespace is None:
        yield
        return
    own = Path("/proc/thread-self/ns/net")
    with own.open() as home, Path("/run/netns", namespace).open() as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)


def _enter(namespace: IO[str]) -> None:
    # Python has os.setns from 3.12 on.
    if _LIBC.setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def network(hosts: int) -> Iterator[Network]:
    """So many hosts on a bridge, removed afterwards with all that runs there."""
    made = Network(hosts)
    try:
        made.make()
        yield made
    finally:
        made.remove()
