"""The Docker Engine that runs images as containers: how it is reached, asked and tidied.

How one container runs is in docker_container.py. The package `docker` is loaded on first use.
"""

import hashlib
import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from sagemaker_local.config import Config

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.networks import Network

LABEL = "embedded-sagemaker"
"""On every container and network; its value is the server's folder of state."""

_log = logging.getLogger(__name__)
_PROBE_SECONDS = 5
_REQUEST_SECONDS = 120
_NETWORKS = threading.Lock()
# Without it what a container sends has an address to which nobody outside can answer.
_NO_WAY_BACK = {"com.docker.network.bridge.enable_ip_masquerade": "false"}


class EngineError(Exception):
    """No engine answers, or it refuses; the text is a clause that says why."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turns what the Docker client raises into EngineError."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise EngineError(str(error.explanation or error)) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(
            f"no Docker Engine answers ({type(error).__name__}); start one, or point DOCKER_HOST "
            "at one"
        ) from error


def connect(config: Config) -> "DockerClient":
    """A client of the engine that `DOCKER_HOST` names, else of this machine's.

    Raises:
        EngineError: Containers are switched off, or there is no client, or no engine answers.
    """
    if not config.containers:
        raise EngineError("EMBEDDED_SAGEMAKER_CONTAINERS is off")
    try:
        import docker
    except ImportError:
        raise EngineError(
            "the package docker is not installed: pip install 'embedded-sagemaker[docker]'"
        ) from None
    with refusals():
        client = docker.from_env(timeout=_PROBE_SECONDS)
        client.ping()
    client.api.timeout = _REQUEST_SECONDS
    return client


def problem(config: Config, image: str) -> str:
    """Why an image cannot run as a container now; empty if it can."""
    try:
        with closing(connect(config)) as client:
            image_id(client, image)
    except EngineError as error:
        return str(error)
    return ""


def image_id(client: "DockerClient", image: str) -> str:
    """The id of an image that the engine has. None is pulled: the keys of its registry are AWS's.

    Raises:
        EngineError: It does not have it.
    """
    import docker.errors

    with refusals():
        try:
            return str(client.images.get(image).id)
        except docker.errors.ImageNotFound:
            raise EngineError(
                f"the Docker Engine has no image {image}; docker pull, build or tag it under this "
                "name"
            ) from None


def network(client: "DockerClient", config: Config, *, isolated: bool) -> "Network":
    """The server's network, made on first use; from an isolated one nothing leads outside.

    Raises:
        EngineError: It cannot be made.
    """
    import docker.errors

    folder = str(config.data_dir)
    server = hashlib.sha256(folder.encode()).hexdigest()[:12]
    name = f"{LABEL}-{server}{'-isolated' if isolated else ''}"
    with refusals(), _NETWORKS:
        try:
            return client.networks.get(name)
        except docker.errors.NotFound:
            options = _NO_WAY_BACK if isolated else {}
            return client.networks.create(name, options=options, labels={LABEL: folder})


def gateway(network: "Network") -> str:
    """This machine's own IPv4 address in a network of its engine.

    Raises:
        EngineError: It has none.
    """
    for addresses in network.attrs["IPAM"]["Config"] or []:
        if "." in addresses.get("Gateway", ""):
            return str(addresses["Gateway"])
    raise EngineError(
        f"its network {network.name} has no IPv4 gateway; docker network rm {network.name}, and it "
        "is made anew"
    )


def remove(container: "Container") -> None:
    """Removes a container with its volumes, running or not.

    Raises:
        EngineError: It is still there.
    """
    import docker.errors

    with refusals():
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            return


def remove_all(config: Config) -> None:
    """Removes this server's containers and networks; none of them is in use any more."""
    if not config.containers_mark.exists():
        return
    own = f"{LABEL}={config.data_dir}"
    try:
        with closing(connect(config)) as client, refusals():
            for container in client.containers.list(
                all=True, ignore_removed=True, filters={"label": own}
            ):
                remove(container)
            for network in client.networks.list(filters={"label": own}):
                network.remove()
    except EngineError as error:
        _log.warning("containers or networks may be left, and go at the next start: %s", error)
