"""The protobuf message `Record` of RecordIO: laying one out, and parsing one wherever it lies.

This module has the wire format of one message; `formats.recordio` has the framing, and the fast
path over many records. Field numbers are those of Amazon's `record.proto`: Record features = 1,
label = 2; Value float32 = 2, float64 = 3, int32 = 7, bytes = 9; Tensor values = 1, keys = 2,
shape = 3. Keys make a tensor sparse: each says where its value lies in the flattened shape, which
such a tensor must have.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import FormatError

Kind = Literal["f4", "f8", "i4"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR_KINDS: dict[int, Kind] = {2: "f4", 3: "f8", 7: "i4"}
_FEATURES, _LABEL = 1, 2
_NAME = b"values"
_NO_KEYS = np.empty(0, np.uint64)


class RecordIOError(FormatError):
    """The bytes are not RecordIO that can be read, or the arrays cannot be written as such."""


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor: where its values lie, or, where they do not lie in one piece, the values.

    Attributes:
        count: Its size; of a sparse tensor that of its shape.
        keys: Where the values of a sparse tensor belong, as they came; None if it is dense.
    """

    kind: Kind
    count: int
    start: int
    end: int
    values: NDArray[np.generic] | None
    keys: NDArray[np.uint64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One record: its first byte, its bytes with header and padding, and its tensors."""

    position: int
    size: int
    features: Tensor
    label: Tensor | None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.features,) if self.label is None else (self.features, self.label)

    @property
    def strided(self) -> bool:
        return all(tensor.values is None for tensor in self.tensors)


class _Field(NamedTuple):
    number: int
    wire: int
    start: int
    end: int


def record(width: int, label: bytes, values: bytes | None = None) -> bytes:
    """The message of one record with `width` float32 features (zeros unless `values` is given)."""
    packed = bytes(4 * width) if values is None else values
    return _entry(_FEATURES, _nested(2, _nested(1, packed))) + label


def features_offset(width: int) -> int:
    """Where the first feature lies within the message that `record` makes."""
    return len(record(width, b"")) - 4 * width


def float_label(value: float, name: bytes = _NAME) -> bytes:
    """A label of one float32; a record of predictions has one for each of their names."""
    return _entry(_LABEL, _nested(2, _nested(1, struct.pack("<f", value))), name)


def int_label(value: int) -> bytes:
    # Protobuf sign-extends negative int32 to 64 bits.
    return _entry(_LABEL, _nested(7, _nested(1, _varint(value & 0xFFFFFFFFFFFFFFFF))))


def parse(buffer: NDArray[np.uint8], position: int, start: int, end: int, stop: int) -> Frame:
    """Parses the message in `buffer[start:end]` of the record that spans `[position, stop)`."""
    tensors: dict[int, Tensor] = {}
    for field in _fields(buffer, start, end):
        if field.number in (_FEATURES, _LABEL):
            tensors[field.number] = _map_entry(buffer, _must_be_bytes(field))
    if _FEATURES not in tensors:
        raise RecordIOError(f"the record at byte {position} has no features")
    label = tensors.get(_LABEL)
    if label is not None and label.keys is not None:
        raise RecordIOError(f"the record at byte {position} has a sparse label; give a dense one")
    if label is not None and label.count != 1:
        raise RecordIOError(f"the record at byte {position} has {label.count} labels, not one")
    if tensors[_FEATURES].count == 0:
        raise RecordIOError(f"the record at byte {position} has an empty feature vector")
    return Frame(position, stop - position, tensors[_FEATURES], label)


def _entry(number: int, value: bytes, name: bytes = _NAME) -> bytes:
    return _nested(number, _nested(1, name) + _nested(2, value))


def _nested(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(buffer: NDArray[np.uint8], position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise RecordIOError(f"the message ends within a number at byte {position}")
        byte = int(buffer[position])
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise RecordIOError(f"the number that ends at byte {position} is longer than protobuf allows")


def _fields(buffer: NDArray[np.uint8], position: int, end: int) -> Iterator[_Field]:
    while position < end:
        key, start = _read_varint(buffer, position, end)
        number, wire = key >> 3, key & 7
        if wire == _BYTES:
            length, start = _read_varint(buffer, start, end)
            stop = start + length
        elif wire == _VARINT:
            stop = _read_varint(buffer, start, end)[1]
        elif wire in (_FIXED64, _FIXED32):
            stop = start + (8 if wire == _FIXED64 else 4)
        else:
            raise RecordIOError(f"no protobuf at byte {position}: wire type {wire}")
        if number == 0 or stop > end:
            raise RecordIOError(
                f"no protobuf at byte {position}: a field runs over its message's end"
            )
        yield _Field(number, wire, start, stop)
        position = stop


def _must_be_bytes(field: _Field) -> _Field:
    if field.wire != _BYTES:
        raise RecordIOError(f"no Record message at byte {field.start}: wire type {field.wire}")
    return field


def _map_entry(buffer: NDArray[np.uint8], entry: _Field) -> Tensor:
    name, value = b"", None
    for field in _fields(buffer, entry.start, entry.end):
        if field.number == 1:
            name = buffer[_must_be_bytes(field).start : field.end].tobytes()
        elif field.number == 2:
            value = _must_be_bytes(field)
    if name != _NAME or value is None:
        raise RecordIOError(
            f"the map entry at byte {entry.start} is named {name[:40]!r}; only 'values' can be read"
        )
    for field in _fields(buffer, value.start, value.end):
        if field.number in _TENSOR_KINDS:
            return _tensor(buffer, _must_be_bytes(field), _TENSOR_KINDS[field.number])
    raise RecordIOError(f"the value at byte {value.start} is no float32, float64 or int32 tensor")


def _tensor(buffer: NDArray[np.uint8], tensor: _Field, kind: Kind) -> Tensor:
    pieces: list[_Field] = []
    keys: list[NDArray[np.uint64]] = []
    shape: list[int] = []
    for field in _fields(buffer, tensor.start, tensor.end):
        if field.number == 1:
            pieces.append(field)
        elif field.number == 2:
            keys.append(_unsigned(buffer, field))
        elif field.number == 3:
            shape += [int(size) for size in _unsigned(buffer, field)]
    dense = _one_piece(buffer, pieces, kind) or _many_pieces(buffer, pieces, kind)
    size = math.prod(shape)
    # What a writer of sparse tensors makes of a row of zeros has no keys either, only the shape.
    if any(part.size for part in keys) or (shape and not dense.count):
        if not shape:
            raise RecordIOError(f"the tensor at byte {tensor.start} is sparse and has no shape")
        values = _many_pieces(buffer, pieces, kind).values
        return Tensor(kind, size, 0, 0, values, np.concatenate([*keys, _NO_KEYS]))
    if shape and size != dense.count:
        raise RecordIOError(
            f"the tensor at byte {tensor.start} has {dense.count} values for shape {shape[:8]}"
        )
    return dense


def _unsigned(buffer: NDArray[np.uint8], field: _Field) -> NDArray[np.uint64]:
    if field.wire not in (_BYTES, _VARINT):
        raise RecordIOError(f"the key or size at byte {field.start} is no varint")
    return _varints(buffer[field.start : field.end], field.start)


def _one_piece(buffer: NDArray[np.uint8], pieces: list[_Field], kind: Kind) -> Tensor | None:
    """The tensor as a place in the buffer: one packed field of fixed-width values."""
    if len(pieces) != 1 or pieces[0].wire != _BYTES:
        return None
    start, end = pieces[0].start, pieces[0].end
    if kind == "i4":
        # One varint of one byte is as good as fixed width.
        short = end - start == 1 and buffer[start] < 0x80
        return Tensor(kind, 1, start, end, None) if short else None
    count, rest = divmod(end - start, int(kind[1]))
    return None if rest else Tensor(kind, count, start, end, None)


def _many_pieces(buffer: NDArray[np.uint8], pieces: list[_Field], kind: Kind) -> Tensor:
    """The tensor as values: protobuf allows packed and single values in any mixture."""
    values = [_piece(buffer, piece, kind) for piece in pieces]
    joined = np.concatenate(values) if values else np.empty(0, np.float32)
    return Tensor(kind, joined.size, 0, 0, joined)


def _piece(buffer: NDArray[np.uint8], piece: _Field, kind: Kind) -> NDArray[np.generic]:
    content = buffer[piece.start : piece.end]
    if kind == "i4":
        if piece.wire not in (_BYTES, _VARINT):
            raise RecordIOError(f"the int32 value at byte {piece.start} is no varint")
        # Truncation to 32 bits is what protobuf does with sign-extended negatives.
        return _varints(content, piece.start).astype(np.uint32).view(np.int32)
    width = int(kind[1])
    if piece.wire != _BYTES and piece.wire != (_FIXED32 if width == 4 else _FIXED64):
        raise RecordIOError(f"the {kind} value at byte {piece.start} has wire type {piece.wire}")
    if content.size % width:
        raise RecordIOError(f"the {kind} values at byte {piece.start} end within a value")
    return np.frombuffer(content.tobytes(), f"<{kind}")


def _varints(content: NDArray[np.uint8], start: int) -> NDArray[np.uint64]:
    """All varints that `content` is made of, at once."""
    if not content.size:
        return np.empty(0, np.uint64)
    ends = np.flatnonzero(content < 0x80)
    if not ends.size or ends[-1] != content.size - 1:
        raise RecordIOError(f"the numbers at byte {start} end within a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise RecordIOError(f"a number at or after byte {start} is longer than protobuf allows")
    places = (np.arange(content.size) - np.repeat(starts, lengths)).astype(np.uint64)
    bits = (content & 0x7F).astype(np.uint64) << (places * np.uint64(7))
    return np.bitwise_or.reduceat(bits, starts)
