"""MXNet NDArray files, the form of a k-means model, and the model.tar.gz around one.

It turns dense arrays into bytes and back, and packs centroids as SageMaker's k-means does. It does
not read sparse arrays, and does not know what the centroids mean.

Little-endian: `u64 0x112 | u64 0 | u64 arrays | each array | u64 names | each (u64 length, bytes)`;
an array is `u32 0xF993FAC9 | i32 storage 0 | u32 ndim | i64 dims | i32 device type | i32 device |
i32 dtype | raw values in C order` (V2), without storage in V1 (0xF993FAC8); files older than that
begin an array with ndim and u32 dims.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError

__all__ = ["NDArrayFile", "NDArrayFileError", "decode", "encode", "pack_model", "unpack_model"]

MODEL_MEMBER = "model_algo-1"

_LIST_MAGIC = 0x112
_V1_MAGIC, _V2_MAGIC = 0xF993FAC8, 0xF993FAC9
_MAX_NDIM = 32
_MAX_MEMBERS = 64
_PIECE = 2**20
_DTYPES = {0: "f4", 1: "f8", 2: "f2", 3: "u1", 4: "i4", 5: "i1", 6: "i8"}
_FLAGS = {np.dtype(f"<{name}"): flag for flag, name in _DTYPES.items()}


class NDArrayFileError(FormatError):
    """The bytes are no NDArray file or model archive, or the arrays cannot be written as one."""


@dataclass(frozen=True, slots=True, eq=False)
class NDArrayFile:
    """The arrays of a file in order, and their names: none, or one for each."""

    arrays: tuple[NDArray[Any], ...]
    names: tuple[str, ...] = ()


def encode(arrays: Sequence[NDArray[Any]], names: Sequence[str] = ()) -> bytes:
    """Writes arrays as a V2 file, byte for byte as `mxnet.nd.save` does.

    Raises:
        NDArrayFileError: A dtype MXNet has no number for, an array without dimensions, or a number
            of names other than none or one for each array.
    """
    if names and len(names) != len(arrays):
        raise NDArrayFileError(f"{len(names)} names for {len(arrays)} arrays")
    parts = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))]
    for array in arrays:
        parts += _array_parts(array)
    parts.append(struct.pack("<Q", len(names)))
    for name in names:
        encoded = name.encode()
        parts += [struct.pack("<Q", len(encoded)), encoded]
    return b"".join(parts)


def decode(data: bytes | bytearray | memoryview) -> NDArrayFile:
    """Reads a file of version 2, 1 or older. The arrays are read-only views of `data`.

    Raises:
        NDArrayFileError: The bytes end early, go on after the end, or hold something else.
    """
    reader = _Reader(memoryview(data).cast("B"))
    magic, _, count = reader.numbers("<QQQ")
    if magic != _LIST_MAGIC:
        raise NDArrayFileError(f"no NDArray file: it begins with {magic:#x}, not {_LIST_MAGIC:#x}")
    # No list is made from a count: each array must be there before the next is looked for.
    arrays: list[NDArray[Any]] = []
    while len(arrays) < count:
        arrays.append(_read_array(reader))
    (names_count,) = reader.numbers("<Q")
    if names_count not in (0, count):
        raise NDArrayFileError(f"{names_count} names for {count} arrays")
    names = tuple(_read_name(reader) for _ in range(names_count))
    if reader.rest:
        raise NDArrayFileError(f"{reader.rest} bytes follow the end of the NDArray file")
    return NDArrayFile(tuple(arrays), names)


def pack_model(centroids: NDArray[np.float32]) -> bytes:
    """The model.tar.gz of a k-means model; the same centroids make the same bytes.

    Args:
        centroids: (k, D) float32.
    """
    _check_centroids(centroids)
    content = encode([centroids])
    member = tarfile.TarInfo(MODEL_MEMBER)
    member.size = len(content)
    member.mode = 0o644
    # TarInfo's own defaults for time and owner are zeros; gzip's are not.
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=packed, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def unpack_model(data: bytes, *, max_bytes: int = 256 * 2**20) -> NDArray[np.float32]:
    """Reads the (k, D) float32 centroids out of a model.tar.gz.

    Nothing is written to disk: members other than the model are passed over, whatever their names.

    Args:
        max_bytes: How much the archive may hold when expanded.

    Raises:
        NDArrayFileError: No gzip, truncated, too large, too many members, no model among them, or
            a model that is not one finite (k, D) float32 array.
    """
    try:
        content = _member(data, max_bytes)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise NDArrayFileError(f"the model archive is damaged or no tar.gz: {error}") from error
    arrays = decode(content).arrays
    if len(arrays) != 1:
        raise NDArrayFileError(f"the model holds {len(arrays)} arrays, not one")
    _check_centroids(arrays[0])
    return arrays[0]


def _check_centroids(centroids: NDArray[Any]) -> None:
    if centroids.ndim != 2 or centroids.dtype != np.float32 or not centroids.size:
        raise NDArrayFileError(
            f"centroids are {centroids.dtype} of shape {centroids.shape}; "
            "a k-means model has float32 of shape (k, features)"
        )
    if not np.isfinite(centroids).all():
        raise NDArrayFileError("a centroid holds a value that is not finite")


def _array_parts(array: NDArray[Any]) -> list[bytes]:
    flag = _FLAGS.get(array.dtype.newbyteorder("<"))
    if flag is None or array.ndim == 0:
        raise NDArrayFileError(
            f"an array is {array.dtype} of shape {array.shape}; "
            f"NDArray files hold {', '.join(_DTYPES.values())} with at least one dimension"
        )
    head = struct.pack(f"<IiI{array.ndim}q", _V2_MAGIC, 0, array.ndim, *array.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return [head, struct.pack("<iii", 1, 0, flag), little.tobytes()]


class _Reader:
    """Walks over bytes and never beyond them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> memoryview:
        if count > self.rest:
            raise NDArrayFileError(
                f"the NDArray file ends early: byte {self._position} should be followed by "
                f"{count} more, {self.rest} are there"
            )
        self._position += count
        return self._data[self._position - count : self._position]

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))


def _read_array(reader: _Reader) -> NDArray[Any]:
    (magic,) = reader.numbers("<I")
    if magic == _V2_MAGIC:
        (storage,) = reader.numbers("<i")
        if storage != 0:
            raise NDArrayFileError(f"an array is sparse (storage type {storage}); give dense ones")
    newer = magic in (_V1_MAGIC, _V2_MAGIC)
    ndim = reader.numbers("<I")[0] if newer else magic
    if not 1 <= ndim <= _MAX_NDIM:
        raise NDArrayFileError(f"no NDArray file: an array begins with {magic:#x}, ndim {ndim}")
    shape = reader.numbers(f"<{ndim}{'q' if newer else 'I'}")
    _, _, flag = reader.numbers("<iii")
    if flag not in _DTYPES:
        raise NDArrayFileError(f"an array has the unknown dtype number {flag}")
    if any(size < 0 for size in shape):
        raise NDArrayFileError(f"an array has the impossible shape {shape}")
    dtype = np.dtype(f"<{_DTYPES[flag]}")
    # Python's integers cannot overflow; take() refuses what is not there.
    values = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype)
    try:
        return values.reshape(shape)
    except ValueError as error:
        raise NDArrayFileError(f"an array has the impossible shape {shape}") from error


def _read_name(reader: _Reader) -> str:
    (length,) = reader.numbers("<Q")
    try:
        return str(reader.take(length), "utf-8")
    except UnicodeDecodeError as error:
        raise NDArrayFileError("an array's name is not UTF-8") from error


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than it may: a bomb is stopped while it expands."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        count = self._left + 1 if size < 0 else min(size, self._left + 1)
        data = self._stream.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise NDArrayFileError(
                f"the model archive expands to more than {self._limit} bytes; "
                "raise the limit if it is meant to"
            )
        return data


def _member(data: bytes, max_bytes: int) -> memoryview:
    bounded = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(data)), max_bytes)
    content: memoryview | None = None
    with tarfile.open(fileobj=bounded, mode="r|") as archive:
        for count, member in enumerate(archive, start=1):
            if count > _MAX_MEMBERS:
                raise NDArrayFileError(f"the model archive has more than {_MAX_MEMBERS} members")
            if member.name.removeprefix("./") == MODEL_MEMBER:
                if content is not None:
                    raise NDArrayFileError(f"the model archive holds {MODEL_MEMBER} twice")
                content = _content(archive, member)
    # gzip's checksum stands at the end, where a reader of tar does not look.
    while bounded.read(_PIECE):
        pass
    if content is None:
        raise NDArrayFileError(f"the model archive holds no {MODEL_MEMBER}")
    return content


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> memoryview:
    # A sparse member would be allowed to claim a size that its bytes do not have.
    stream = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    if stream is None:
        raise NDArrayFileError(f"{MODEL_MEMBER} in the model archive is not a regular file")
    # In pieces: tarfile would hold all of it twice.
    content = bytearray()
    while piece := stream.read(_PIECE):
        content += piece
    if len(content) != member.size:
        raise NDArrayFileError(f"the model archive ends within {MODEL_MEMBER}")
    return memoryview(content).toreadonly()
