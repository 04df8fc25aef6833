"""The three pictures of the README, taken of a running stack: `make screenshots`.

It needs the development packages, Chromium, and a stack on which the demo ran. What a picture
shows is a line in `PAGES`.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from embedded.errors import StackError
from embedded.graphql import LOCATION
from embedded.plan import home_from, read_env_file

FOLDER = Path(__file__).parent / "screenshots"
WIDTH, HEIGHT = 1280, 800
COLOURS = 64
MOST_BYTES = 300_000
# Name of the file → the UI's page, and a text that is there once the page is.
PAGES = {
    "lineage": (f"/locations/{LOCATION}/asset-groups/airbnb/lineage", "neighbourhood_summary"),
    "partitions": ("/assets/airbnb/snapshot?view=partitions", "Materialized ("),
    "materialization": ("/assets/mnist/classifier?view=overview", "accuracy"),
}


def main() -> int:
    """Take them; returns the exit status."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("Chromium is not installed: install it, then run this again.", file=sys.stderr)
        return 1
    try:
        url = read_env_file(home_from())["PLATFORM_UI_URL"]
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for name, (path, text) in PAGES.items():
            page.goto(f"{url}{path}")
            (FOLDER / f"{name}.png").write_bytes(take(page, text))
            print(FOLDER / f"{name}.png")
        browser.close()
    size = sum((FOLDER / f"{name}.png").stat().st_size for name in PAGES)
    if size > MOST_BYTES:
        print(f"Together they have {size:,} bytes, more than {MOST_BYTES:,}.", file=sys.stderr)
        return 1
    return 0


def take(page: Page, text: str) -> bytes:
    """A page as a PNG of few colours, once it shows a text and all that it has asked for."""
    page.get_by_text(text).first.wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    behind = page.get_by_text("[Show Markdown]").first
    if behind.is_visible():
        behind.click()
        page.locator("img[src^='data:image/png']").first.wait_for(timeout=60_000)
    # Once nothing moves, two pictures are the same.
    shot, before = page.screenshot(animations="disabled"), b""
    while shot != before:
        page.wait_for_timeout(1000)
        before, shot = shot, page.screenshot(animations="disabled")
    few = Image.open(BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
