"""Requests that mean harm, each of them made from its number alone."""

import base64
import json
import random
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.digit_pictures import bmp_of_skipped_rows, encoded, jpeg_of_scans

TYPES = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/PNG; a=b"]
# What is no picture but begins, or goes on, like one.
FRONTS = [
    b"GIF89a",
    b"%PDF-1.7\n",
    b"PK\x03\x04",
    b"<!doctype html><script>1</script>",
    b"MZ",
    b"\0",
]
JSONS = [
    b"nonsense",
    b"[" * 5000,
    b'{"images": "7"}',
    b'{"images": [[[[]]]]}',
    b'{"images": {"0": "AAAA"}}',
    b'{"images": [NaN, 1e999, "\\ud800"]}',
    b"\xff\xfe{\x00",
]


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(side: int, *before: bytes, rows: bytes = b"", height: int | None = None) -> bytes:
    """A grey PNG that says it is so large; its rows, and chunks before them, as given."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, height or side, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def bomb(side: int) -> bytes:
    """A PNG of some kilobytes whose pixels would fill gigabytes; they are all there."""
    pack = zlib.compressobj(9)
    rows = b"".join(pack.compress(bytes(side + 1)) for _ in range(side)) + pack.flush()
    return png(side, rows=rows)


class Hostile:
    """The requests: a path, a media type and a body for every number."""

    def __init__(self, digit: NDArray[np.uint8]) -> None:
        red = Image.new("RGB", (9, 9), "red")
        kinds = ("PNG", "JPEG", "WEBP", "BMP", "HEIF")
        self._good = [encoded(item, kind) for item in (digit, red) for kind in kinds]
        zeros = zlib.compress(bytes(64 * 2**20), 9)
        jpeg = bytearray(encoded(red, "JPEG"))
        size = jpeg.index(b"\xff\xc0") + 5
        jpeg[size : size + 4] = b"\xff\xff\xff\xff"
        bmp = bytearray(encoded(red, "BMP"))
        bmp[18:26] = struct.pack("<ii", 60_000, -60_000)
        self._bombs = [
            bomb(12_000),
            png(2**31 - 1),
            png(28, chunk(b"zTXt", b"a\0\0" + zeros)),
            png(28, chunk(b"iCCP", b"a\0\0" + zeros)),
            png(28, rows=zeros),
            bytes(jpeg),
            bytes(bmp),
            bmp_of_skipped_rows(),
            jpeg_of_scans(2000),
            png(1, height=24_000_000, rows=zlib.compress(bytes(48_000_000), 9)),
        ]
        # Just within the limits, and costly: it is decoded.
        self._heavy = bomb(4_900)

    def request(self, number: int) -> tuple[str, str, bytes]:
        """Always the same for the same number."""
        rng = random.Random(number)
        if number % 500 == 0:
            return "/", "image/png", self._heavy
        if number % 20 == 0:
            return "/", rng.choice(TYPES), rng.choice(self._bombs)
        body = self._body(rng)
        if rng.random() < 0.3:
            return "/batch", "application/json", self._batch(rng, body)
        if rng.random() < 0.05:
            return "/", rng.choice(["text/plain", "image/gif", "application/json", ""]), body
        return "/", rng.choice(TYPES), body

    def _body(self, rng: random.Random) -> bytes:
        good = rng.choice(self._good)
        way = rng.randrange(6)
        if way == 0:
            return good[: rng.randrange(len(good))]
        if way == 1:
            return rng.randbytes(rng.randrange(2000))
        if way == 2:
            return rng.choice(FRONTS) + good
        if way == 3:
            return good + rng.choice(FRONTS) + rng.choice(self._good)
        if way == 4:
            start = rng.randrange(len(good))
            return good[:start] + rng.randbytes(rng.randrange(9)) + good[start:]
        spoilt = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        return bytes(spoilt)

    def _batch(self, rng: random.Random, body: bytes) -> bytes:
        if rng.random() < 0.3:
            return rng.choice(JSONS)
        strange = rng.choice([None, "!", 5, [], {"images": []}, "A" * 1001])
        images = [base64.b64encode(body).decode(), strange]
        text = json.dumps({"images": images}).encode()
        return text[: rng.randrange(1, len(text))] if rng.random() < 0.2 else text
