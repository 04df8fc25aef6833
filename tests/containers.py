"""What tests of containers and child processes share: an engine, images, and a run of Dagster."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import docker
import docker.errors
import pytest
import requests

from numbercruncher import image as image_builder
from resources.docker import RUN_LABEL, DockerResource, ModuleRun

IMAGE = "numbercruncher"


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
    image_builder.build(IMAGE, image_builder.BASE_IMAGE)
    return IMAGE


def image_with_module(client: docker.DockerClient, module: Path, tag: str) -> str:
    """The number cruncher's image with one more module in it."""
    context = io.BytesIO()
    files = {
        "Dockerfile": f"FROM {number_cruncher_image()}\nCOPY {module.name} /app/\n".encode(),
        module.name: module.read_bytes(),
    }
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
    filters = {"label": RUN_LABEL, "ancestor": image}
    found = client.containers.list(all=True, ignore_removed=True, filters=filters)
    return [str(container.name) for container in found]


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
