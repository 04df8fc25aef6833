"""Builds the number cruncher's image (`make image`); runs on the host and is not in the image.

Where no registry can be reached, the base is made by debootstrap and the wheels are fetched by the
host's pip, both kept for the next build. An image of the same content isn't built again.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import docker
import docker.errors
import requests

FOLDER = Path(__file__).parent
LOCK = FOLDER.parent / "requirements.lock"
REQUIREMENTS = FOLDER / "requirements.txt"
CACHE = Path.home() / ".cache" / "dagster-data-platform"

IMAGE = "numbercruncher"
BASE_IMAGE = "python:3.11-slim"
PYTHON_VERSION = "3.11"
LOCAL_BASE = "numbercruncher-base:bookworm"
CONTENT_LABEL = "data-platform.content"

# What runs in the image, with all that it needs in turn.
PACKAGES = (
    "boto3",
    "botocore",
    "dagster-pipes",
    "jmespath",
    "numpy",
    "obstore",
    "pandas",
    "pyarrow",
    "python-dateutil",
    "s3transfer",
    "six",
    "typing-extensions",
    "tzdata",
    "urllib3",
)


class ImageError(Exception):
    """The image could not be built; the message says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Builds the image, or writes its requirements from the lock file.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m numbercruncher.image", description=__doc__)
    parser.add_argument("--image", default=IMAGE, help="name of the image")
    parser.add_argument("--base-image", default=BASE_IMAGE, help="image it is built on")
    parser.add_argument(
        "--requirements", action="store_true", help="only write requirements.txt from the lock"
    )
    options = parser.parse_args(arguments)
    try:
        if options.requirements:
            REQUIREMENTS.write_text(locked_requirements(LOCK.read_text()))
        else:
            build(options.image, options.base_image)
    except ImageError as error:
        _say(str(error))
        return 1
    return 0


def build(image: str, base_image: str) -> str:
    """Makes sure that the engine has the image.

    Returns:
        The image's id.

    Raises:
        ImageError: it could not be built.
    """
    client = _connect()
    content = content_digest(base_image)
    try:
        present = client.images.get(image)
        if present.labels.get(CONTENT_LABEL) == content:
            _say(f"The image {image} is up to date.")
            return str(present.id)
    except docker.errors.ImageNotFound:
        present = None
    base, wheels = _base(client, base_image)
    _say(f"Building the image {image} on {base} …")
    try:
        with tempfile.TemporaryFile() as context:
            _write_context(context, wheels)
            built, _ = client.images.build(
                fileobj=context,
                custom_context=True,
                buildargs={"BASE_IMAGE": base},
                labels={CONTENT_LABEL: content},
                tag=image,
                rm=True,
                forcerm=True,
            )
    except docker.errors.BuildError as error:
        lines = "".join(str(entry.get("stream", "")) for entry in error.build_log)  # pyright: ignore[reportAttributeAccessIssue]
        tail = "\n".join(lines.splitlines()[-20:])
        raise ImageError(f"The image {image} could not be built: {error}\n{tail}") from error
    except docker.errors.APIError as error:
        raise ImageError(f"The image {image} could not be built: {error.explanation}") from error
    if present is not None and present.id != built.id:
        _remove_unused(client, str(present.id))
    _say(f"The image {image} is built ({built.attrs['Size'] / 1e6:.0f} MB).")
    return str(built.id)


def content_digest(base_image: str) -> str:
    """A digest of all that the image is made of, the content of the base excepted."""
    digest = hashlib.sha256(f"{base_image}\n".encode())
    for name, path in _sources():
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def locked_requirements(lock: str) -> str:
    """The lock file's entries of the image's packages, for the image's Python.

    Args:
        lock: requirements with hashes, an entry's later lines indented; entries that hold for some
            versions of Python only have a marker.

    Raises:
        ImageError: a package is not in the lock file.
    """
    entries = re.split(r"\n(?=\S)", lock.strip())
    chosen: list[str] = []
    for package in PACKAGES:
        pattern = re.compile(rf"{re.escape(package)}==\S+(?P<marker> ; [^\\\n]*)?")
        found = [(m, entry) for entry in entries if (m := pattern.match(entry))]
        fitting = [(m, entry) for m, entry in found if _fits(m["marker"])]
        if len(fitting) != 1:
            raise ImageError(f"The lock file has {len(fitting)} fitting entries for {package}.")
        match, entry = fitting[0]
        chosen.append(entry.replace(match["marker"] or "", " ") if match["marker"] else entry)
    return "\n".join(["# Written by 'python -m numbercruncher.image --requirements'.", *chosen, ""])


def _fits(marker: str | None) -> bool:
    """True if an entry holds for the image's Python; a marker of a version is all there may be."""
    if not marker:
        return True
    match = re.search(r"python_(?:full_)?version (<|>=) '([\d.]+)'", marker)
    if match is None:
        raise ImageError(f"The marker {marker.strip()!r} of the lock file is not understood.")
    image, bound = (tuple(map(int, text.split("."))) for text in (PYTHON_VERSION, match[2]))
    return image < bound if match[1] == "<" else image >= bound


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


def _base(client: docker.DockerClient, base_image: str) -> tuple[str, Path | None]:
    """The base to build on and, where its engine has no network, the folder of wheels."""
    try:
        client.images.get(base_image)
    except docker.errors.ImageNotFound:
        repository, _, tag = base_image.partition(":")
        _say(f"Fetching the base image {base_image} …")
        try:
            client.images.pull(repository, tag=tag or "latest")
        except docker.errors.APIError as error:
            _say(f"That registry cannot be reached ({error.explanation}).")
            _local_base(client)
            return LOCAL_BASE, _wheels(client)
    return base_image, None


def _local_base(client: docker.DockerClient) -> None:
    """Makes sure that the engine has a base made on this machine."""
    try:
        client.images.get(LOCAL_BASE)
    except docker.errors.ImageNotFound:
        archive = CACHE / f"{LOCAL_BASE.replace(':', '-')}-{_architecture(client)}.tar"
        if not archive.exists():
            _debootstrap(archive)
        repository, _, tag = LOCAL_BASE.partition(":")
        _say(f"Importing {archive.name} …")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)


def _debootstrap(archive: Path) -> None:
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise ImageError(
            f"The base image {BASE_IMAGE} cannot be fetched, and making one takes debootstrap and"
            " root. Reach a registry, or name a Debian base that the engine has:"
            " python -m numbercruncher.image --base-image NAME"
        )
    _say("Making a Debian base by debootstrap, once; this takes a minute …")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="numbercruncher-base-") as folder:
        root = Path(folder) / "root"
        packages = "python3,python3-pip,python3-venv,ca-certificates"
        _run(
            ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root)],
            "debootstrap could not make a Debian base",
        )
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "dev"):
            shutil.rmtree(root / leftover)
            (root / leftover).mkdir()
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            tar.add(root, arcname=".")
        partial.replace(archive)


def _wheels(client: docker.DockerClient) -> Path:
    """A folder with the wheels of the requirements, fetched on the host."""
    architecture = _architecture(client)
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + architecture.encode()).hexdigest()[:16]
    folder = CACHE / f"wheels-{digest}"
    if folder.is_dir():
        return folder
    _say("Fetching the wheels …")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    platforms = (f"manylinux{tag}_{architecture}" for tag in ("_2_28", "_2_17", "2014"))
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        + ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(partial)]
        + ["--implementation=cp", f"--python-version={PYTHON_VERSION}"]
        + [f"--platform={platform}" for platform in platforms]
        + ["--requirement", str(REQUIREMENTS)],
        "pip could not fetch the wheels",
    )
    partial.replace(folder)
    return folder


def _architecture(client: docker.DockerClient) -> str:
    return str(client.info()["Architecture"])


def _write_context(target: IO[bytes], wheels: Path | None) -> None:
    """The build's context as an archive; the same content gives the same bytes and is cached."""
    files = _sources()
    if wheels is not None:
        files += [(f"wheels/{path.name}", path) for path in sorted(wheels.iterdir())]
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, path in files:
            entry = archive.gettarinfo(path, arcname=name)
            entry.mtime, entry.mode, entry.uid, entry.gid = 0, 0o644, 0, 0
            entry.uname = entry.gname = ""
            with path.open("rb") as content:
                archive.addfile(entry, content)
    target.seek(0)


def _sources() -> list[tuple[str, Path]]:
    modules = [path for path in sorted(FOLDER.glob("*.py")) if path != Path(__file__)]
    return [(path.name, path) for path in (FOLDER / "Dockerfile", REQUIREMENTS, *modules)]


def _remove_unused(client: docker.DockerClient, image_id: str) -> None:
    """Removes the image that the new one replaces, unless somebody still uses it."""
    try:
        client.images.remove(image_id)
    except docker.errors.APIError:
        return


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise ImageError(f"{failure}:\n{tail}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
