"""nginx of a test's own, which runs configurations of deploy/ under other addresses."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import CHECKOUT

NGINX = shutil.which("nginx")


def adapted(name: str, replacements: Mapping[str, str]) -> str:
    """A configuration of deploy/ with other words in the place of some, which it must have."""
    text = (CHECKOUT / "deploy" / name).read_text()
    for theirs, here in replacements.items():
        assert theirs in text, theirs
        text = text.replace(theirs, here)
    return text


def login(folder: Path, port: int, *, editors: int, readers: int) -> str:
    """login.conf on a port, with the files of users in a folder and two webservers' ports."""
    return adapted(
        "login.conf",
        {
            "listen 3000": f"listen 127.0.0.1:{port}",
            " webserver:3000": f" 127.0.0.1:{editors}",
            " webserver-read-only:3000": f" 127.0.0.1:{readers}",
            "/run/secrets/": f"{folder}/",
        },
    )


def write_users(folder: Path, passwords: Mapping[str, str], editors: list[str]) -> None:
    """The two files of a login, as deploy/README.md has them made."""
    with (folder / "users").open("w") as users:
        for name, password in passwords.items():
            hashed = subprocess.check_output(["openssl", "passwd", "-6", password], text=True)
            users.write(f"{name}:{hashed}")
    (folder / "editors").write_text("".join(f"{name} editor;\n" for name in editors))


@contextmanager
def nginx(folder: Path, port: int, *configurations: str) -> Iterator[None]:
    """nginx with some configurations of its `http` block, one of which listens on the port."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        # In one process, it stays the user who has started it.
        f"daemon off; master_process off; pid {folder / 'pid'}; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}{''.join(configurations)} }}\n"
    )
    with running(port, str(NGINX), "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"):
        yield


@contextmanager
def running(port: int, *command: str, **environ: str) -> Iterator[None]:
    """A program that listens there, until the end; with its own environment, if one is given."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=CHECKOUT, env=environ or None)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, command
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(60)
