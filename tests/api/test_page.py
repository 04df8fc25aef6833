"""The page in a real browser: drawing, answers, keyboard, pictures, and nothing from elsewhere.

Screenshots stay in `test-output/screenshots`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.api.rig import Served, Split, serve
from tests.conftest import CHECKOUT, Services
from tests.digit_pictures import encoded, scaled

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
DESKTOP, PHONE = (1280, 860), (390, 844)
SEVEN = [(0.28, 0.25), (0.5, 0.24), (0.72, 0.25), (0.6, 0.5), (0.48, 0.8)]

expect.set_options(timeout=60_000)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@contextmanager
def visit(
    browser: Browser,
    served: Served,
    size: tuple[int, int] = DESKTOP,
    *,
    dark: bool = False,
    touch: bool = False,
) -> Iterator[Page]:
    """The page; whatever it says to the console or asks of others fails the test."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        device_scale_factor=2,
        has_touch=touch,
        permissions=["camera"],
    )
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    yield page
    # A status such as 422 is written to the console by the browser itself.
    assert not [text for text in said if "the server responded with a status of" not in text]
    assert not [
        url for url in asked if not url.startswith((served.url, "data:", f"blob:{served.url}"))
    ]
    context.close()


@pytest.fixture
def screenshots() -> Path:
    folder = CHECKOUT / "test-output" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draw(page: Page, points: list[tuple[float, float]]) -> None:
    """One stroke with the mouse, by shares of the drawing area's sides."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


@pytest.mark.parametrize(
    ("name", "size", "dark"),
    [
        ("desktop-light", DESKTOP, False),
        ("desktop-dark", DESKTOP, True),
        ("phone-light", PHONE, False),
        ("phone-dark", PHONE, True),
    ],
)
def test_a_drawn_seven_is_answered_when_the_pen_is_lifted(
    browser: Browser,
    served: Served,
    screenshots: Path,
    name: str,
    size: tuple[int, int],
    dark: bool,
) -> None:
    with visit(browser, served, size, dark=dark, touch=size is PHONE) as page:
        page.screenshot(path=screenshots / f"{name}-empty.png")
        draw(page, SEVEN)
        expect(page.locator("#digit")).to_have_text("7")
        expect(page.locator("#bars li.best .share")).to_contain_text("%")
        expect(page.locator("#model")).to_contain_text("97.0 % right")
        page.wait_for_timeout(400)
        page.screenshot(path=screenshots / f"{name}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size[0], "nothing sticks out to the side"
        page.get_by_role("button", name="Clear").click()
        expect(page.locator("#digit")).to_have_text("–")


def test_a_second_stroke_belongs_to_the_same_digit(browser: Browser, served: Served) -> None:
    with visit(browser, served) as page:
        draw(page, [(0.35, 0.2), (0.32, 0.5), (0.7, 0.5)])
        draw(page, [(0.64, 0.2), (0.62, 0.85)])
        expect(page.locator("#digit")).to_have_text("4")


def test_the_keyboard_draws_and_clears(browser: Browser, served: Served) -> None:
    with visit(browser, served) as page:
        page.locator("#pad").focus()
        page.keyboard.press("ArrowDown")
        for _ in range(16):
            page.keyboard.press("Shift+ArrowDown")
        expect(page.locator("#digit")).to_have_text("1")
        page.keyboard.press("c")
        expect(page.locator("#digit")).to_have_text("–")
        for expected in ("clear", "upload", "camera"):
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.id") == expected


def test_a_file_is_read_and_what_the_model_saw_is_shown(
    browser: Browser, served: Served, digits: dict[str, Split], tmp_path: Path, screenshots: Path
) -> None:
    number = int((digits["test"].labels == 5).argmax())
    file = tmp_path / "five.jpg"
    file.write_bytes(encoded(scaled(255 - digits["test"].pixels[number], 1800), "JPEG"))
    with visit(browser, served) as page:
        page.locator("#file").set_input_files(file)
        expect(page.locator("#digit")).to_have_text("5")
        expect(page.locator("#picture")).to_be_visible()
        lit = page.evaluate(
            "[...document.getElementById('seen').getContext('2d')"
            ".getImageData(0, 0, 28, 28).data].filter((v, i) => i % 4 === 0 && v > 100).length"
        )
        assert 40 < lit < 400
        page.screenshot(path=screenshots / "picture.png", full_page=True)
        draw(page, SEVEN)
        expect(page.locator("#digit")).to_have_text("7")
        expect(page.locator("#picture")).to_be_hidden()


def test_a_dropped_file_that_is_no_digit_is_told_in_words(
    browser: Browser, served: Served, screenshots: Path
) -> None:
    with visit(browser, served) as page:
        page.evaluate(
            """async () => {
                const sheet = new OffscreenCanvas(200, 200), context = sheet.getContext("2d");
                context.fillStyle = "#fff"; context.fillRect(0, 0, 200, 200);
                const file = new File([await sheet.convertToBlob()], "b.png", {type: "image/png"});
                const carried = new DataTransfer(); carried.items.add(file);
                const drop = new DragEvent("drop", {dataTransfer: carried, bubbles: true});
                document.body.dispatchEvent(drop);
            }"""
        )
        expect(page.locator("#said")).to_contain_text("No digit found")
        expect(page.locator("#said")).to_contain_text("No ink that looks like a digit")
        page.screenshot(path=screenshots / "no-digit.png", full_page=True)


def test_the_camera_takes_a_picture_and_is_switched_off(browser: Browser, served: Served) -> None:
    """Chromium's own fake camera: a green picture, in which there may be ink or not."""
    with visit(browser, served) as page:
        page.get_by_role("button", name="Camera").click()
        expect(page.locator("#video")).to_be_visible()
        page.get_by_role("button", name="Take the picture").click()
        expect(page.locator("#video")).to_be_hidden()
        expect(page.locator("#picture")).to_be_visible()
        expect(page.locator("#said strong")).not_to_have_text("Nothing yet")


def test_a_camera_that_shows_nothing_yet_takes_no_picture_and_can_be_closed(
    browser: Browser, served: Served
) -> None:
    with visit(browser, served) as page:
        page.evaluate(
            "() => { HTMLMediaElement.prototype.play = () => new Promise((_, no) => end = no) }"
        )
        page.get_by_role("button", name="Camera").click()
        expect(page.get_by_role("button", name="Take the picture")).to_be_disabled()
        page.keyboard.press("Escape")
        page.evaluate("end(new DOMException('interrupted', 'AbortError'))")
        expect(page.locator("#video")).to_be_hidden()
        expect(page.locator("#said strong")).to_have_text("Nothing yet")


def test_an_endpoint_that_is_not_there_is_told_in_words(
    browser: Browser, services: Services, tmp_path: Path
) -> None:
    env = {**services.env, "PLATFORM_ENDPOINT_NAME": "not-there"}
    with serve(env, tmp_path) as running, visit(browser, running) as page:
        draw(page, SEVEN)
        expect(page.locator("#said")).to_contain_text("not in service")


def test_a_key_is_asked_for_once(
    browser: Browser, services: Services, served: Served, tmp_path: Path
) -> None:
    with served.client() as api:
        endpoint = api.get("/model").json()["endpoint"]
    env = {**services.env, "PLATFORM_ENDPOINT_NAME": endpoint, "PLATFORM_API_KEY": "open-sesame"}
    with serve(env, tmp_path) as running, visit(browser, running) as page:
        draw(page, SEVEN)
        page.get_by_label("API key").fill("open-sesame")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#digit")).to_have_text("7")
        page.get_by_role("button", name="Clear").click()
        draw(page, SEVEN)
        expect(page.locator("#digit")).to_have_text("7")
        expect(page.locator("#ask")).to_be_hidden()
