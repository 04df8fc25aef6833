"""What keeps a server from its start is said in a sentence that names it and what to do."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sagemaker_local.config import ConfigError, from_environment
from sagemaker_local.store import Store
from tests.sagemaker_local.rig import CHECKOUT, PATIENCE_SECONDS, Server


def test_a_second_server_on_the_same_folder_leaves_the_first_one_alone(
    server: Server,
) -> None:
    """It would take the jobs that run for interrupted ones, and remove their folders."""
    with pytest.raises(ConfigError, match="is in use by another server: choose another"):
        Store(server.data_dir)


def refused(folder: Path, port: int) -> str:
    """The line that the command leaves on stderr; it ends with 2, and exports nothing on stdout."""
    env = os.environ | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    command = [sys.executable, "-m", "sagemaker_local", "--port", str(port), "--data-dir", folder]
    run = subprocess.run(
        command,
        env=env,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "")
    (line,) = run.stderr.splitlines()
    return line


def test_the_command_names_a_folder_that_is_in_use(server: Server) -> None:
    assert refused(server.data_dir, 0) == (
        f"error: {server.data_dir} is in use by another server: choose another folder with "
        "--data-dir."
    )


def test_the_command_names_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(tmp_path, port)
    assert line.startswith(f"error: port {port} cannot be used (")
    assert "Address already in use" in line
    assert line.endswith("): choose another with --port.")


def test_the_command_names_a_port_that_cannot_be(tmp_path: Path) -> None:
    line = refused(tmp_path, 99999)
    assert line.startswith("error: port 99999 cannot be used (")
    assert line.endswith("choose another with --port.")


def make_a_file(place: Path) -> None:
    place.write_text("not a folder")


def spoil_the_state(place: Path) -> None:
    place.mkdir()
    (place / "state.sqlite").write_bytes(b"no database" * 100)


@pytest.mark.parametrize("harm", [make_a_file, spoil_the_state])
def test_a_folder_that_cannot_be_used_is_named(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """A second time, too: what was opened is closed, although the first error is still held."""
    harm(tmp_path / "state")
    refusals: list[ConfigError] = []
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"/state cannot be used \(.*another folder"
        ) as caught:
            Store(tmp_path / "state")
        refusals.append(caught.value)


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "soon"])
def test_a_setting_that_is_no_proper_number_is_refused(tmp_path: Path, text: str) -> None:
    env = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(ConfigError, match=f"_WAIT_SCALE must be a .*number.*, not '{text}'"):
        from_environment(tmp_path, env | {"EMBEDDED_SAGEMAKER_WAIT_SCALE": text})
