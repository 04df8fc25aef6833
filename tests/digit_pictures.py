"""Pictures of digits for tests: real ones, changed in many ways, and ones drawn with Pillow."""

import io
import math
import random
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pillow_heif import register_heif_opener

register_heif_opener()

Pixels = NDArray[np.uint8]
Point = tuple[float, float]


def encoded(picture: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def shifted(digit: Pixels, right: int, down: int) -> Pixels:
    """Moved within its 28 × 28 pixels; background fills what becomes free."""
    room = np.pad(digit, 3)
    return np.ascontiguousarray(room[3 - down : 31 - down, 3 - right : 31 - right])


def scaled(digit: Pixels, side: int) -> Image.Image:
    """At another size."""
    return Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)


def photographed(digit: Pixels, rng: random.Random, side: int = 480) -> bytes:
    """A handwritten digit as ink on unevenly lit, grainy paper, somewhere in a JPEG."""
    size = rng.randint(side // 4, int(side * 0.8))
    large = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(size / 60)), np.float32) / 255
    ink = np.zeros((side, side), np.float32)
    top, left = rng.randint(0, side - size), rng.randint(0, side - size)
    ink[top : top + size, left : left + size] = np.clip((soft - 0.3) / 0.4, 0, 1)
    lit = rng.uniform(0.6, 0.95) * _light(side, rng) * (1 - ink * rng.uniform(0.65, 0.95))
    grain = np.random.default_rng(rng.randrange(2**31)).normal(0, 0.03, lit.shape)
    colours = np.stack([(lit + grain) * rng.uniform(0.85, 1) for _ in range(3)], axis=-1)
    picture = (np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return encoded(picture, "JPEG", quality=rng.randint(50, 90))


def snapped(digit: Pixels, rng: random.Random, where: str) -> bytes:
    """A handwritten digit as a phone would photograph it.

    `far` away; in a `colour` hardly darker than its paper; or `on a desk`: on a light note, turned
    a little, that lies on something dark, all of it partly in the shade.
    """
    side = {"far": 960, "colour": 480, "on a desk": 400}[where]
    size = int(side * (rng.uniform(0.1, 0.16) if where == "far" else rng.uniform(0.4, 0.7)))
    large = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    crisp = Image.fromarray(((np.asarray(large, np.float32) - 76) * 2.5).clip(0, 255).astype("u1"))
    paper, pen = (228, 222, 205), (40, 40, 60)
    if where == "colour":
        paper, pen = rng.choice([((115, 140, 115), (190, 90, 90)), ((240, 218, 80), (50, 80, 205))])
    sheet = Image.new("RGB", (side, side), paper)
    place = (rng.randint(0, side - size), rng.randint(0, side - size))
    sheet.paste(pen, (*place, place[0] + size, place[1] + size), crisp)
    if where == "on a desk":
        note = sheet.convert("RGBA").rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, True)
        desk = Image.new("RGBA", (640, 640), (90, 58, 32))
        room = 640 - max(note.size)
        desk.alpha_composite(note, (rng.randint(0, room), rng.randint(0, room)))
        sheet = desk.convert("RGB")
    grain = np.random.default_rng(rng.randrange(2**31)).normal(0, 6, (*sheet.size, 3))
    lit = np.asarray(sheet) * _light(sheet.width, rng)[..., None] + grain
    return encoded(lit.clip(0, 255).astype(np.uint8), "JPEG", quality=80)


def rimmed(picture: Image.Image, look: str, sides: str, share: float, rng: random.Random) -> bytes:
    """A picture with a rim of a share of its side, left, right, top or bottom, as a JPEG.

    The rim is `black`, `grey` or the grain of `wood`; `turned` is black around a picture that is
    turned by a few degrees; `white around dark` is white, around the picture's negative.
    """
    inner = picture.convert("RGB")
    if look == "white around dark":
        inner = Image.eval(inner, lambda value: 255 - value)
    rim = round(max(inner.size) * share)
    mask = Image.new("L", inner.size, 255)
    if look == "turned":
        angle = rng.uniform(-4, 4)
        inner = inner.rotate(angle, Image.Resampling.BICUBIC, True)
        mask = mask.rotate(angle, Image.Resampling.BICUBIC, True)
    left, right, top, bottom = (rim if side in sides else 0 for side in "lrtb")
    width, height = inner.width + left + right, inner.height + top + bottom
    colour = {"black": 0, "turned": 0, "grey": 95, "wood": 90, "white around dark": 255}[look]
    ground = np.full((height, width, 3), colour, np.float64)
    if look == "wood":
        noise = np.random.default_rng(rng.randrange(2**31))
        ground *= [1.2, 0.8, 0.5]
        ground += noise.normal(0, 9, (height, 1, 1)) + noise.normal(0, 9, (height, width, 1))
    whole = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    whole.paste(inner, (left, top), mask)
    return encoded(whole, "JPEG", quality=85)


def drawn(digit: int, rng: random.Random) -> bytes:
    """A digit as somebody would draw it with a mouse or a thick pen, slanted, lit and noisy."""
    side = rng.choice([200, 280, 400])
    height = side * rng.uniform(0.5, 0.8)
    width, slant = height * rng.uniform(0.65, 0.95), rng.uniform(-0.15, 0.35)
    dark_on_light = rng.random() < 0.8
    ground = rng.randint(200, 255) if dark_on_light else rng.randint(0, 40)
    pen = rng.randint(0, 70) if dark_on_light else rng.randint(190, 255)
    image = Image.new("L", (side, side), ground)
    canvas = ImageDraw.Draw(image)
    thick = height * rng.uniform(0.05, 0.16)
    left = side / 2 - width / 2 + rng.uniform(-0.08, 0.08) * side
    top = side / 2 - height / 2 + rng.uniform(-0.05, 0.05) * side
    for stroke in _strokes(digit, rng):
        points = [
            (
                left + (x + slant * (0.5 - y) + rng.gauss(0, 0.008)) * width,
                top + (y + rng.gauss(0, 0.008)) * height,
            )
            for x, y in stroke
        ]
        canvas.line(points, fill=pen, width=max(1, int(thick)), joint="curve")
        for x, y in points:
            half = thick / 2
            canvas.ellipse([x - half, y - half, x + half, y + half], fill=pen)
    lit = np.asarray(image, np.float32) * _light(side, rng)
    noise = np.random.default_rng(rng.randrange(2**31)).normal(0, rng.uniform(0, 12), lit.shape)
    picture = (lit + noise).clip(0, 255).astype(np.uint8)
    return encoded(picture, rng.choice(["PNG", "JPEG", "WEBP", "BMP"]))


def _light(side: int, rng: random.Random) -> NDArray[np.float64]:
    """Light that falls off to one side and, half of the time, a shadow with a clear edge."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    across = np.cos(angle) * x + np.sin(angle) * y
    light = 1 - rng.uniform(0, 0.4) * (across + 0.7) / 1.4
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        edge = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.2, 0.2)
        light *= 1 - rng.uniform(0.2, 0.5) / (1 + np.exp(-edge * rng.choice([20, 100])))
    return light


def _arc(x: float, y: float, across: float, up: float, start: float, stop: float) -> list[Point]:
    turns = [math.radians(start + (stop - start) * step / 24) for step in range(25)]
    return [(x + across * math.cos(turn), y + up * math.sin(turn)) for turn in turns]


def _strokes(digit: int, rng: random.Random) -> Sequence[list[Point]]:
    """How a digit is written, in a box of 1 × 1."""
    if digit == 1:
        return (
            [[(0.5, 0.05), (0.5, 0.95)]]
            if rng.random() < 0.5
            else [[(0.35, 0.25), (0.5, 0.05), (0.5, 0.95)]]
        )
    if digit == 4 and rng.random() < 0.5:
        return [[(0.6, 0.05), (0.2, 0.6), (0.85, 0.6)], [(0.65, 0.35), (0.65, 0.97)]]
    return {
        0: [_arc(0.5, 0.5, rng.uniform(0.2, 0.32), 0.45, -90, 275)],
        2: [[*_arc(0.5, 0.3, 0.27, 0.25, -160, 30), (0.25, 0.93), (0.8, 0.93)]],
        3: [_arc(0.45, 0.28, 0.25, 0.23, -150, 90) + _arc(0.45, 0.72, 0.28, 0.22, -90, 150)],
        4: [[(0.25, 0.08), (0.22, 0.5), (0.75, 0.5)], [(0.72, 0.08), (0.7, 0.95)]],
        5: [
            [(0.3, 0.07), (0.28, 0.45), *_arc(0.45, 0.66, 0.28, 0.27, -110, 140)],
            [(0.3, 0.07), (0.78, 0.07)],
        ],
        6: [[(0.65, 0.05), (0.4, 0.3), *_arc(0.5, 0.7, 0.24, 0.24, -170, 190)]],
        7: [[(0.2, 0.08), (0.8, 0.08), (0.42, 0.95)]],
        8: [_arc(0.5, 0.28, 0.22, 0.22, 0, 370), _arc(0.5, 0.72, 0.26, 0.23, -90, 275)],
        9: [[*_arc(0.48, 0.3, 0.23, 0.24, 0, 365), (0.7, 0.5), (0.62, 0.95)]],
    }[digit]


def bmp_of_skipped_rows() -> bytes:
    """A run-length encoded BMP that skips as many rows as two bytes can name, again and again."""
    palette, skips = bytes(1024), b"\0\2\0\xff" * 40
    head = struct.pack("<IiiHHIIiiII", 40, 20_000, 1000, 1, 8, 1, len(skips), 0, 0, 256, 0)
    start = 14 + len(head) + len(palette)
    return struct.pack("<2sIII", b"BM", start + len(skips), 0, start) + head + palette + skips


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive grey JPEG of 4,992 × 4,992 pixels, each scan of which says "all zero"."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    side, blocks = 4992, 624 * 624
    tables = segment(0xC4, b"\x00\x01" + bytes(16)) + segment(
        0xC4, b"\x10\x01" + bytes(15) + b"\xe0"
    )
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(blocks // 8)
    # A code of one bit, then 14 bits of how many blocks beyond 16,384 have nothing.
    runs = "".join(f"0{min(16383, blocks - at - 16384):014b}" for at in range(0, blocks, 32767))
    bits = runs.ljust(-(-len(runs) // 8) * 8, "1")
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + packed
    quantisation = segment(0xDB, b"\x00" + b"\x01" * 64)
    return b"\xff\xd8" + quantisation + frame + tables + first + scan * (scans - 1) + b"\xff\xd9"


def enlarged(image: NDArray[np.float64], side: int = 56) -> bytes:
    """A digit of scikit-learn's, (8, 8) from 0 to 16 with ink high, as a PNG of this size."""
    small = Image.fromarray((image / 16 * 255).astype(np.uint8))
    return encoded(small.resize((side, side), Image.Resampling.BICUBIC))


def lettered(letter: str, bolder: int = 0) -> bytes:
    """A printed letter, black on white, so many pixels bolder than its font, as a PNG."""
    picture = Image.new("L", (120, 120), "white")
    ImageDraw.Draw(picture).text(
        (60, 60),
        letter,
        fill="black",
        font=ImageFont.load_default(80),
        anchor="mm",
        stroke_width=bolder,
    )
    return encoded(picture)


# How people write some digits of whom MNIST has few, in a box of 1 × 1.
OTHER_HANDS: dict[str, list[list[Point]]] = {
    "1 with flag and foot": [[(0.3, 0.38), (0.52, 0.1), (0.52, 0.9)], [(0.32, 0.9), (0.72, 0.9)]],
    "4 that is open": [[(0.3, 0.1), (0.25, 0.55), (0.75, 0.55)], [(0.62, 0.3), (0.62, 0.92)]],
    "7 that is crossed": [[(0.22, 0.12), (0.78, 0.12), (0.45, 0.9)], [(0.35, 0.52), (0.7, 0.52)]],
    "9 that is curled": [
        [
            *_arc(0.5, 0.32, 0.2, 0.22, 0, -360),
            (0.7, 0.6),
            *_arc(0.48, 0.66, 0.22, 0.24, 0, 150),
        ]
    ],
}


def handwritten(strokes: list[list[Point]], rng: random.Random, side: int = 300) -> bytes:
    """Strokes as a pen draws them, black on white, each time a little otherwise, as a PNG."""
    image = Image.new("L", (side, side), "white")
    canvas = ImageDraw.Draw(image)
    pen, slant, wide = rng.randint(8, 22), rng.uniform(-0.2, 0.25), rng.uniform(0.8, 1.05)
    for stroke in strokes:
        points = [
            (
                side * (0.5 + wide * (x - 0.5) - slant * (y - 0.5) + rng.gauss(0, 0.012)),
                side * (0.06 + 0.88 * y + rng.gauss(0, 0.012)),
            )
            for x, y in stroke
        ]
        canvas.line(points, fill="black", width=pen, joint="curve")
        for x, y in (points[0], points[-1]):
            canvas.ellipse([x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2], fill="black")
    return encoded(image)
