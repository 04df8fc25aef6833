"""Dagster's web server behind the guard: other pages start nothing, change nothing, read nothing.

Pages of another origin are shown by a real browser, which decides for itself what it sends.
"""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests.conftest import CHECKOUT, clean_environ
from tests.formats.test_http_limits import SLOW_HEAD, Peer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# `python -m webserver`, where a head has to arrive within five seconds, and a body.
PROGRAM = """
import runpy
from formats import http_limits

http_limits.HEAD_SECONDS = http_limits.BODY_SECONDS = 5
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
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str, **headers: str) -> httpx.Response:
        """A query by POST."""
        return httpx.post(
            f"{self.url}/graphql", json={"query": query}, headers=headers, trust_env=False
        )

    def assets(self) -> list[str]:
        """What it has records of."""
        nodes = self.ask(ASSETS).json()["data"]["assetsOrError"]["nodes"]
        return ["/".join(node["key"]["path"]) for node in nodes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_its_own_page_and_programs_are_answered(ui: Ui) -> None:
    assert "version" in ui.ask(VERSION).json()["data"]
    assert ui.ask(VERSION, origin=ui.url).status_code == 200
    proxied = {"host": "data.example", "origin": "https://data.example"}
    assert ui.ask(VERSION, **proxied).status_code == 200
    page = httpx.get(ui.url, trust_env=False)
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
def test_what_names_another_page_or_host_is_refused(ui: Ui, headers: dict[str, str]) -> None:
    assert ui.ask(VERSION, **headers).status_code == 403
    report = httpx.post(ui.url + REPORT, headers=headers, trust_env=False)
    assert report.status_code == 403
    assert ui.assets() == []


def test_reading_is_by_post(ui: Ui) -> None:
    answer = httpx.get(f"{ui.url}/graphql", params={"query": VERSION}, trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    # The page on which people type queries, which runs none by itself.
    shown = httpx.get(f"{ui.url}/graphql", headers={"accept": "text/html"}, trust_env=False)
    assert shown.status_code == 200


def test_a_socket_of_another_page_is_refused(ui: Ui) -> None:
    address = f"ws://127.0.0.1:{ui.port}/graphql"
    with (
        pytest.raises(InvalidStatus, match="403"),
        connect(
            address, subprotocols=[Subprotocol("graphql-ws")], origin=Origin("http://evil.example")
        ),
    ):
        pass


def test_slow_requests_are_ended_and_sockets_are_not(ui: Ui) -> None:
    missing = """subscription { pipelineRunLogs(runId: "none") {
      ... on PipelineRunLogsSubscriptionFailure { missingRunId } } }"""
    with connect(
        f"ws://127.0.0.1:{ui.port}/graphql", subprotocols=[Subprotocol("graphql-ws")]
    ) as opened:
        slow = [Peer(ui.port, SLOW_HEAD), Peer(ui.port, SLOW_BODY)]
        assert [peer.answer()[0] for peer in slow] == [408, 408]
        # It is older than both.
        opened.send(json.dumps({"type": "start", "id": "1", "payload": {"query": missing}}))
        told = json.loads(opened.recv())
    assert told["payload"]["data"]["pipelineRunLogs"] == {"missingRunId": "none"}


def test_heads_are_bounded_and_queries_are_not(ui: Ui) -> None:
    assert ui.ask(VERSION, padding="a" * 200_000).status_code == 431
    assert "version" in ui.ask(f"{VERSION} #{'a' * 5_000_000}").json()["data"]


ATTACK = """<!doctype html><meta charset="utf-8"><title>elsewhere</title><script>
const target = new URLSearchParams(location.search).get("target");
const query = "{ version }";
const done = promise => promise.then(value => value, error => "failed: " + error);
async function read(answer) { return (await answer).text(); }
function load(tag, url) {
  return new Promise(resolve => {
    const element = document.createElement(tag);
    element.onload = () => resolve("loaded");
    element.onerror = () => resolve("failed");
    element.src = url;
    document.documentElement.append(element);
  });
}
function socket() {
  return new Promise(resolve => {
    const opened = new WebSocket(target.replace("http", "ws") + "/graphql", "graphql-ws");
    opened.onopen = () => resolve("opened");
    opened.onerror = () => resolve("failed");
  });
}
const plain = {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}};
async function attack() {
  return {
    report: await done(fetch(target + "/report_asset_materialization/planted", plain)),
    json: await done(read(fetch(target + "/graphql", {method: "POST", body: JSON.stringify({query}),
      headers: {"content-type": "application/json"}}))),
    get: await done(read(fetch(target + "/graphql?query=" + encodeURIComponent(query)))),
    script: await load("script", target + "/graphql?query=" + encodeURIComponent(query)),
    socket: await socket(),
  };
}
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for which all names under `example` are this machine."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP *.example 127.0.0.1"],
        )
        yield running
        running.close()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[int]:
    """The port of a site of somebody else."""
    (tmp_path / "index.html").write_text(ATTACK)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1"])
@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "rebound.example"])
def test_a_page_of_another_origin_in_a_real_browser_gets_nothing_done(
    ui: Ui, browser: Browser, elsewhere: int, name: str, target: str
) -> None:
    """From another host, and from another port of this one; by a name that is bound anew, too."""
    with closing(browser.new_page()) as page:
        page.goto(f"http://{name}:{elsewhere}/?target=http://{target}:{ui.port}")
        came_of_it = page.evaluate("attack()")
    # The browser says of a request without permission to read neither that nor how it failed.
    assert set(came_of_it) == {"report", "json", "get", "script", "socket"}
    assert came_of_it["script"] == "failed"
    assert came_of_it["socket"] == "failed"
    assert came_of_it["json"].startswith("failed")
    assert came_of_it["get"].startswith("failed")
    assert ui.assets() == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_page_under_a_name_that_is_bound_to_this_machine_is_not_the_servers_own(
    ui: Ui, browser: Browser
) -> None:
    """Same origin for the browser, which sends neither Origin nor a foreign site with a GET."""
    with closing(browser.new_page()) as page:
        shown = page.goto(f"http://rebound.example:{ui.port}/")
        assert shown is not None
        assert shown.status == 403
        own = page.goto(f"http://localhost:{ui.port}/")
        assert own is not None
        assert own.status == 200
