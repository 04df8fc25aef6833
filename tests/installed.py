"""Distributions of this repository, installed alone in an environment."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement


def build_wheel(folder: Path, root: Path) -> Path:
    """The wheel of a folder, built from a copy of the folder alone."""
    # Building leaves files in the folder; a copy follows its links as a source archive does.
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(folder, root / "source", ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(root)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(root / "source")]
    subprocess.run(command, check=True)
    (built,) = root.glob("*.whl")
    return built


def install_alone(wheel: Path, root: Path, beside: Sequence[str]) -> Path:
    """A new environment that has the wheel and what it asks for; its folder of programs.

    Dependencies are linked from this environment rather than downloaded. One that the wheel does
    not ask for is not there.

    Args:
        wheel: To install.
        root: Where the environment is made.
        beside: What its users have besides.
    """
    venv.create(root, symlinks=True)
    python = root / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options]
    subprocess.run([*command, str(wheel)], check=True)
    (site,) = root.glob("lib/python*/site-packages")
    (info,) = site.glob(f"{wheel.name.split('-')[0]}-*.dist-info")
    own = metadata.PathDistribution(info)
    for name in _closure([*(own.requires or []), *beside]):
        _link(name, site)
    return python.parent


def _closure(requirements: list[str]) -> set[str]:
    """The names of all distributions that these requirements need, directly or not."""
    names: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or requirement.name in names:
            continue
        have = metadata.version(requirement.name)
        assert requirement.specifier.contains(have, prereleases=True), f"{requirement}: {have}"
        names.add(requirement.name)
        waiting += map(Requirement, metadata.requires(requirement.name) or [])
    return names


def _link(name: str, site: Path) -> None:
    """Links the files of an installed distribution into another environment's site-packages."""
    distribution = metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
    for top in tops:
        place = site / top
        if not place.exists():
            place.symlink_to(str(distribution.locate_file(top)))
