"""What another user of the machine can reach of a running stack, and which secrets programs have.

All answers are written to `test-output/ports.txt`.
"""

import os
import pwd
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import psutil
import psycopg2
import pytest

from api.settings import ApiSettings
from embedded import s3, stack
from embedded.aws import aws_client
from embedded.environments import not_for
from embedded.plan import make_plan
from embedded.ports import Ports
from tests.conftest import CHECKOUT, clean_environ, free_port_base, temporary_home
from tests.embedded.test_stack import Stack

T = TypeVar("T")

ALERTS, PAGE_KEY, TOKEN = "http://127.0.0.1:9/al3rts", "p4gekey", "t0ken"
PROGRAMS = {"s3", "postgres", "sagemaker", "code-server", "webserver", "daemon", "api", "metrics"}


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    """The whole stack, with an object in its S3."""
    with temporary_home() as root:
        environ = clean_environ(
            PLATFORM_HOME=str(root),
            PLATFORM_PORT_BASE=free_port_base(),
            PLATFORM_ALERTS=ALERTS,
            PLATFORM_API_KEY=PAGE_KEY,
            SOMEBODYS_TOKEN=TOKEN,
        )
        started = Stack(make_plan(environ), environ)
        done = started.run("up")
        assert done.returncode == 0, done.stderr
        client = aws_client(started.plan.environment, "s3")
        bucket = started.plan.environment["PLATFORM_BUCKET"]
        client.put_object(Bucket=bucket, Key="kept", Body=b"kept" * 1000)
        yield started
        body = client.get_object(Bucket=bucket, Key="kept")["Body"].read()
        assert body == b"kept" * 1000


def test_each_program_has_the_secrets_that_it_needs_and_no_others(running: Stack) -> None:
    credentials = running.plan.credentials
    holders = {
        credentials.secret_access_key: {"s3", "sagemaker", "code-server", "api", "metrics"},
        credentials.postgres_password: {"code-server"},
        ALERTS: {"code-server"},
        PAGE_KEY: {"code-server", "api"},
        credentials.postgres_admin_password: set(),
        credentials.control_password: set(),
        TOKEN: set(),
    }

    states = stack.status(running.plan.home)
    assert states.keys() == PROGRAMS
    for name, (state, _) in states.items():
        for process in family(state.pid):
            try:
                environ = process.environ().values()
            except psutil.NoSuchProcess:  # a child that has ended meanwhile
                assert process.pid != state.pid
                continue
            for secret, entitled in holders.items():
                held = any(secret in value for value in environ)
                if process.pid == state.pid:
                    assert held == (name in entitled), (name, secret)
                assert not held or name in entitled, (process, secret)


def test_the_page_gets_every_setting_of_its_own() -> None:
    names = {
        str(field.validation_alias or f"PLATFORM_{name.upper()}")
        for name, field in ApiSettings.model_fields.items()
    }

    # Lambda sets this one.
    assert set(not_for("api", names)) == {"AWS_LAMBDA_FUNCTION_NAME"}


def test_other_users_cannot_read_files_of_the_home(running: Stack) -> None:
    open_to_others = [
        f"{stat.filemode(path.lstat().st_mode)} {path}"
        for path in running.plan.home.root.rglob("*")
        # Version and size of a volume: SeaweedFS sets their mode itself.
        if path.suffix != ".vif"
        and path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        and not path.is_symlink()
    ]

    assert open_to_others == []
    with pytest.raises(PermissionError):
        as_other_user(partial(os.listdir, running.plan.home.root))


def test_another_user_gets_the_two_pages_and_nothing_from_other_ports(running: Stack) -> None:
    at = running.plan.ports
    answers = {
        (port, name): [as_other_user(partial(ask, f"{way}://127.0.0.1:{port}/")) for way in WAYS]
        for port, name in sorted(listening(running).items())
    }
    sockets = {path: as_other_user(partial(connect, path)) for path in unix_sockets(running)}
    output = CHECKOUT / "test-output"
    output.mkdir(exist_ok=True)
    (output / "ports.txt").write_text(
        "What another user of the machine gets of a stack's ports, by HTTP and by HTTPS, unsigned, "
        "and of its sockets.\n\n"
        + "".join(
            f"{at[0]:5}  {at[1]:10} {' / '.join(of_port)}\n" for at, of_port in answers.items()
        )
        + "".join(f"{path}  {answer}\n" for path, answer in sorted(sockets.items()))
    )

    pages = {at.ui, at.api}
    assert {port for port, _ in answers} >= {*pages, at.metrics, at.s3, at.sagemaker, at.postgres}
    for (port, _), of_port in answers.items():
        if port in pages:
            assert of_port[0] == "200"
        else:
            assert not {answer for answer in of_port if answer.startswith(("2", "3", "5"))}, port
    assert sockets
    assert set(sockets.values()) == {"PermissionError"}


WAYS = ("http", "https")


@pytest.mark.parametrize(
    "target",
    ["SageMaker.ListTrainingJobs", "SageMaker.ListModels", "Logs_20140328.DescribeLogGroups"],
)
def test_another_user_gets_nothing_from_sagemaker_unsigned(running: Stack, target: str) -> None:
    url = running.plan.environment["AWS_ENDPOINT_URL_SAGEMAKER"]
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}

    assert as_other_user(partial(ask, url, "POST", headers)) in ("400", "403")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_user_gets_nothing_from_s3_unsigned(running: Stack, method: str) -> None:
    env = running.plan.environment
    url = f"{env['AWS_ENDPOINT_URL_S3']}/{env['PLATFORM_BUCKET']}/kept"

    assert as_other_user(partial(ask, url, method)) == "403"


def test_another_user_gets_nothing_from_postgres_without_its_password(running: Stack) -> None:
    dsn = running.plan.environment["PLATFORM_POSTGRES_DSN"]
    password = running.plan.credentials.postgres_password

    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        as_other_user(partial(log_in, dsn.replace(f":{password}", "")))
    log_in(dsn)


def test_another_user_gets_nothing_from_the_insides_of_s3(running: Stack) -> None:
    at = running.plan.ports
    for port, paths in {
        at.s3_master: ("/dir/assign", "/vol/grow?count=1", "/cluster/status", "/metrics"),
        at.s3_volume: (FILE, "/metrics", "/ui/index.html", "/stats/disk"),
        at.s3_filer: ("/buckets/?pretty=y", "/metrics"),
        at.s3_admin: ("/metrics", "/api/config"),
    }.items():
        for path in paths:
            for way in WAYS:
                answer = as_other_user(partial(ask, f"{way}://127.0.0.1:{port}{path}"))
                assert not answer.startswith("2"), (port, path)
    for method in ("POST", "PUT", "DELETE"):
        url = f"http://127.0.0.1:{at.s3_volume}{FILE}"
        assert as_other_user(partial(ask, url, method)) == "401"
    # It shows bytes on the disk and names of buckets, as the README says.
    assert as_other_user(partial(ask, f"http://127.0.0.1:{at.s3_volume}/status")) == "200"


FILE = "/1,01637037d6"


def test_only_the_owner_can_use_the_shell_of_s3(running: Stack) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Another user cannot read the folder of the packages.
        weed = Path(shutil.copy(s3.program(), folder))
        Path(folder).chmod(0o755)
        at = running.plan.ports
        owners = shell(at, weed, running.plan.home.run, seconds=600)
        others = as_other_user(partial(shell, at, weed, Path(folder), seconds=20))

    assert running.plan.environment["PLATFORM_BUCKET"] in owners
    assert running.plan.environment["PLATFORM_BUCKET"] not in others


def as_other_user(ask: Callable[[], T]) -> T:
    """What a function returns, or raises, when the user `nobody` runs it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with ProcessPoolExecutor(1, get_context("fork"), become_nobody) as pool:
        return pool.submit(ask).result()


def become_nobody() -> None:
    user = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def listening(running: Stack) -> dict[int, str]:
    """Port → the name of the program that listens on it."""
    return {
        connection.laddr.port: name
        for name, (state, _) in stack.status(running.plan.home).items()
        for process in family(state.pid)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def family(pid: int) -> list[psutil.Process]:
    """A program's process and all its descendants."""
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]


def unix_sockets(running: Stack) -> set[str]:
    """The paths of the sockets that processes of the stack have."""
    return {
        str(Path(process.cwd(), path))
        for process in running.alive()
        for connection in process.net_connections("unix")
        # Those without a path belong to processes that inherited them.
        if (path := str(connection.laddr)).strip("\0@")
    }


def ask(url: str, method: str = "GET", headers: Mapping[str, str] = MappingProxyType({})) -> str:
    """The status of an answer, or the name of the error without one."""
    data = b"{}" if method in ("POST", "PUT") else None
    # The server's certificate is not checked, and the client has none.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        request = urllib.request.Request(url, data, dict(headers), method=method)
        with opener.open(request, timeout=60) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except urllib.error.URLError as error:
        return type(error.reason).__name__
    except OSError as error:
        return type(error).__name__


def connect(path: str) -> str:
    """Connects to a Unix socket: says that it takes connections, or the name of the error."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return type(error).__name__
    return "it takes connections"


def log_in(dsn: str) -> None:
    psycopg2.connect(dsn).close()


def shell(at: Ports, weed: Path, folder: Path, *, seconds: float) -> str:
    """What SeaweedFS's shell shows of the buckets, with the configuration of a folder."""
    address = f"-master=127.0.0.1:{at.s3_master}.{at.s3_master_grpc}"
    command = [weed, "shell", address, f"-filer=127.0.0.1:{at.s3_filer}.{at.s3_filer_grpc}"]
    try:
        return subprocess.run(
            command,
            input="fs.ls /buckets\n",
            cwd=folder,
            env={},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as tired:
        # When it is refused, it goes on trying.
        return str(tired.stdout)
