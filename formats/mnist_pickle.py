"""The public `mnist.pkl.gz`: a gzipped Python 2 pickle of three (images, labels) pairs.

It is read as what it is, a file from somebody else's bucket; one can be written, too.
`platform_assets` fetches it, and `formats.array_pickle` knows the opcodes of pickles.

Values are byte/256, so the maximum is 0.99609375; ink is high, the ground is 0.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from isal import igzip, igzip_lib
from numpy.typing import NDArray

from formats import array_pickle
from formats.array_pickle import CorruptError, PickleFileError, TruncatedError

PIXELS = 784
CLASSES = 10

_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 2**20
# isal's stubs call this class an instance.
_DeflateError = cast("type[Exception]", igzip_lib.IsalError)
_NAMES = ("train", "validation", "test")


class NotGzipError(PickleFileError):
    """The object does not begin as gzip does."""


class TooLargeError(PickleFileError):
    """The object is larger, compressed or expanded, than it may be."""


class WrongLayoutError(PickleFileError):
    """The arrays are not three (float32 (N, 784), int64 (N,)) pairs."""


class WrongValuesError(PickleFileError):
    """A pixel is not within 0 to 1, or a label is not a digit."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images, (N, 784) float32 within 0 to 1 with ink high, and labels, (N,) int64, 0 to 9."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MnistDataset:
    """The three splits of the file, in its order."""

    train: Split
    validation: Split
    test: Split

    def splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


def load(
    compressed: bytes,
    *,
    max_compressed_bytes: int = 64 * 2**20,
    max_expanded_bytes: int = 512 * 2**20,
) -> MnistDataset:
    """Reads and checks the object; nothing in it is ever imported or called.

    The public file has 16 MB compressed and 220 MB expanded. It is expanded straight into the
    arrays that are returned, so that memory stays at about their size.

    Args:
        compressed: The object.
        max_compressed_bytes: How large it may be.
        max_expanded_bytes: How much memory reading it may take beside it: what it expands to, and
            what has to be decoded from that.

    Raises:
        PickleFileError: One of its subclasses for each kind of failure, see there.
    """
    if len(compressed) > max_compressed_bytes:
        raise TooLargeError(
            f"the object has {len(compressed)} bytes, more than the {max_compressed_bytes} "
            "allowed; raise the limit if that is meant"
        )
    if not compressed.startswith(_GZIP_MAGIC):
        raise NotGzipError(f"the object is not gzip: it begins with {compressed[:8]!r}")
    stream = _Expanded(compressed, max_expanded_bytes)
    try:
        content = array_pickle.load(stream)
        stream.expect_end()
    except EOFError as error:
        raise TruncatedError(
            f"the object is cut off: its gzip stream does not end within {len(compressed)} bytes"
        ) from error
    except (gzip.BadGzipFile, _DeflateError) as error:
        raise CorruptError(f"the object's gzip stream is damaged: {error}") from error
    return _dataset(content)


def dump(dataset: MnistDataset) -> bytes:
    """Writes the public file's layout: what Python 2's cPickle writes with protocol 2, gzipped.

    The pickle is the same to the byte as cPickle's; equal datasets make equal objects.

    Raises:
        PickleFileError: The dataset is not one that `load` would take.
    """
    for name, split in dataset.splits().items():
        _check(name, split.images, split.labels)
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", compresslevel=6, fileobj=packed, mtime=0) as stream:
        for piece in _pickled(dataset):
            stream.write(piece)
    return packed.getvalue()


class _Expanded:
    """The object's content, expanded as it is read; no more is held than the limit allows."""

    def __init__(self, compressed: bytes, limit: int) -> None:
        self._file = igzip.IGzipFile(fileobj=io.BytesIO(compressed), mode="rb")
        self._limit = limit
        self._left = limit

    def read(self, size: int, /) -> bytearray:
        """As many bytes as there are, up to `size`; memory grows with what is there."""
        self.hold(size)
        data = bytearray()
        while len(data) < size:
            block = self._file.read(min(size - len(data), _BLOCK))
            if not block:
                break
            data += block
        return data

    def readline(self) -> bytearray:
        """In pieces: gzip's own would hold a long line twice."""
        line = bytearray()
        while not line.endswith(b"\n") and (piece := self._file.readline(_BLOCK)):
            self.hold(len(piece))
            line += piece
        return line

    def expect_end(self) -> None:
        """Reads on to the checksum, which is at the end of the gzip stream."""
        if self._file.read(1):
            raise CorruptError("the object goes on after the end of its pickle")

    def hold(self, size: int, /) -> None:
        """Counts what is held, before it is.

        Raises:
            TooLargeError: It is more than the limit allows.
        """
        self._left -= size
        if self._left < 0:
            raise TooLargeError(
                f"reading the object takes more than the {self._limit} bytes of memory allowed; "
                "raise the limit if that is meant"
            )


def _dataset(content: object) -> MnistDataset:
    splits = _items(content, 3, "the object")
    return MnistDataset(*(_split(name, split) for name, split in zip(_NAMES, splits, strict=True)))


def _items(value: object, count: int, what: str) -> tuple[object, ...]:
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        if len(items) == count:
            return items
        raise WrongLayoutError(f"{what} holds {len(items)} things instead of {count}")
    raise WrongLayoutError(f"{what} holds no tuple but a {type(value).__name__}")


def _split(name: str, value: object) -> Split:
    images, labels = _items(value, 2, f"the {name} split")
    _check(name, images, labels)
    return Split(cast("NDArray[np.float32]", images), cast("NDArray[np.int64]", labels))


def _check(name: str, images: object, labels: object) -> None:
    pixels = _array(images, "<f4", 2, f"the images of the {name} split")
    digits = _array(labels, "<i8", 1, f"the labels of the {name} split")
    if pixels.shape != (len(digits), PIXELS):
        raise WrongLayoutError(
            f"the {name} split has images of shape {pixels.shape} for {len(digits)} labels; "
            f"each label belongs to {PIXELS} pixels"
        )
    # The comparison fails for what is not a number, too, and needs no second array.
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0.0 and high <= 1.0):
        raise WrongValuesError(
            f"the images of the {name} split have values from {low} to {high} instead of 0 to 1"
        )
    first, last = int(digits.min()), int(digits.max())
    if first < 0 or last >= CLASSES:
        raise WrongValuesError(
            f"the labels of the {name} split run from {first} to {last}; digits run from 0 to 9"
        )


def _array(value: object, dtype: str, ndim: int, what: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise WrongLayoutError(f"{what} are no array but a {type(value).__name__}")
    array = cast("NDArray[Any]", value)
    if array.dtype != np.dtype(dtype) or array.ndim != ndim or not array.size:
        raise WrongLayoutError(
            f"{what} are {array.dtype} of shape {array.shape}; "
            f"they should be {np.dtype(dtype).name} with {ndim} dimension{'s' * (ndim > 1)}"
        )
    if not array.flags.c_contiguous:
        raise WrongLayoutError(f"{what} are stored column by column; they should be row by row")
    return array


def _pickled(dataset: MnistDataset) -> Iterator[bytes | memoryview]:
    """cPickle's opcodes: what occurs again gets a memo number and is fetched by it later."""
    yield b"\x80\x02"
    memo = 2
    dtypes: dict[str, int] = {}
    for split in dataset.splits().values():
        for array in (split.images, split.labels):
            first = memo == 2
            memo += 1
            yield from _reconstruct(first, memo)
            yield b"(K\x01" + _shape(array.shape)
            code = array.dtype.str[1:]
            if code in dtypes:
                yield b"h" + bytes([dtypes[code]])
            else:
                # The class of dtypes takes a number of its own where it first occurs.
                memo += 1 + (not dtypes)
                yield _dtype(code, memo, None if dtypes else memo - 1)
                dtypes[code] = memo
            yield b"\x89T" + struct.pack("<i", array.nbytes)
            yield array.reshape(-1).view(np.uint8).data
            yield b"tb"
        yield b"\x86"
    yield b"\x87q" + bytes([memo + 1]) + b"."


def _reconstruct(first: bool, memo: int) -> Iterator[bytes]:
    if first:
        yield b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02"
    else:
        yield b"h\x01h\x02"
    yield b"K\x00\x85U\x01b\x87Rq" + bytes([memo])


def _dtype(code: str, memo: int, class_memo: int | None) -> bytes:
    class_ = b"h\x04" if class_memo is None else b"cnumpy\ndtype\nq" + bytes([class_memo])
    call = b"U" + bytes([len(code)]) + code.encode() + b"K\x00K\x01\x87Rq" + bytes([memo])
    return class_ + call + b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def _shape(shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_integer(size) for size in shape)
    return sizes + (b"\x85" if len(shape) == 1 else b"\x86")


def _integer(value: int) -> bytes:
    if value < 2**8:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if value < 2**16 else b"J" + struct.pack("<i", value)
