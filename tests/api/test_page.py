"""The page in a real browser: drawing, answers, keyboard, pictures, and nothing from elsewhere.

Screenshots stay in `test-output/screenshots`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.rig import Served, Split, serve
from tests.browser import CHROMIUM, chromium, screenshots_folder
from tests.conftest import Services
from tests.digit_pictures import encoded, scaled

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DESKTOP, PHONE, NARROW = (1280, 860), (390, 844), (320, 640)
SEVEN = [(0.28, 0.25), (0.5, 0.24), (0.72, 0.25), (0.6, 0.5), (0.48, 0.8)]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(*CAMERA) as running:
        yield running


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
    output: list[str] = []
    page.on("console", lambda message: output.append(message.text))
    page.on("pageerror", lambda error: output.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    yield page
    # A status such as 422 is written to the console by the browser itself.
    assert not [text for text in output if "the server responded with a status of" not in text]
    assert not [
        url for url in asked if not url.startswith((served.url, "data:", f"blob:{served.url}"))
    ]
    context.close()


@pytest.fixture
def screenshots() -> Path:
    return screenshots_folder()


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


# Of each element with a text of its own: whether the text is wider than the element or its card.
SPILLING = """() => [...document.querySelectorAll("main *, dialog[open] *")].filter((element) => {
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest("svg")) return false;
    const box = element.getBoundingClientRect();
    const card = element.closest("button, .card, section, dialog, main").getBoundingClientRect();
    const inline = getComputedStyle(element).display === "inline";
    return (!inline && element.scrollWidth > element.clientWidth)
        || box.left < card.left - .5 || box.right > card.right + .5;
}).map((element) => element.outerHTML)"""


def no_label_spills(page: Page) -> None:
    """Fails where a text is wider than what it stands in, or the document than the window."""
    assert page.evaluate(SPILLING) == []
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")


def test_no_label_spills_on_the_narrowest_phone(
    browser: Browser, served: Served, screenshots: Path
) -> None:
    with visit(browser, served, NARROW, touch=True) as page:
        no_label_spills(page)
        draw(page, SEVEN)
        expect(page.locator("#digit")).to_have_text("7")
        expect(page.locator("#model")).to_contain_text("97.0 % right")
        no_label_spills(page)
        page.screenshot(path=screenshots / "narrow.png", full_page=True)
        page.get_by_role("button", name="Camera").click()
        expect(page.get_by_role("button", name="Take the picture")).to_be_enabled()
        no_label_spills(page)
        page.screenshot(path=screenshots / "narrow-camera.png", full_page=True)


@pytest.mark.parametrize(("name", "size"), [("api", DESKTOP), ("api-narrow", NARROW)])
def test_the_link_to_the_api_leads_to_a_page_that_people_read(
    browser: Browser, served: Served, screenshots: Path, name: str, size: tuple[int, int]
) -> None:
    with visit(browser, served, size) as page:
        page.get_by_role("link", name="API").click()
        expect(page.get_by_role("heading", name="The API", exact=True)).to_be_visible()
        for route in ("POST /", "POST /batch", "GET /model", "GET /healthz"):
            expect(page.get_by_role("heading", name=f"{route} ").first).to_be_visible()
        expect(page.get_by_role("heading", name="Prediction", exact=True)).to_be_visible()
        no_label_spills(page)
        page.screenshot(path=screenshots / f"{name}.png", full_page=True)
        page.get_by_role("link", name="a page to draw a digit").click()
        expect(page.locator("#pad")).to_be_visible()


@pytest.mark.parametrize("one", [0.04, 0.12, 0.2], ids=["at the edge", "beside it", "apart"])
def test_a_drawn_17_is_not_clearly_a_7(browser: Browser, served: Served, one: float) -> None:
    with visit(browser, served) as page:
        draw(page, [(one, 0.2), (one, 0.85)])
        draw(page, [(0.5, 0.2), (0.86, 0.2), (0.64, 0.85)])
        expect(page.locator("#said")).to_contain_text("Several digits")
        expect(page.locator("#digit")).to_have_text("–")


def test_digits_that_touch_are_not_clearly_one(browser: Browser, served: Served) -> None:
    with visit(browser, served) as page:
        draw(page, [(0.38, 0.2), (0.38, 0.8)])
        draw(page, [(0.38, 0.22), (0.75, 0.2), (0.5, 0.8)])
        expect(page.locator("#digit")).not_to_have_text("–")
        expect(page.locator("#said strong")).to_have_text("Not clearly a digit")


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
        expect(page.locator("#said")).to_contain_text("No single digit found")
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
