"""The table of images that run here as processes: which command stands for which image.

A TOML file; its form is in the README. How a command is run is in containers.py; an image that is
not in the table runs as a container.
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_KNOWN = {"command", "script_mode", "python"}
# What serves where a script does not say: scikit-learn's defaults, or those of XGBoost.
_XGBOOST = "xgboost"


class ImageTableError(ValueError):
    """The table cannot be read or used; the text says which file and entry, and what to do."""


@dataclass(frozen=True)
class Image:
    """Images that one command stands for.

    Attributes:
        pattern: What their addresses look like, with `*` and `?` as the shell has them.
        train, serve: The commands that take the place of `docker run image train` and `… serve`.
        process: The same for `docker run image`, which processing jobs are; the Python of script
            mode.
        script_mode: Whether the code comes from `sagemaker_submit_directory`.
        container: Whether it is no entry of the table, but one image that runs as a container: the
            pattern is its address, and the commands are arguments for its entry point.
    """

    pattern: str
    train: tuple[str, ...]
    serve: tuple[str, ...]
    process: tuple[str, ...] = ()
    script_mode: bool = False
    container: bool = False


@dataclass(frozen=True)
class Launch:
    """What one instance of an image is started with.

    Attributes:
        image: What runs.
        command: A process's program and arguments, a container's arguments.
        base: The folder that stands for /opt/ml.
        environment: Variables besides those of the role.
        isolated: Whether it has no role, and as a container no way to other machines.
        entrypoint: A container's, in the place of the image's own; empty for that one.
        collect: Folders below the base folder that are of use after the end.
        port: Where it answers on 127.0.0.1; None if it serves nothing.
    """

    image: Image
    command: tuple[str, ...]
    base: Path
    environment: Mapping[str, str]
    isolated: bool
    entrypoint: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()
    port: int | None = None


def as_container(address: str) -> Image:
    """An image that runs as a container, by AWS's contract."""
    return Image(address, ("train",), ("serve",), container=True)


def find(images: Iterable[Image], address: str) -> Image | None:
    """The first entry whose pattern fits an image's address."""
    return next((image for image in images if fnmatchcase(address, image.pattern)), None)


def read(path: Path) -> tuple[Image, ...]:
    """Reads the table.

    Raises:
        ImageTableError: There is no such file, or it does not have the form.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ImageTableError(f"the table of images {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ImageTableError(f"the table of images {path} is not TOML: {error}.") from error
    return tuple(_image(path, pattern, entry) for pattern, entry in table.items())


def _image(path: Path, pattern: str, entry: Any) -> Image:
    problem = _problem(entry)
    if problem:
        raise ImageTableError(
            f'the table of images {path}, entry "{pattern}": {problem}. An entry has either '
            'command = ["program", "argument"] or script_mode = true ("xgboost" for XGBoost), the '
            'latter with python = "/path/of/a/python" where it is not to be the server\'s own.'
        )
    if "command" in entry:
        command = tuple(entry["command"])
        return Image(pattern, (*command, "train"), (*command, "serve"), command)
    python = entry.get("python", sys.executable)
    framework = (_XGBOOST,) if entry["script_mode"] == _XGBOOST else ()
    return Image(
        pattern,
        (python, str(_HERE / "script_training.py")),
        (python, str(_HERE / "script_serving.py"), *framework),
        (python,),
        script_mode=True,
    )


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "it is no table"
    unknown = sorted(set(entry) - _KNOWN)
    if unknown:
        return f"{unknown[0]} is not known"
    if ("command" in entry) == ("script_mode" in entry):
        return "it needs one of command and script_mode"
    if "command" in entry:
        command = entry["command"]
        if "python" in entry:
            return "python is for script_mode alone"
        if (
            not isinstance(command, list)
            or not command
            or any(type(word) is not str for word in command)
        ):
            return "command must be a list of strings that is not empty"
    elif entry["script_mode"] is not True and entry["script_mode"] != _XGBOOST:
        return 'script_mode must be true or "xgboost"'
    elif not isinstance(entry.get("python", ""), str):
        return "python must be a string"
    return ""
