"""A web page of another origin, for real browsers: it sends Dagster all that a page can send."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import BrowserContext

from tests.local_servers import serving

PAGE = """<!doctype html><meta charset="utf-8"><title>elsewhere</title><script>
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
const plain = {method: "POST", mode: "no-cors", credentials: "include",
  headers: {"content-type": "text/plain"}};
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


@contextmanager
def elsewhere() -> Iterator[int]:
    """The port of a server on this machine that shows the page under any host name."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "index.html").write_text(PAGE)
        handler = partial(SimpleHTTPRequestHandler, directory=folder)
        with serving(handler) as port:
            yield port


def assert_nothing_comes_of_it(context: BrowserContext, page: str, target: str) -> None:
    """Opens the page, which sends all it can. Callers check that no asset was recorded."""
    with closing(context.new_page()) as opened:
        opened.goto(f"{page}/?target={target}")
        came_of_it = opened.evaluate("attack()")
    # The browser does not tell the page whether a request failed that it may not read.
    assert set(came_of_it) == {"report", "json", "get", "script", "socket"}
    assert came_of_it["script"] == "failed"
    assert came_of_it["socket"] == "failed"
    assert came_of_it["json"].startswith("failed")
    assert came_of_it["get"].startswith("failed")
