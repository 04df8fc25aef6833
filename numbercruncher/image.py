"""Builds the number cruncher's image from the Dockerfile (`make image`). Not part of the image."""

import argparse
import hashlib
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import docker
import docker.errors
import requests

ROOT = Path(__file__).parents[1]
DOCKERFILE = "numbercruncher/Dockerfile"
IMAGE = "numbercruncher"
BASE_IMAGE = "python:3.11-slim"
CONTENT_LABEL = "data-platform.content"
BASE_LABEL = "data-platform.base"
# What the Dockerfile copies. Relative to ROOT, like the build context.
_SOURCES = (
    DOCKERFILE,
    "numbercruncher/requirements.txt",
    "numbercruncher/*.py",
    "formats/__init__.py",
    "formats/columns.py",
    "formats/errors.py",
    "formats/manifest.py",
)


class ImageError(Exception):
    """The image could not be built; the message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Builds the image, unless it is up to date; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m numbercruncher.image", description=__doc__)
    parser.add_argument("--image", default=IMAGE, help=f"name of the image ({IMAGE})")
    parser.add_argument(
        "--base",
        default=os.environ.get("BASE_IMAGE"),
        help=f"image it is built on; $BASE_IMAGE if that is set, else {BASE_IMAGE}",
    )
    options = parser.parse_args(arguments)
    try:
        build(options.image, options.base)
    except ImageError as error:
        _print(str(error))
        return 1
    return 0


def build(image: str, base: str | None = None) -> None:
    """Builds the image unless the engine has it with the same content.

    Args:
        image: Its name.
        base: The image it is built on. None: an image of the same content on any base is up to
            date, and a new one is built on `BASE_IMAGE`.

    Raises:
        ImageError: No engine answers, the base cannot be pulled, or a step of the build failed.
    """
    client = _connect()
    matching = {path for pattern in _SOURCES for path in ROOT.glob(pattern)}
    sources = sorted(matching - {Path(__file__)})
    content = _digest(sources)
    if _is_up_to_date(client, image, content, base):
        _print(f"The image {image} is up to date.")
        return
    base = base or BASE_IMAGE
    _pull_if_missing(client, base)
    _print(f"Building the image {image} on {base} …")
    try:
        with tempfile.TemporaryFile() as context:
            _write_context(context, sources)
            built, _ = client.images.build(
                fileobj=context,
                custom_context=True,
                dockerfile=DOCKERFILE,
                buildargs={"BASE_IMAGE": base},
                labels={CONTENT_LABEL: content, BASE_LABEL: base},
                tag=image,
                rm=True,
                forcerm=True,
            )
    except docker.errors.BuildError as error:
        lines = "".join(str(entry.get("stream", "")) for entry in error.build_log)  # pyright: ignore[reportAttributeAccessIssue]
        end = "\n".join(lines.splitlines()[-20:])
        raise ImageError(f"The image {image} could not be built: {error}\n{end}") from error
    except docker.errors.APIError as error:
        raise ImageError(f"The image {image} could not be built: {error.explanation}") from error
    _print(f"The image {image} is built ({built.attrs['Size'] / 1e6:.0f} MB).")


def _connect() -> docker.DockerClient:
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise ImageError(
            f"No Docker Engine answers ({error}). Start one, or do without the image: the number"
            " cruncher then runs as a child process."
        ) from error
    return client


def _is_up_to_date(client: docker.DockerClient, image: str, content: str, base: str | None) -> bool:
    try:
        labels = client.images.get(image).labels
    except docker.errors.ImageNotFound:
        return False
    return labels.get(CONTENT_LABEL) == content and base in (None, labels.get(BASE_LABEL))


def _pull_if_missing(client: docker.DockerClient, base: str) -> None:
    try:
        client.images.get(base)
    except docker.errors.ImageNotFound:
        _print(f"Fetching the base image {base} …")
        try:
            client.images.pull(base)
        except docker.errors.APIError as error:
            raise ImageError(
                f"The base image {base} cannot be fetched ({error.explanation}). Reach a registry,"
                " or name an image with Python 3.11 and pip that the Docker Engine has:"
                " make image BASE_IMAGE=NAME"
            ) from error


def _digest(sources: list[Path]) -> str:
    """A digest of all that goes into the image, except for the base and the packages of PyPI."""
    digest = hashlib.sha256()
    for path in sources:
        file_digest = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(ROOT)} {file_digest}\n".encode())
    return digest.hexdigest()


def _write_context(target: IO[bytes], sources: list[Path]) -> None:
    """The build context as an archive; the same content gives the same bytes, for the cache."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path in sources:
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(ROOT)))
            entry.mtime, entry.mode, entry.uid, entry.gid = 0, 0o644, 0, 0
            entry.uname = entry.gname = ""
            with path.open("rb") as content:
                archive.addfile(entry, content)
    target.seek(0)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
