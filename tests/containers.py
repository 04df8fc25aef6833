"""What tests of containers and child processes share: an engine, images, and a run of Dagster."""

import io
import os
import socket
import ssl
import tarfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import dagster as dg
import docker
import docker.errors
import pytest
import requests

from numbercruncher import image as image_builder
from resources.docker import DockerResource, ModuleRun
from resources.docker.container import RUN_LABEL
from tests.certificates import make_authority, write_server_files

IMAGE = "numbercruncher"
ENGINE_SOCKET = "unix:///var/run/docker.sock"


def engine() -> docker.DockerClient:
    """A client of this machine's Docker Engine; skips the test where none answers."""
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        pytest.skip(f"no Docker Engine answers here ({type(error).__name__})")
    return client


def number_cruncher_image() -> str:
    """Builds the number cruncher's image unless the engine has it; returns its name."""
    engine().close()
    image_builder.build(IMAGE, os.environ.get("BASE_IMAGE"))
    return IMAGE


def image_with_module(client: docker.DockerClient, module: Path, tag: str) -> str:
    """The number cruncher's image with one more module in it."""
    # The label gives the image an id of its own.
    lines = f"FROM {number_cruncher_image()}\nLABEL test={tag}\nCOPY {module.name} /app/\n"
    return build_image(
        client, tag, {"Dockerfile": lines.encode(), module.name: module.read_bytes()}
    )


def build_image(client: docker.DockerClient, tag: str, files: Mapping[str, bytes]) -> str:
    """An image of these files, one of which is the Dockerfile; returns its name."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)
    return tag


def containers_left(client: docker.DockerClient, image: str) -> list[str]:
    """Names of the platform's containers of an image that the engine still has, running or not."""
    containers = client.containers.list(
        all=True, ignore_removed=True, filters={"label": RUN_LABEL, "ancestor": image}
    )
    return [str(container.name) for container in containers]


def run_in_dagster(
    resource: DockerResource,
    module: str,
    *,
    extras: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> ModuleRun:
    """Runs a module as an op of a real run; raises what the resource raised."""
    outcome: list[ModuleRun | Exception] = []

    @dg.op(name="run_module")
    def run_module(context: dg.OpExecutionContext) -> None:
        try:
            outcome.append(resource.run(context, module, extras=extras, arguments=arguments))
        except Exception as error:
            outcome.append(error)

    @dg.job(name="run_module_job")
    def run_module_job() -> None:
        run_module()

    run_module_job.execute_in_process()
    (result,) = outcome
    if isinstance(result, Exception):
        raise result
    return result


class EngineProxy:
    """A proxy in front of the engine's socket, which can cut the connection to the engine."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cuts all connections and accepts no new ones."""
        for opened in self._sockets:
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                if self._tls is not None:
                    client = self._tls.wrap_socket(client, server_side=True)
            except OSError:
                return
            self.connections += 1
            server = socket.socket(socket.AF_UNIX)
            server.connect(ENGINE_SOCKET.removeprefix("unix://"))
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Makes a certificate of 127.0.0.1, the client's too, in a DOCKER_CERT_PATH."""
    authority = make_authority("engines")
    write_server_files(folder, authority, "127.0.0.1")
    for ours, docker_s in (("server.crt", "cert.pem"), ("server.key", "key.pem")):
        (folder / ours).rename(folder / docker_s)
    (folder / "ca.pem").write_bytes(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context
