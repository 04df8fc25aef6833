"""Dagster's UI in a real browser through an SSH tunnel, and through nginx with TLS and a login.

Both are what README.md and deploy/README.md say; nginx gets deploy/nginx.conf for TLS and behind it
deploy/login.conf. One stack for all.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, HttpCredentials, expect

from embedded import seed_listings
from embedded.dagster_parts import ui_url
from embedded.graphql import days
from embedded.plan import make_plan
from tests.browser import CHROMIUM, chromium, screenshots_folder
from tests.conftest import clean_environ, free_port_base, temporary_home
from tests.embedded.dagster_rig import Ui, launch_backfill
from tests.embedded.test_stack import Stack
from tests.foreign_page import assert_nothing_comes_of_it, elsewhere
from tests.local_servers import free_port
from tests.nginx import NGINX, adapted, login, nginx, running, write_users

SSHD = shutil.which("sshd")
NAME = "dagster.example.com"
# Yesterday is left out: midnight may come.
TODAY = datetime.now(UTC).date()
DATES = days(str(TODAY - timedelta(4)), str(TODAY - timedelta(3)))
USER, PASSWORD = "somebody", "a throw-away password"
STRANGERS = ("localhost", NAME, "evil.example.com")
RECORDS = """{ assetsOrError { ... on AssetConnection { nodes { key { path } } } }
  runsOrError { ... on Runs { results { runId } } } }"""
pytestmark = [
    pytest.mark.minutes,
    pytest.mark.skipif(
        None in (SSHD, NGINX, CHROMIUM), reason="sshd, nginx or Chromium is not installed"
    ),
]


@dataclass(frozen=True)
class Visitor:
    """A browser that opens the UI in one of the ways.

    Attributes:
        url: What it opens.
        context: Logs in where it is asked to.
    """

    url: str
    context: BrowserContext


@pytest.fixture(scope="module")
def ui() -> Iterator[Ui]:
    """A stack with the proxy's name allowed."""
    with temporary_home() as root:
        environ = clean_environ(
            PLATFORM_HOME=str(root),
            PLATFORM_PORT_BASE=free_port_base(),
            PLATFORM_ALLOWED_HOSTS=NAME,
        )
        plan = make_plan(environ)
        done = Stack(plan, environ).run("up")
        assert done.returncode == 0, done.stderr
        dsn = plan.environment["PLATFORM_POSTGRES_DSN"]
        seed_listings.seed(dsn, DATES, places=60)
        yield Ui(ui_url(plan), dsn)


@pytest.fixture(scope="module", params=["tunnel", "proxy"])
def visitor(
    request: pytest.FixtureRequest, ui: Ui, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visitor]:
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    behind = urlsplit(ui.url).port or 0
    if request.param == "tunnel":
        url, way = f"http://localhost:{port}", tunnel(folder, port, behind)
    else:
        url, way = f"https://{NAME}", proxy(folder, port, behind)
    credentials = HttpCredentials(username=USER, password=PASSWORD)
    rules = f"MAP {NAME}:443 127.0.0.1:{port}, MAP *.example.com 127.0.0.1"
    with (
        way,
        chromium(f"--host-resolver-rules={rules}") as browser,
        closing(
            browser.new_context(ignore_https_errors=True, http_credentials=credentials)
        ) as context,
    ):
        yield Visitor(url, context)


@contextmanager
def tunnel(folder: Path, port: int, behind: int) -> Iterator[None]:
    """`ssh -N -L`, to an SSH server of the test's own that lets its own user in."""
    own, user, server_port = folder / "key", pwd.getpwuid(os.getuid()).pw_name, free_port()
    for key in (own, folder / "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1:{server_port}\n"
        f"HostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {own}.pub\n"
        # The folder's parents are anybody's.
        "StrictModes no\n"
        "PidFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as its service does at its start
    trust = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    forward = f"{port}:127.0.0.1:{behind}"
    with (
        running(server_port, str(SSHD), "-D", "-e", "-f", str(config)),
        running(
            port,
            *("ssh", "-N", "-L", forward, "-i", str(own), *trust),
            *("-p", str(server_port), f"{user}@127.0.0.1"),
        ),
    ):
        yield


@contextmanager
def proxy(folder: Path, port: int, behind: int) -> Iterator[None]:
    """nginx with both configurations, a certificate of its own and one user."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}"),
            *("-keyout", folder / "dagster.key", "-out", folder / "dagster.crt"),
        ],
        check=True,
        capture_output=True,
    )
    write_users(folder, {USER: PASSWORD}, editors=[USER])
    asking = free_port()
    encrypting = adapted(
        "nginx.conf",
        {
            "listen 443": f"listen 127.0.0.1:{port}",
            "127.0.0.1:3000": f"127.0.0.1:{asking}",
            "/etc/nginx/": f"{folder}/",
        },
    )
    with nginx(folder, port, encrypting, login(folder, asking, editors=behind, readers=behind)):
        yield


def test_repair_is_launched_from_its_form_and_followed_live(visitor: Visitor, ui: Ui) -> None:
    path = "/locations/platform_assets.definitions/jobs/repair/playground"
    with closing(visitor.context.new_page()) as page:
        with page.expect_websocket() as opened:
            page.goto(f"{visitor.url}{path}")
        editor = page.locator(".CodeMirror-code, .cm-content").first
        expect(editor).to_contain_text("which: failed")
        with opened.value.expect_event(
            "framereceived", lambda frame: "RunSuccessEvent" in str(frame), timeout=600_000
        ):
            page.get_by_role("button", name="Launch run").click()
        expect(page.get_by_text("Success", exact=True).first).to_be_visible()
        page.screenshot(path=screenshots_folder() / f"dagster-{urlsplit(visitor.url).scheme}.png")
        run = page.url.rpartition("/")[2]
    assert ui.ended(run)["status"] == "SUCCESS"


def test_a_backfill_is_launched_from_its_dialog(visitor: Visitor, ui: Ui) -> None:
    with closing(visitor.context.new_page()) as page:
        page.goto(f"{visitor.url}/assets/airbnb/snapshot?view=partitions")
        launched = launch_backfill(page, DATES[0], DATES[-1])
    assert [run["status"] for run in ui.backfilled(launched)] == ["SUCCESS"]


def test_pages_of_somebody_else_get_nothing_done(visitor: Visitor, ui: Ui) -> None:
    before = ui.query(RECORDS)
    with elsewhere() as port:
        for name in STRANGERS:
            assert_nothing_comes_of_it(visitor.context, f"http://{name}:{port}", visitor.url)
    assert ui.query(RECORDS) == before
