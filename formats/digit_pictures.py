"""Pictures of digits: from a file's bytes to a digit in MNIST's form.

It knows which formats of files are taken, decodes them within limits on bytes and pixels that hold
before a pixel is decoded (`PictureLimits`; the API's are in `api/recognition.py`), and places the
ink. digit_ink finds which ink is the digit; digit_images makes of it what the model is shown.

Importing it adds HEIF to the formats that Pillow opens in this process.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pillow_heif import register_heif_opener  # pyright: ignore[reportUnknownVariableType]

from formats.digit_images import PIXELS, SIDE
from formats.digit_ink import Ink, find_ink, find_paper
from formats.digit_parts import WORKING_SIDE, running_maximum, shrink, values_of
from formats.digit_rims import without_rim
from formats.errors import FormatError

FORMATS: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "HEIF": "image/heic",
}
"""The formats that are read, with their media types."""

# What iPhones save. libheif turns such pictures upright itself, and keeps limits of its own.
register_heif_opener()

# MNIST's digits fit a box of 20 × 20 and are centred by mass (http://yann.lecun.com/exdb/mnist/).
_BOX: Final = 20
_DETAILED_SIDE: Final = 640
# What is left around a digit that is looked at again, as a share of its size.
_MARGIN: Final = 0.5
# A colour in which ink stands out more than this many times as much as in grey is taken instead.
_STANDS_OUT: Final = 1.3
# Ink that stands out on white by less than this share of what it does on black vanishes there.
_VANISHES: Final = 0.5
# MNIST's pen: the share of a digit's longer side that a stroke's width is, at its thinnest.
_THINNEST_PEN: Final = 0.1
# Each row costs some eighty bytes, however short it is.
_LONGEST_SIDE: Final = 20_000
# A progressive JPEG has some ten scans. Each costs a pass over all pixels, and 40 bytes.
_MOST_SCANS: Final = 100
_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN: Final = b"\xff\xda"
# RLE8 and RLE4, by the numbers of a BMP's header.
_RUN_LENGTHS: Final = (1, 2)


Box = tuple[int, int, int, int]


class PictureError(FormatError):
    """A picture that no digit can be read off."""


class PictureTooLargeError(PictureError):
    """More bytes or more pixels than the limits allow."""


class PictureFormatError(PictureError):
    """Not a picture in one of the formats that are read."""


class PictureDamagedError(PictureError):
    """A picture of a known format that cannot be decoded."""


class NoDigitError(PictureError):
    """A picture without ink that looks like a digit's."""


class SeveralDigitsError(NoDigitError):
    """A picture with more than one digit."""


@dataclass(frozen=True)
class PictureLimits:
    """What a picture may be.

    Attributes:
        max_bytes: Size of the file.
        max_pixels: Width times height, as its header says.
    """

    max_bytes: int = 5_000_000
    max_pixels: int = 25_000_000


def read_picture(data: bytes, limits: PictureLimits | None = None) -> NDArray[np.float32]:
    """The digit in a picture, brought to MNIST's form.

    The picture is turned as its EXIF orientation says, laid on white where it is transparent (on
    black where its ink is white), freed of a rim around it, and made grey; its ink is found
    whichever of ink and ground is the darker, freed of shadow and noise, cropped, scaled to fit
    20 × 20 and centred by mass in 28 × 28. A picture that has MNIST's form already keeps its
    pixels.

    Args:
        data: A JPEG, PNG, WebP, BMP or HEIC file.
        limits: Checked before any pixel is decoded; by default 5 MB and 25 megapixels.

    Returns:
        (784,) float32 within 0..1, ink high: what `digit_images.prepare` takes rows of.

    Raises:
        PictureTooLargeError: The file or the picture is larger than the limits allow.
        PictureFormatError: It is not a picture in one of the formats, or in a form of one that
            costs far more than its pixels do.
        PictureDamagedError: It is, but does not decode.
        SeveralDigitsError: It holds several.
        NoDigitError: Nothing in it looks like a digit's ink.
    """
    picture = _decode(data, limits or PictureLimits())
    digit = _as_mnist(values_of(picture.convert("L")))
    if digit is not None:
        return digit.reshape(PIXELS)
    ink = _find_inside(picture)
    if ink is None:
        raise NoDigitError(
            "No ink that looks like a digit was found in the picture; "
            f"send one digit, written clearly, with some ground around it.{_deep_colour(data)}"
        )
    if ink.beside:
        raise SeveralDigitsError(
            f"Several digits stand in the picture, {ink.beside + 1} as it looks; cut it up and "
            "send each of them, many at once to /batch."
        )
    return _place(ink).reshape(PIXELS)


def _decode(data: bytes, limits: PictureLimits) -> Image.Image:
    """The picture, grey or coloured, at most 640 pixels wide and high."""
    if len(data) > limits.max_bytes:
        raise PictureTooLargeError(
            f"The picture has {len(data):,} bytes; at most {limits.max_bytes:,} are read."
        )
    try:
        picture = Image.open(io.BytesIO(data), formats=list(FORMATS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(limits) from error
    except Image.UnidentifiedImageError as error:
        raise PictureFormatError(
            f"These {len(data):,} bytes are not a picture in one of the formats that are read: "
            f"{', '.join(FORMATS)}."
        ) from error
    except Exception as error:
        raise _damaged(error) from error
    if picture.width * picture.height > limits.max_pixels:
        raise _too_many_pixels(limits, picture.size)
    if max(picture.size) > _LONGEST_SIDE:
        raise PictureTooLargeError(
            f"The picture has {picture.width} × {picture.height} pixels; no side may have more "
            f"than {_LONGEST_SIDE:,}."
        )
    _require_cheap(picture, data)
    try:
        return _flat(picture)
    except Exception as error:
        # A damaged file shows itself in Pillow by whatever its decoders trip over.
        raise _damaged(error) from error


def _deep_colour(data: bytes) -> str:
    """What to add about a PNG of 16-bit colours, of which Pillow reads the upper 8 bits alone."""
    depth, colour = data[24:26] if data.startswith(_PNG) and len(data) > 26 else (8, 0)
    if depth != 16 or colour == 0:
        return ""
    return " Of its 16-bit colours the upper 8 bits are read: save it with 8 bits a colour."


def _require_cheap(picture: Image.Image, data: bytes) -> None:
    """Refuses what costs far more to decode than its pixels do.

    Raises:
        PictureFormatError: It is such a one.
    """
    # By its bytes: with several pictures in it, as phones make them, Pillow gives it another name.
    if data.startswith(_JPEG) and (scans := data.count(_START_OF_SCAN)) > _MOST_SCANS:
        raise PictureFormatError(
            f"This JPEG is made of {scans:,} scans; at most {_MOST_SCANS} are read. Save it anew."
        )
    # Two of its bytes can skip 255 rows, all of which Pillow makes: a gigabyte of a kilobyte.
    if picture.format == "BMP" and picture.info.get("compression") in _RUN_LENGTHS:
        raise PictureFormatError("A BMP is read without compression only: save it so, or as a PNG.")


def _flat(picture: Image.Image) -> Image.Image:
    """Decoded, made small, upright and opaque: L or RGB."""
    detailed = (_DETAILED_SIDE, _DETAILED_SIDE)
    if picture.format in ("JPEG", "MPO"):
        # JPEG can be decoded at an eighth of its size: most of a photograph's cost is never paid.
        picture.draft(None, detailed)
    picture.load()
    if picture.mode.startswith("I"):
        deep = np.asarray(picture, dtype=np.float32)
        # By what is there: some programs keep values of eight bits in sixteen.
        deep -= deep.min()
        deep *= 255 / max(float(deep.max()), 1)
        flat = Image.fromarray(deep.astype(np.uint8))
    else:
        opaque = "L" if picture.mode in ("1", "L") else "RGB"
        mode = "RGBA" if picture.has_transparency_data else opaque
        # A conversion to what it is already would be a copy.
        flat = picture if picture.mode == mode else picture.convert(mode)
    flat.thumbnail(detailed, Image.Resampling.BILINEAR, reducing_gap=2)
    if flat.mode == "RGBA":
        flat = _opaque(flat)
    orientation = picture.getexif().get(0x0112)
    return flat.transpose(_TURNS[orientation]) if orientation in _TURNS else flat


def _opaque(picture: Image.Image) -> Image.Image:
    """A transparent picture on white paper, or on black where its ink would vanish on white."""
    on_white, on_black = (
        Image.alpha_composite(Image.new("RGBA", picture.size, paper), picture).convert("RGB")
        for paper in ("white", "black")
    )
    spread = [float(values_of(laid.convert("L")).std()) for laid in (on_white, on_black)]
    return on_black if spread[0] < _VANISHES * spread[1] else on_white


def _contrasting(picture: Image.Image) -> Image.Image:
    """In grey, or in that one of red, green and blue in which the ink stands out far better: red
    ink on green paper is there in colour only."""
    grey = picture.convert("L")
    if picture.mode == "L":
        return grey
    small = shrink(picture)
    in_grey = _contrast(small.convert("L"))
    red, green, blue = picture.split()
    best, channel = max(
        zip(map(_contrast, small.split()), (red, green, blue), strict=True),
        key=lambda pair: pair[0],
    )
    return channel if best > _STANDS_OUT * in_grey else grey


def _contrast(channel: Image.Image) -> float:
    """How much the most striking pixels, a fiftieth of all, differ from what is around them."""
    around = channel.filter(ImageFilter.BoxBlur(max(1, max(channel.size) // 16)))
    differences = np.abs(values_of(channel) - values_of(around)).ravel()
    most = max(1, len(differences) // 50)
    return float(np.partition(differences, -most)[-most:].mean())


def _find_inside(picture: Image.Image) -> Ink | None:
    """The ink in a picture, within its rim where it has one."""
    inner = without_rim(picture)
    within = _find(_contrasting(inner)) if inner else None
    if within is not None and not within.touches_edge:
        return within
    # There is nothing in it, or it goes on beyond: what looked like a rim may be a stroke.
    ink = _find(_contrasting(picture))
    if within is None or (ink is not None and ink.likelihood > within.likelihood):
        return ink
    return within


def _find(picture: Image.Image) -> Ink | None:
    """The ink in a grey picture: on its sheet of paper, and from close by where it is small."""
    whole = (0, 0, *picture.size)
    ink, scale = _find_within(picture, whole)
    sure = ink is not None and ink.is_surely_strokes
    sheet = None if sure else find_paper(values_of(shrink(picture)))
    if sheet is not None:
        crop = _within(picture, sheet, scale)
        on_sheet, sheet_scale = _find_within(picture, crop)
        if _is_written_on(sheet, ink, on_sheet):
            whole, ink, scale = crop, on_sheet, sheet_scale
    if ink is None or scale == 1:
        return ink
    left, top, right, bottom = ink.box
    size = max(right - left, bottom - top)
    if size >= WORKING_SIDE / 2:
        return ink
    margin = size * _MARGIN
    around = (left - margin, top - margin, right + margin, bottom + margin)
    paper = picture.crop(whole)
    closer, _ = _find_within(paper, _within(paper, around, scale))
    return replace(closer, beside=max(closer.beside, ink.beside)) if closer else ink


def _find_within(picture: Image.Image, box: Box) -> tuple[Ink | None, float]:
    """The ink in a part of a picture, and how many of the picture's pixels one of its is."""
    part = picture.crop(box)
    small = shrink(part)
    return find_ink(values_of(small)), max(part.size) / max(small.size)


def _within(picture: Image.Image, box: tuple[float, float, float, float], scale: float) -> Box:
    """A box of the small picture as one of the picture."""
    left, top, right, bottom = (round(edge * scale) for edge in box)
    return max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)


def _is_written_on(sheet: Box, ink: Ink | None, on_sheet: Ink | None) -> bool:
    """Whether the ink on a sheet is the digit, rather than that which was found in all of the
    picture: the sheet itself, perhaps, or a digit of which the sheet has but a part."""
    if on_sheet is None or on_sheet.touches_edge:
        return False
    if ink is None or on_sheet.likelihood > ink.likelihood:
        return True
    left, top, right, bottom = ink.box
    return left <= sheet[0] and top <= sheet[1] and right >= sheet[2] and bottom >= sheet[3]


_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation."""


def _as_mnist(grey: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The pixels of a picture that has MNIST's form already: light on an even dark ground, or the
    reverse, its ink within 20 × 20, or nearly, and centred by mass."""
    if grey.shape != (SIDE, SIDE):
        return None
    rim = grey[_MNIST_RIM]
    ground = float(np.median(rim))
    light = ground < 0.5
    ink = (grey - ground) / (1 - ground) if light else (ground - grey) / ground
    # A clean ground takes nothing. What is uneven about another (a JPEG's ripples) is noise; a
    # digit may touch the rim, with more than ripples and in few places.
    uneven = np.abs(rim - ground)
    clean = np.count_nonzero(uneven) <= _MNIST_TOUCHES
    noise = 0.0 if clean else float(uneven[uneven < _MOST_RIPPLE].max(initial=0))
    ink = np.where(ink > noise, ink, 0).clip(0, 1).astype(np.float32)
    bold = ink > 0.25
    if ink.max() < 0.5 or not bold.any():
        return None
    rows, columns = np.flatnonzero(bold.any(axis=1)), np.flatnonzero(bold.any(axis=0))
    pixel = np.arange(SIDE)
    total = ink.sum()
    centre = (ink.sum(axis=1) @ pixel / total, ink.sum(axis=0) @ pixel / total)
    if max(np.ptp(rows), np.ptp(columns)) + 1 not in _MNIST_LONGER_SIDE:
        return None
    return ink if all(abs(middle - SIDE / 2) <= _MNIST_OFF_CENTRE for middle in centre) else None


_MNIST_RIM: Final = np.pad(np.zeros((SIDE - 2, SIDE - 2), np.bool_), 1, constant_values=True)
_MOST_RIPPLE: Final = 0.15
# Read off 5,000 of MNIST's digits: at most 5 pixels of ink on the rim, longer sides of 17 to 20
# pixels, centres of mass within half a pixel of (14, 14); a little more for JPEG's sake.
_MNIST_TOUCHES: Final = 5
_MNIST_LONGER_SIDE: Final = range(17, _BOX + 2)
_MNIST_OFF_CENTRE: Final = 0.75


def _place(ink: Ink) -> NDArray[np.float32]:
    """Ink scaled to fit 20 × 20 and centred by mass in 28 × 28."""
    values = ink.values
    missing = round(_THINNEST_PEN * max(values.shape) - ink.stroke)
    if missing > 0:
        values = running_maximum(np.pad(values, missing), missing + 1)
        values = values[np.ix_(values.any(axis=1), values.any(axis=0))]
    scale = _BOX / max(values.shape)
    height, width = (max(1, round(side * scale)) for side in values.shape)
    scaled = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    digit = np.asarray(scaled, dtype=np.float32)
    digit = digit / max(float(digit.max()), 1e-6)
    total = digit.sum()
    middle = (SIDE - 1) / 2
    top = round(middle - float(digit.sum(axis=1) @ np.arange(height) / total))
    left = round(middle - float(digit.sum(axis=0) @ np.arange(width) / total))
    top, left = min(max(top, 0), SIDE - height), min(max(left, 0), SIDE - width)
    placed = np.zeros((SIDE, SIDE), dtype=np.float32)
    placed[top : top + height, left : left + width] = digit
    return placed


def _too_many_pixels(
    limits: PictureLimits, size: tuple[int, int] | None = None
) -> PictureTooLargeError:
    pixels = f"{size[0]} × {size[1]} pixels" if size else "far too many pixels"
    return PictureTooLargeError(
        f"The picture has {pixels}; at most {limits.max_pixels:,} are read. Send a smaller one."
    )


def _damaged(error: Exception) -> PictureDamagedError:
    # Pillow's message names what is wrong with the file; a MemoryError's is empty.
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return PictureDamagedError(f"The picture does not decode: {reason}.")
