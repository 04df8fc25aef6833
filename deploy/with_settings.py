"""Runs a program with the settings of this deployment: the image's entry point.

    python -m deploy.with_settings PROGRAM [ARGUMENT...]

They are files in a folder that is mounted. Nobody sees them in a container's configuration, which
`docker inspect` shows, and a run gets the same ones as the services do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path("/run/platform")
_DEFAULTS = Path(__file__).with_name("env.example")


def read_env_file(path: Path) -> dict[str, str]:
    """A file of NAME=value lines, values as they stand."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and line[0] != "#"]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def read_settings(folder: Path) -> dict[str, str]:
    """The variables of env.example, of platform.env, and the password of Dagster's records.

    Raises:
        OSError: A file is missing, or may not be read.
    """
    # A last end of line is the editor's.
    password = (folder / "records_password").read_text().rstrip("\n")
    settings = {**read_env_file(_DEFAULTS), **read_env_file(folder / "platform.env")}
    return {**settings, "POSTGRES_PASSWORD": password}


def main(command: list[str]) -> None:
    """Become the program."""
    try:
        settings = read_settings(FOLDER)
    except OSError as error:
        sys.exit(f"Settings cannot be read: {error}. deploy/README.md says how they are made.")
    os.execvpe(command[0], command, {**os.environ, **settings})  # noqa: S606 - the image's program


if __name__ == "__main__":
    main(sys.argv[1:])
