"""Headless Chromium for tests, and where their screenshots go."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import CHECKOUT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Chromium ends what it loads whenever an interface of the host comes or goes, which other tests do
# with containers and network namespaces: https://issues.chromium.org/issues/41465264
RERUN_AFTER_NETWORK_CHANGES = pytest.mark.flaky(reruns=3, only_rerun=["net::ERR_NETWORK_CHANGED"])
# Slow machines take longer to show a page.
expect.set_options(timeout=60_000)


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser that sends no requests of its own to its vendor."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*_QUIET, *arguments], timeout=120_000
        )
        yield running
        running.close()


def screenshots_folder() -> Path:
    """The folder `test-output/screenshots` of the checkout; it is created if need be."""
    folder = CHECKOUT / "test-output" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
