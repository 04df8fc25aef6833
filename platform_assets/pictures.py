"""How pictures and tables of materialisations are drawn, whatever of: colours, fonts, sizes.

Every picture is dark on a light panel of its own, and so reads in the UI's light and dark theme.
They are small, since metadata stay in Dagster's records for good: see `MAX_BYTES`.
"""

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from platform_assets.errors import describe_error
from platform_assets.retries import attempt

MAX_BYTES = 45_000
"""Of a PNG (60 KB as base64): a larger one gets fewer colours, but no less than six."""
# A picture has to be read for and drawn: with one for every date, long runs would take longer for
# pictures of dates that nobody looks at.
DATES_DRAWN = 7

PAPER, INK, FAINT = (250, 250, 250), (28, 39, 51), (205, 211, 217)
BLUE, RED = (49, 107, 189), (196, 60, 45)
# From low to high, each darker than the one before: also to be told apart without colours.
_SCALE = np.array([(253, 219, 110), (240, 140, 75), (200, 70, 105), (115, 35, 125), (30, 15, 75)])
# Control characters, and those that change the direction of text.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(r"[\\`*_~\[<&|]")
# Where addresses, which Markdown makes links of, are broken by a sign that is not seen.
_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_JOINER = "\u2060"
_CELL = 100  # characters: metadata stay for good
_TILE = 28
_CAPTION = 13


def newest(dates: Sequence[str]) -> frozenset[str]:
    """The dates of a run that get pictures."""
    return frozenset(sorted(dates)[-DATES_DRAWN:])


def attempt_to_show(show: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `show` returns; a sentence in its place where it fails, since nothing depends on it."""
    shown = attempt(show)
    return {"not_shown": describe_error(shown)} if isinstance(shown, Exception) else shown


def to_markdown(image: Image.Image, title: str, below: str = "") -> dg.MarkdownMetadataValue:
    """A picture as metadata, with as many colours as fit into `MAX_BYTES`, and six at least.

    Args:
        title: For those who do not see it.
    """
    for colours in (24, 12, 6):
        out = io.BytesIO()
        # By the colours that there are, and not by how often: few pixels are red.
        few = image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
        if out.tell() <= MAX_BYTES:
            break
    encoded = base64.b64encode(out.getvalue()).decode()
    text = f"\n\n{below}" if below else ""
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{encoded}){text}")


def to_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A table as metadata; whatever texts hold, they are shown as texts.

    The UI shows one of less than 1,000 characters in the overview, a longer one at a click.
    """
    lines = [head, ["-"] * len(head), *rows]
    return dg.MetadataValue.md("\n".join("|" + "|".join(map(_cell, line)) + "|" for line in lines))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.2f}"
    text = _LINK.sub(_JOINER, to_line(str(value))[:_CELL])
    # Character references are text wherever they stand, in contrast to escapes by backslashes.
    return _MARKUP.sub(lambda sign: f"&#{ord(sign[0])};", text)


def to_line(text: str) -> str:
    """A stranger's text in one line; what would turn other text around, or hide, is a mark."""
    return _CONTROLS.sub("\ufffd", " ".join(text.split()))


def draw_digits(
    tiles: NDArray[np.float32],
    captions: Sequence[str],
    *,
    columns: int = 20,
    wrong: Sequence[bool] = (),
) -> Image.Image:
    """Digits side by side, each with a caption below.

    Args:
        tiles: (n, 28, 28) float32 in 0..1, ink high.
        wrong: Which captions are red; none where it is empty.
    """
    width, height = _TILE + 6, _TILE + _CAPTION + 5
    rows = -(-len(tiles) // columns)
    image = _panel(min(columns, max(len(tiles), 1)) * width + 8, max(rows, 1) * height + 8)
    pen, font = ImageDraw.Draw(image), _font(11)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = 7 + number % columns * width, 6 + number // columns * height
        shades = np.clip(255 - 255 * tile, 0, 255).astype(np.uint8)
        image.paste(Image.fromarray(shades).convert("RGB"), (left, top))
        colour = RED if wrong and wrong[number] else INK
        pen.text((left + _TILE // 2, top + _TILE), caption, colour, font, anchor="ma")
    return image


def draw_matrix(counts: NDArray[np.int64], rows: str, columns: str) -> Image.Image:
    """A square matrix of counts: what is on the diagonal blue, what is off it red.

    Args:
        counts: (n, n) int64.
        rows: What a row stands for.
        columns: What a column stands for.
    """
    cell, left, top = 34, 34, 40
    size = cell * len(counts)
    image = _panel(left + size + 8, top + size + 8)
    pen, font, small = ImageDraw.Draw(image), _font(12), _font(11)
    pen.text((left, 5), f"rows: {rows}, columns: {columns}", INK, small)
    largest = np.log1p(max(int(counts.max()), 1))
    for row in range(len(counts)):
        middle = top + row * cell + cell // 2
        pen.text((left // 2, middle), str(row), INK, font, anchor="mm")
        pen.text((left + row * cell + cell // 2, top - 10), str(row), INK, font, anchor="mm")
        for column in range(len(counts)):
            count = int(counts[row, column])
            share = np.log1p(count) / largest
            shade = _mix(PAPER, BLUE if row == column else RED, share)
            x = left + column * cell
            pen.rectangle((x, middle - cell // 2, x + cell - 2, middle + cell // 2 - 2), shade)
            if count:
                colour = PAPER if share > 0.55 else INK
                pen.text((x + cell // 2 - 1, middle - 1), f"{count}", colour, small, anchor="mm")
    return image


def draw_histogram(values: NDArray[np.float64], reach: float) -> Image.Image:
    """How values are spread around 0: those below red, those above blue.

    Without any text and in few colours, so that the UI shows it in the overview.

    Args:
        values: (n,) float64.
        reach: From its negative to it 40 bars stand; the outermost hold what is farther out, too.
    """
    bar, height = 9, 96
    image = _panel(40 * bar, height)
    pen = ImageDraw.Draw(image)
    counts, edges = np.histogram(np.clip(values, -reach, reach), 40, (-reach, reach))
    for number, count in enumerate(counts):
        colour = RED if edges[number + 1] <= reach * 1e-9 else BLUE
        if count:
            top = height - 2 - max(round((height - 6) * count / counts.max()), 1)
            pen.rectangle((number * bar, top, number * bar + bar - 2, height - 3), colour)
    pen.line((0, height - 1, 40 * bar, height - 1), INK)
    return image


def draw_map(
    longitudes: NDArray[np.float64],
    latitudes: NDArray[np.float64],
    values: NDArray[np.float64],
    labels: Sequence[tuple[float, float, str]],
    title: str,
) -> Image.Image:
    """Points on a plane, coloured by their values from low (yellow) to high (dark).

    Args:
        longitudes: (n,) degrees.
        latitudes: (n,) degrees.
        values: (n,); what 5 to 95 of 100 have spans the colours.
        labels: (longitude, latitude, text), the most important first; what would hide one is left
            out.
        title: Above it.
    """
    width, height, margin, head = 640, 460, 24, 50
    image = _panel(width, height)
    pen, font, small = ImageDraw.Draw(image), _font(12), _font(11)
    pen.text((12, 8), title, INK, font)
    if not len(values):
        return image
    low, high = (float(value) for value in np.quantile(values, [0.05, 0.95]))
    west, east = np.quantile(longitudes, [0.001, 0.999])
    south, north = np.quantile(latitudes, [0.001, 0.999])
    # A degree of longitude is shorter than one of latitude, the more the farther from the equator.
    squeeze = float(np.cos(np.radians((south + north) / 2)))
    scale = min(
        (width - 2 * margin) / max((east - west) * squeeze, 1e-9),
        (height - head - margin) / max(north - south, 1e-9),
    )
    shift = (width - (east - west) * squeeze * scale) / 2

    def place(longitude: float, latitude: float) -> tuple[float, float]:
        return shift + (longitude - west) * squeeze * scale, head + (north - latitude) * scale

    for longitude, latitude, value in zip(longitudes, latitudes, values, strict=True):
        x, y = place(longitude, latitude)
        pen.rectangle((x - 1, y - 1, x + 1, y + 1), _shade(value, low, high))
    for step in range(120):
        shade = _shade(low + (high - low) * step / 119, low, high)
        pen.line((width - 192 + step, 27, width - 192 + step, 38), shade)
    pen.text((width - 198, 33), f"{low:,.0f}", INK, small, anchor="rm")
    pen.text((width - 66, 33), f"{high:,.0f}", INK, small, anchor="lm")
    taken: list[tuple[float, float, float, float]] = []
    for longitude, latitude, text in labels:
        box = pen.textbbox(place(longitude, latitude), text, small, anchor="mm")
        box = (box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2)
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        pen.rectangle(box, PAPER, FAINT)
        pen.text(place(longitude, latitude), text, INK, small, anchor="mm")
    return image


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shade(value: float, low: float, high: float) -> tuple[int, int, int]:
    share = min(max((value - low) / (high - low or 1.0), 0.0), 1.0) * (len(_SCALE) - 1)
    below = min(int(share), len(_SCALE) - 2)
    return _mix(_SCALE[below], _SCALE[below + 1], share - below)


def _mix(one: Sequence[int], other: Sequence[int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return int(red), int(green), int(blue)


def _panel(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
