"""A bug of the server, and a client that hangs up: what is answered, and what the log has of it."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from sagemaker_local import app, identity, operations, service_model
from sagemaker_local.config import from_environment
from sagemaker_local.endpoints import Endpoints
from sagemaker_local.formats.http_limits import LimitedHttp
from tests.sagemaker_local.rig import PATIENCE_SECONDS, Server, refusal

ENV = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "EMBEDDED_SAGEMAKER_CONTAINERS": "off",
}


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server in this process, whose parts a test may break; all is logged by its end."""
    built = app.build(from_environment(folder, ENV))
    settings = uvicorn.Config(built, http=LimitedHttp, log_config=None, access_log=False)
    server = uvicorn.Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Server(folder, ENV, port=listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)


def fail(*_: object) -> Any:
    raise RuntimeError("a bug")


async def fail_later(*_: object) -> Any:
    raise RuntimeError("a bug")


CALLS: dict[str, Callable[[Server], object]] = {
    "JSON": lambda server: server.sagemaker.list_models(),
    "CBOR": lambda server: server.cloudwatch.describe_alarms(),
    "query": lambda server: server.client("sts").get_caller_identity(),
    "invoke": lambda server: server.runtime.invoke_endpoint(EndpointName="e", Body=b""),
}


@pytest.mark.parametrize("protocol", CALLS)
def test_a_bug_is_an_internal_failure_in_each_protocol_and_in_the_log_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    monkeypatch.setitem(operations.TARGETS[service_model.CONTROL_PREFIX], "ListModels", fail)
    monkeypatch.setitem(operations.TARGETS[service_model.CLOUDWATCH_PREFIX], "DescribeAlarms", fail)
    monkeypatch.setattr(identity, "answer", fail)
    monkeypatch.setattr(Endpoints, "invoke", fail_later)
    with served(tmp_path) as server:
        for _ in range(2):
            answer = refusal(lambda: CALLS[protocol](server))
            assert answer["Error"]["Code"] == "InternalFailure"
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 500
            # The server ends it, and a client that did not know might send the next request there.
            assert answer["ResponseMetadata"]["HTTPHeaders"]["connection"] == "close"
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 2


def test_a_client_that_hangs_up_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path) as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf"
            )
        # The server has come to the hanging up by then.
        server.client("sts").get_caller_identity()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
