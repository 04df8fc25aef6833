"""Files of settings, such as platform.env."""

from __future__ import annotations

from pathlib import Path


def read_env_file(path: Path) -> dict[str, str]:
    """A file of NAME=value lines, values as they stand."""
    lines = [line for line in path.read_text().splitlines() if "=" in line and line[0] != "#"]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
