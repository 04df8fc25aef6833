"""From a picture's bytes to a digit in MNIST's form: what is found in it, and what is refused."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from sklearn.datasets import load_digits

from embedded.seed_digits import real_digits
from formats.digit_parts import connected_parts, running_maximum
from formats.digit_pictures import (
    NoDigitError,
    PictureDamagedError,
    PictureError,
    PictureFormatError,
    PictureLimits,
    PictureTooLargeError,
    SeveralDigitsError,
    read_picture,
)
from tests.digit_pictures import (
    bmp_of_skipped_rows,
    drawn,
    encoded,
    jpeg_of_scans,
    photographed,
    rimmed,
    scaled,
)

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits() -> Pixels:
    """200 real digits, (200, 28, 28)."""
    images, _ = real_digits()
    chosen = np.random.default_rng(1).permutation(len(images))[:200]
    return images[chosen].reshape(-1, 28, 28)


def likeness(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Correlation of two digits at the best of the shifts by up to two pixels."""
    one, other = first.reshape(28, 28), second.reshape(28, 28)
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3)]
    return max(
        float(np.corrcoef(one.ravel(), np.roll(other, shift, (0, 1)).ravel())[0, 1])
        for shift in shifts
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_a_digit_in_mnists_form_keeps_its_pixels(digits: Pixels, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    for digit in digits:
        read = read_picture(encoded(digit, kind, **options))
        np.testing.assert_allclose(read, digit.ravel() / 255, atol=1e-6)


def test_ink_and_ground_may_be_exchanged(digits: Pixels) -> None:
    for digit in digits:
        plain, inverted = read_picture(encoded(digit)), read_picture(encoded(255 - digit))
        np.testing.assert_allclose(plain, inverted, atol=1e-5)


@pytest.mark.parametrize("side", [20, 24, 40, 150, 400])
def test_a_digit_of_any_size_comes_back_to_its_size(digits: Pixels, side: int) -> None:
    likenesses = [
        likeness(read_picture(encoded(scaled(digit, side))), digit.ravel().astype(np.float32))
        for digit in digits[:80]
    ]
    assert np.median(likenesses) > 0.91
    assert np.quantile(likenesses, 0.05) > 0.75


@pytest.mark.parametrize("light", [True, False])
def test_a_digit_that_was_cut_out_closely_keeps_its_strokes_along_the_edges(light: bool) -> None:
    """Other hands' digits without any margin, their strokes a fifth of the picture wide."""
    loaded: Any = load_digits()
    for values in loaded.images[:300]:
        wide = Image.fromarray((values / 16 * 255).astype(np.uint8))
        close = np.asarray(wide.resize((56, 56), Image.Resampling.BICUBIC))
        read = read_picture(encoded(close if light else 255 - close)).reshape(28, 28)
        rows, columns = np.flatnonzero(read.max(1) > 0.5), np.flatnonzero(read.max(0) > 0.5)
        cut = read[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        ink = close > 128
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        box = close[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        expected = np.asarray(Image.fromarray(box).resize(cut.shape[::-1], Image.Resampling.BOX))
        assert np.corrcoef(cut.ravel(), expected.ravel())[0, 1] > 0.6


def test_ink_is_told_from_paper_and_shadow(digits: Pixels) -> None:
    rng = random.Random(2)
    likenesses = []
    for digit in digits[:60]:
        try:
            read = read_picture(photographed(digit, rng))
        except NoDigitError:
            read = np.zeros(784, np.float32)
            read[0] = 1
        likenesses.append(likeness(read, digit.ravel().astype(np.float32)))
    assert np.quantile(likenesses, 0.15) > 0.7


@pytest.mark.parametrize(
    ("look", "sides", "share"),
    [
        ("black", "lrtb", 0.01),
        ("black", "lrtb", 0.05),
        ("black", "lrtb", 0.15),
        ("black", "lr", 0.15),
        ("grey", "lrtb", 0.02),
        ("wood", "lrtb", 0.08),
        ("wood", "lt", 0.1),
        ("wood", "b", 0.15),
        ("turned", "lrtb", 0.04),
        ("white around dark", "lrtb", 0.02),
        ("white around dark", "lrtb", 0.12),
    ],
)
def test_a_rim_around_a_photograph_changes_nothing(
    digits: Pixels, look: str, sides: str, share: float
) -> None:
    rng = random.Random(4)
    likenesses: list[float] = []
    for digit in digits[:12]:
        photograph = Image.open(io.BytesIO(photographed(digit, rng))).convert("RGB")
        bare = read_picture(encoded(photograph))
        read = read_picture(rimmed(photograph, look, sides, share, rng))
        likenesses.append(likeness(read, bare))
    assert np.quantile(likenesses, 0.1) > 0.9


@pytest.mark.parametrize("side", [60, 400])
def test_a_scanners_border_changes_nothing(digits: Pixels, side: int) -> None:
    for digit in digits[:20]:
        scan = scaled(255 - digit, side)
        read = read_picture(rimmed(scan, "black", "lrtb", 0.05, random.Random(1)))
        assert likeness(read, read_picture(encoded(scan))) > 0.9


def test_exif_orientation_is_honoured() -> None:
    original = Image.open(io.BytesIO(drawn(7, random.Random(3)))).convert("L")
    upright = read_picture(encoded(original))
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    turns |= {8: Image.Transpose.ROTATE_270, 2: Image.Transpose.FLIP_LEFT_RIGHT}
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        turned = original.transpose(turn)
        np.testing.assert_allclose(read_picture(encoded(turned, exif=exif)), upright, atol=0.15)
        # libheif turns it itself: to turn it once more would be wrong.
        as_heic = encoded(turned.convert("RGB"), "HEIF", exif=exif.tobytes(), quality=95)
        np.testing.assert_allclose(read_picture(as_heic), upright, atol=0.2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "1", "CMYK"])
def test_every_kind_of_colour_gives_the_same_digit(mode: str) -> None:
    clean = Image.new("L", (120, 120), 255)
    ImageDraw.Draw(clean).line([(30, 20), (90, 20), (50, 100)], fill=0, width=11)
    expected = read_picture(encoded(clean))
    if mode == "I;16":
        other = Image.fromarray(np.asarray(clean).astype(np.uint16) * 257)
    else:
        other = clean.convert("RGB").convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert likeness(read_picture(encoded(other, kind)), expected) > 0.98


def test_what_is_transparent_is_white_paper() -> None:
    drawing = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).line([(30, 20), (70, 20), (45, 85)], fill="black", width=9)
    paper = Image.new("L", (100, 100), "white")
    ImageDraw.Draw(paper).line([(30, 20), (70, 20), (45, 85)], fill="black", width=9)
    np.testing.assert_allclose(
        read_picture(encoded(drawing)), read_picture(encoded(paper)), atol=0.01
    )


@pytest.mark.parametrize("ink", ["white", "yellow", (200, 230, 255)])
def test_light_ink_on_a_transparent_ground_is_laid_on_black(ink: Any) -> None:
    drawing, dark = Image.new("RGBA", (100, 100), (255, 255, 255, 0)), Image.new("L", (100, 100))
    ImageDraw.Draw(drawing).line([(30, 20), (70, 20), (45, 85)], fill=ink, width=9)
    ImageDraw.Draw(dark).line([(30, 20), (70, 20), (45, 85)], fill="white", width=9)
    assert likeness(read_picture(encoded(drawing)), read_picture(encoded(dark))) > 0.98


@pytest.mark.parametrize("most", [100, 255, 4095, 65535])
def test_sixteen_bits_are_read_by_the_range_that_is_there(digits: Pixels, most: int) -> None:
    large = np.asarray(scaled(digits[0], 120))
    deep = Image.fromarray((large / 255 * most).astype(np.uint16))
    assert likeness(read_picture(encoded(deep)), read_picture(encoded(large))) > 0.98


def test_specks_and_what_reaches_in_from_the_edge_are_left_out() -> None:
    clean = Image.new("L", (200, 200), 230)
    ImageDraw.Draw(clean).line([(70, 50), (130, 50), (95, 150)], fill=20, width=14)
    littered = clean.copy()
    canvas = ImageDraw.Draw(littered)
    canvas.ellipse([20, 170, 26, 176], fill=20)
    canvas.rectangle([190, 0, 199, 199], fill=40)
    assert likeness(read_picture(encoded(littered)), read_picture(encoded(clean))) > 0.97


def _noise(*shape: int) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


def _shading(across: float, down: float) -> Pixels:
    y, x = np.mgrid[0:200, 0:300] / [[[200]], [[300]]]
    return ((across * x + down * y) * 255).astype(np.uint8)


def _vignette(depth: float) -> Pixels:
    y, x = np.mgrid[0:240, 0:320] / 320
    return ((0.9 - depth * ((x - 0.5) ** 2 + (y - 0.37) ** 2)).clip(0, 1) * 255).astype(np.uint8)


def _figure(kind: str, *box: int, width: int = 0) -> Pixels:
    image = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(image)
    if kind == "line":
        draw.line(box, fill=0, width=width)
    else:
        getattr(draw, kind)(box, fill=0)
    return np.asarray(image)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(np.full((200, 200), 255, np.uint8), id="blank paper"),
        pytest.param(np.zeros((28, 28), np.uint8), id="MNIST's ground alone"),
        pytest.param(_noise(28, 28), id="noise of MNIST's size"),
        pytest.param(_noise(300, 300), id="noise"),
        pytest.param((_noise(200, 200) // 16 + 200).astype(np.uint8), id="grainy paper"),
        pytest.param(np.repeat([[0, 255]], 100, 1).repeat(200, 0).astype(np.uint8), id="an edge"),
        pytest.param(_shading(1, 0), id="a gradient from left to right"),
        pytest.param(_shading(0, 1), id="a gradient from top to bottom"),
        pytest.param(_shading(0.5, 0.5), id="a gradient from corner to corner"),
        pytest.param(_vignette(1), id="a vignette"),
        pytest.param(_vignette(2), id="a deep vignette"),
        pytest.param(_figure("ellipse", 100, 100, 200, 200), id="a disc"),
        pytest.param(_figure("rectangle", 130, 130, 170, 170), id="a square"),
        pytest.param(_figure("line", 20, 150, 280, 150, width=6), id="a rule"),
        pytest.param(_figure("point", 150, 150), id="a dot"),
        pytest.param(np.full((1, 1), 7, np.uint8), id="one pixel"),
        pytest.param(np.full((3, 900), 7, np.uint8), id="a thread"),
    ],
)
def test_a_picture_without_a_digits_ink_is_refused(picture: Pixels) -> None:
    with pytest.raises(NoDigitError, match="No ink that looks like a digit"):
        read_picture(encoded(picture))


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_several_digits_side_by_side_get_no_answer(digits: Pixels, count: int) -> None:
    for start in range(0, 40, 10):
        row = np.concatenate([np.pad(item, (20, 2)) for item in digits[start : start + count]], 1)
        height, width = row.shape
        large = Image.fromarray(255 - row).resize((width * 4, height * 4))
        with pytest.raises(NoDigitError) as refused:
            read_picture(encoded(large))
        if count == 2:
            assert isinstance(refused.value, SeveralDigitsError)
            assert "2 as it looks" in str(refused.value)


@pytest.mark.parametrize(
    ("size", "left", "top"),
    [
        pytest.param(90, 260, 120, id="a smaller one beside it"),
        pytest.param(140, 120, 250, id="one below it"),
        pytest.param(140, 260, 240, id="one across from it"),
    ],
)
def test_two_digits_get_no_answer_wherever_the_second_stands(
    digits: Pixels, size: int, left: int, top: int
) -> None:
    for first, second in zip(digits[:12], digits[12:24], strict=True):
        sheet = Image.new("L", (420, 420), 0)
        sheet.paste(scaled(first, 140), (120 if left == 120 else 60, 60))
        sheet.paste(scaled(second, size), (left, top))
        with pytest.raises(SeveralDigitsError):
            read_picture(encoded(255 - np.asarray(sheet)))


@pytest.mark.parametrize(
    ("one", "seven"),
    [
        pytest.param(0.1, 0.4, id="a 1 like the edge of a rim"),
        pytest.param(0.0, 0.3, id="a 1 along the left edge"),
        pytest.param(0.1, 0.55, id="far from each other"),
    ],
)
def test_a_17_drawn_with_a_thick_pen_is_no_7(one: float, seven: float) -> None:
    picture, top, bottom = Image.new("L", (280, 280), 255), 56, 238
    ImageDraw.Draw(picture).line([(one * 280, top), (one * 280, bottom)], fill=0, width=18)
    bar = [(seven * 280, top), (seven * 280 + 100, top), (seven * 280 + 39, bottom)]
    ImageDraw.Draw(picture).line(bar, fill=0, width=18, joint="curve")
    with pytest.raises(SeveralDigitsError, match="2 as it looks"):
        read_picture(encoded(picture))


@pytest.mark.parametrize(
    "strokes",
    [
        pytest.param(
            [[(60, 30), (40, 110), (80, 110)], [(110, 40), (105, 170)]], id="a 4 of two strokes"
        ),
        pytest.param(
            [[(60, 55), (60, 90), (110, 110), (100, 160), (50, 160)], [(60, 35), (120, 32)]],
            id="a 5 with its bar apart",
        ),
    ],
)
def test_a_digit_of_several_strokes_is_one_digit(strokes: list[list[tuple[int, int]]]) -> None:
    picture = Image.new("L", (200, 200), 255)
    for stroke in strokes:
        ImageDraw.Draw(picture).line(stroke, fill=0, width=11)
    assert read_picture(encoded(picture)).any()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused_whatever_pillow_could_read(kind: str) -> None:
    with pytest.raises(PictureFormatError, match="JPEG, PNG, WEBP, BMP"):
        read_picture(encoded(np.zeros((32, 32), np.uint8), kind))


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be of a size; the pixels are not there."""
    return _png(width, height, 8, bytes(1000))


def _png(width: int, height: int, depth: int, content: bytes) -> bytes:
    """A PNG of colours, of its parts."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def test_sixteen_bit_colours_that_hold_eight_are_told_as_such() -> None:
    """Pillow reads the upper byte of each."""
    pixels = np.full((60, 60, 3), 200, ">u2")
    pixels[10:50, 28:34] = 10
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    with pytest.raises(NoDigitError, match="save it with 8 bits a colour"):
        read_picture(_png(60, 60, 16, rows))


@pytest.mark.parametrize(("width", "height"), [(6000, 6000), (20_000, 20_000), (2**31 - 1, 2)])
def test_a_bomb_is_refused_by_what_its_header_says(width: int, height: int) -> None:
    with pytest.raises(PictureTooLargeError, match="25,000,000"):
        read_picture(_png_header(width, height))


def test_a_bmp_that_would_unfold_beyond_its_pixels_is_refused() -> None:
    """These 1,238 bytes would take 200 MB; with more skips, all there is."""
    with pytest.raises(PictureFormatError, match="without compression"):
        read_picture(bmp_of_skipped_rows())


def test_a_jpeg_of_ever_more_scans_is_refused() -> None:
    """4.5 MB of them would take five minutes."""
    with pytest.raises(NoDigitError):
        read_picture(jpeg_of_scans(100))
    with pytest.raises(PictureFormatError, match="101 scans; at most 100"):
        read_picture(jpeg_of_scans(101))


def test_a_jpeg_with_a_second_picture_is_held_to_the_same(digits: Pixels) -> None:
    """Phones save a small one beside the large one, and Pillow takes that for another format."""
    small = Image.fromarray(digits[0])
    phones = encoded(small, "MPO", save_all=True, append_images=[small])
    start = phones.index(b"\xff\xe2")
    index = phones[start : start + 2 + int.from_bytes(phones[start + 2 : start + 4], "big")]
    many = jpeg_of_scans(101)
    data = many[:2] + index + many[2:]
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO"
    with pytest.raises(PictureFormatError, match="101 scans"):
        read_picture(data)
    np.testing.assert_allclose(read_picture(phones), digits[0].ravel() / 255, atol=0.2)


def test_a_progressive_jpeg_is_read(digits: Pixels) -> None:
    data = encoded(digits[0], "JPEG", progressive=True, quality=95)
    assert likeness(read_picture(data), digits[0].ravel() / np.float32(255)) > 0.95


@pytest.mark.parametrize(("width", "height"), [(20_001, 1), (1, 24_000_000)])
def test_a_picture_that_is_all_side_is_refused(width: int, height: int) -> None:
    """A column of 24 million pixels is a file of 47 KB, and took 2 GB."""
    with pytest.raises(PictureTooLargeError, match="no side may have more than 20,000"):
        read_picture(_png_header(width, height))


def test_limits_hold_exactly(digits: Pixels) -> None:
    data = encoded(digits[0])
    read_picture(data, PictureLimits(max_bytes=len(data), max_pixels=784))
    with pytest.raises(PictureTooLargeError, match=f"at most {len(data) - 1:,} are read"):
        read_picture(data, PictureLimits(max_bytes=len(data) - 1))
    with pytest.raises(PictureTooLargeError, match="28 × 28 pixels; at most 783"):
        read_picture(data, PictureLimits(max_pixels=783))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "HEIF"])
def test_a_truncated_file_is_told_as_damaged(kind: str) -> None:
    data = encoded(_noise(64, 64), kind)
    with pytest.raises((PictureDamagedError, PictureFormatError)):
        read_picture(data[: len(data) // 2])


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "HEIF"]),
    at=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    keep=st.floats(0, 1),
)
def test_damaged_bytes_give_a_digit_or_a_picture_error(
    kind: str, at: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(encoded(scaled(_seven(), 40), kind))
    for place, value in at:
        data[int(place * (len(data) - 1))] = value
    try:
        read = read_picture(bytes(data[: int(len(data) * keep) + 1]))
    except PictureError as error:
        output = str(error)
    else:
        output = "finite." if np.isfinite(read).all() else "not finite"
    assert output.endswith(".")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31), st.integers(1, 64))
def test_any_picture_gives_a_digit_in_range_or_none(
    height: int, width: int, seed: int, grain: int
) -> None:
    """Coarse random shapes of odd sizes: what a fuzzer would send as pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (-(-height // grain), -(-width // grain))).astype(np.uint8)
    picture = np.kron(coarse, np.ones((grain, grain), np.uint8))[:height, :width]
    try:
        read = read_picture(encoded(np.ascontiguousarray(picture)))
    except NoDigitError:
        return
    assert read.shape == (784,)
    assert read.min() >= 0
    assert 0 < read.max() <= 1


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31), st.floats(0.05, 0.6))
def test_parts_are_those_that_scipy_finds(height: int, width: int, seed: int, fill: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < fill
    parts = connected_parts(mask)
    label: Any = ndimage.label
    expected, count = label(mask, np.ones((3, 3)))
    if parts is None:
        assert count == 0
        return
    assert parts.count == count
    pairs = {(int(a), int(b)) for a, b in zip(parts.labels.flat, expected.flat, strict=True)}
    assert len(pairs) == count + (not mask.all())
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts.labels), start=1):
        box = (rows.start, columns.start, rows.stop, columns.stop)
        assert tuple(parts.boxes[number - 1]) == box


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 2**31), st.integers(1, 15))
def test_the_running_maximum_is_scipys(height: int, width: int, seed: int, window: int) -> None:
    window |= 1
    values = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    expected = ndimage.maximum_filter(values, window, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(running_maximum(values, window), expected)


def _seven() -> Pixels:
    image = Image.new("L", (28, 28), 0)
    ImageDraw.Draw(image).line([(8, 6), (19, 6), (12, 22)], fill=255, width=3)
    return np.asarray(image)
