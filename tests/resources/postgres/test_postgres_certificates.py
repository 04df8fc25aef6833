"""A Postgres with a certificate of an authority of its own, as RDS has one: who takes it for it."""

import select
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from resources.postgres import DatabaseError, Extract, PostgresResource
from tests.certificates import make_authority, write_server_files
from tests.conftest import CHECKOUT, clean_environ
from tests.resources.postgres.postgres_rig import Memory, readable_columns, run

SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
RECORDS = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    print(instance.get_runs_count())
"""


@dataclass(frozen=True)
class Front:
    """Speaks TLS in front of a Postgres: the embedded one is built without.

    Attributes:
        port: Where it listens.
        folder: Has `right.pem`, its authority's certificate, and `wrong.pem` and
            `namesake.pem`, others'.
    """

    port: int
    folder: Path


def pass_on(client: socket.socket, upstream: socket.socket) -> None:
    """Until either ends. A read takes a whole TLS record: none is left for `select` to miss."""
    while True:
        for source in select.select([client, upstream], [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            (upstream if source is client else client).sendall(data)


@pytest.fixture
def front(database: str, tmp_path: Path) -> Iterator[Front]:
    """TLS in front of the server of `database`, by the certificate of `localhost`."""
    for name, called in (("right", "Right"), ("wrong", "Wrong"), ("namesake", "Right")):
        authority = make_authority(called)
        (tmp_path / f"{name}.pem").write_bytes(authority.pem)
        if name == "right":
            write_server_files(tmp_path, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    server_port = urlsplit(database).port

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # A client that would like to encrypt sends eight bytes, and begins at the answer S.
            while self.request.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                self.request.sendall(b"N")
            self.request.sendall(b"S")
            with (
                # A client that does not like the certificate goes away.
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection(("127.0.0.1", server_port)) as upstream,
            ):
                pass_on(client, upstream)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield Front(server.server_address[1], tmp_path)
        server.shutdown()
        thread.join()


def through(front: Front, database: str, host: str, certificates: str) -> str:
    """A DSN of the database by way of the front."""
    dsn = urlsplit(database)
    query = f"sslmode=verify-full&sslrootcert={front.folder / certificates}"
    netloc = f"{dsn.username}:{dsn.password}@{host}:{front.port}"
    return dsn._replace(netloc=netloc, query=query).geturl()


def export(dsn: str) -> bytes:
    sink = Memory()
    with PostgresResource(dsn=dsn).connect() as session:
        columns = readable_columns(session, "listings")
        session.export(
            Extract(table="listings", columns=columns, order_by=("id",)), sink, format="csv"
        )
    return bytes(sink.data)


def test_a_server_that_is_the_named_one_is_read(
    front: Front, database: str, writer: Connection
) -> None:
    run(writer, "create table listings (id bigint); insert into listings values (7)")
    assert export(through(front, database, "localhost", "right.pem")).split() == [b"id", b"7"]


@pytest.mark.parametrize(
    ("host", "certificates", "sentence"),
    [
        ("127.0.0.1", "right.pem", "Write the DSN with a host name that the certificate has"),
        ("localhost", "wrong.pem", "Set PGSSLROOTCERT, or sslrootcert in the DSN"),
        ("localhost", "namesake.pem", "Set PGSSLROOTCERT, or sslrootcert in the DSN"),
        ("localhost", "none.pem", "Set PGSSLROOTCERT, or sslrootcert in the DSN"),
    ],
)
def test_any_other_is_refused_and_the_sentence_says_what_to_do(
    front: Front, database: str, host: str, certificates: str, sentence: str
) -> None:
    with pytest.raises(DatabaseError, match=sentence) as caught:
        export(through(front, database, host, certificates))
    assert not caught.value.transient
    assert str(urlsplit(database).password) not in str(caught.value)


def test_a_server_without_certificates_is_refused_where_one_is_asked_for(database: str) -> None:
    with pytest.raises(DatabaseError, match="Turn SSL on in the server"):
        export(f"{database}?sslmode=verify-full")


@pytest.mark.parametrize(
    ("host", "certificates", "refusal"),
    [
        ("localhost", "right.pem", None),
        ("localhost", "wrong.pem", "certificate verify failed"),
        ("127.0.0.1", "right.pem", "does not match host name"),
    ],
)
def test_dagsters_records_are_kept_by_variables(
    front: Front, database: str, tmp_path: Path, host: str, certificates: str, refusal: str | None
) -> None:
    shutil.copy(CHECKOUT / "deploy" / "dagster.yaml", tmp_path)
    dsn = urlsplit(database)
    environ = clean_environ(
        DAGSTER_HOME=str(tmp_path),
        DAGSTER_POSTGRES_HOST=host,
        DAGSTER_POSTGRES_PORT=str(front.port),
        POSTGRES_USER=str(dsn.username),
        POSTGRES_PASSWORD=str(dsn.password),
        POSTGRES_DB=dsn.path.strip("/"),
        PLATFORM_BUCKET="digits",
        PLATFORM_KMS_KEY_ID="",
        AWS_DEFAULT_REGION="eu-west-1",
        PGSSLMODE="verify-full",
        PGSSLROOTCERT=str(front.folder / certificates),
    )
    done = subprocess.run(
        [sys.executable, "-c", RECORDS],
        cwd=CHECKOUT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if refusal is None:
        assert done.stdout.strip() == "0", done.stderr
    else:
        assert done.returncode
        assert refusal in done.stderr
