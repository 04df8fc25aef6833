"""Dagster's web server behind the guard: pages of other origins read and change nothing.

Such pages are shown by a real browser, since it decides what a page may send.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.browser import CHROMIUM, chromium
from tests.conftest import CHECKOUT, clean_environ
from tests.foreign_page import assert_nothing_comes_of_it, elsewhere
from tests.formats.test_http_limits import SLOW_HEAD, Peer
from tests.local_servers import free_port

# `python -m webserver`, with ten seconds for a request's body, as for its head.
PROGRAM = """
import runpy
from formats import http_limits

http_limits.BODY_SECONDS = 10
runpy.run_module("webserver", run_name="__main__")
"""
SLOW_BODY = b"""POST /graphql HTTP/1.1\r
Host: localhost\r
Content-Type: application/json\r
Content-Length: 100\r
\r
{"query": """
VERSION = "{ version }"
REPORT = "/report_asset_materialization/planted"
ASSETS = "{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }"


@dataclass(frozen=True)
class Ui:
    """A web server of Dagster, without definitions and with records of its own."""

    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **headers: str) -> httpx.Response:
        """A query by POST."""
        return httpx.post(
            f"{self.url}/graphql",
            json={"query": query},
            headers=headers,
            trust_env=False,
            timeout=120,
        )

    def assets(self) -> list[str]:
        """The assets that it has records of."""
        nodes = self.ask(ASSETS).json()["data"]["assetsOrError"]["nodes"]
        return ["/".join(node["key"]["path"]) for node in nodes]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    served = Ui(free_port())
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PROGRAM, "--empty-workspace"),
            *("--host", "127.0.0.1", "--port", str(served.port)),
        ],
        cwd=CHECKOUT,
        env=clean_environ(DAGSTER_HOME=str(home), PLATFORM_ALLOWED_HOSTS="data.example, other"),
    )
    try:
        while True:
            try:
                served.ask(VERSION).raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.1)
        yield served
    finally:
        process.terminate()
        process.wait(60)


def test_dagsters_own_page_and_programs_are_answered(ui: Ui) -> None:
    assert "version" in ui.ask(VERSION).json()["data"]
    assert ui.ask(VERSION, origin=ui.url).status_code == 200
    proxied = {"host": "data.example", "origin": "https://data.example"}
    assert ui.ask(VERSION, **proxied).status_code == 200
    page = httpx.get(ui.url, trust_env=False, timeout=120)
    assert page.status_code == 200
    assert "<html" in page.text
    with connect(
        f"ws://127.0.0.1:{ui.port}/graphql",
        subprotocols=[Subprotocol("graphql-ws")],
        origin=Origin(ui.url),
    ):
        pass


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_requests_with_another_host_or_origin_are_refused(ui: Ui, headers: dict[str, str]) -> None:
    assert ui.ask(VERSION, **headers).status_code == 403
    report = httpx.post(ui.url + REPORT, headers=headers, trust_env=False, timeout=120)
    assert report.status_code == 403
    assert ui.assets() == []


def test_queries_are_taken_by_post_alone(ui: Ui) -> None:
    answer = httpx.get(f"{ui.url}/graphql", params={"query": VERSION}, trust_env=False, timeout=120)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    # This page lets people type queries; a GET of it runs none.
    shown = httpx.get(
        f"{ui.url}/graphql", headers={"accept": "text/html"}, trust_env=False, timeout=120
    )
    assert shown.status_code == 200


def test_a_websocket_of_another_page_is_refused(ui: Ui) -> None:
    address = f"ws://127.0.0.1:{ui.port}/graphql"
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(
            address, subprotocols=[Subprotocol("graphql-ws")], origin=Origin("http://evil.example")
        ),
    ):
        pass


def test_slow_requests_are_ended_and_websockets_are_not(ui: Ui) -> None:
    missing = """subscription { pipelineRunLogs(runId: "none") {
      ... on PipelineRunLogsSubscriptionFailure { missingRunId } } }"""
    with connect(
        f"ws://127.0.0.1:{ui.port}/graphql", subprotocols=[Subprotocol("graphql-ws")]
    ) as opened:
        slow = [Peer(ui.port, SLOW_HEAD), Peer(ui.port, SLOW_BODY)]
        assert [peer.answer()[0] for peer in slow] == [408, 408]
        # The WebSocket was opened before both and is still open.
        opened.send(json.dumps({"type": "start", "id": "1", "payload": {"query": missing}}))
        message = json.loads(opened.recv())
    assert message["payload"]["data"]["pipelineRunLogs"] == {"missingRunId": "none"}


def test_the_size_of_heads_is_limited_and_that_of_queries_is_not(ui: Ui) -> None:
    assert ui.ask(VERSION, padding="a" * 200_000).status_code == 431
    assert "version" in ui.ask(f"{VERSION} #{'a' * 5_000_000}").json()["data"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that resolves all names under `example` to this machine."""
    with chromium("--host-resolver-rules=MAP *.example 127.0.0.1") as running:
        yield running


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1"])
@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "rebound.example"])
def test_a_page_of_another_origin_changes_nothing_from_a_real_browser(
    ui: Ui, browser: Browser, name: str, target: str
) -> None:
    """From another host, from another port of this host, and after DNS rebinding."""
    with elsewhere() as port, closing(browser.new_context()) as context:
        assert_nothing_comes_of_it(context, f"http://{name}:{port}", f"http://{target}:{ui.port}")
    assert ui.assets() == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_page_under_a_foreign_name_of_this_machine_is_refused(ui: Ui, browser: Browser) -> None:
    """It has the server's origin for the browser, which sends a GET without Origin then."""
    with closing(browser.new_page()) as page:
        shown = page.goto(f"http://rebound.example:{ui.port}/")
        assert shown is not None
        assert shown.status == 403
        own = page.goto(f"http://localhost:{ui.port}/")
        assert own is not None
        assert own.status == 200
