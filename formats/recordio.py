"""RecordIO-protobuf, the form in which SageMaker's own algorithms take matrices.

It turns float32 matrices with optional labels into bytes, and bytes of dense or sparse records back
into matrices. It does not write sparse records, nor the JSON or CSV forms of an endpoint.

Frame: `u32 magic | u32 length | payload | zeros to a multiple of 4`, little-endian; the payload is
the protobuf message `Record` (features = 1, label = 2, both maps of string to Value). All records
of a dense matrix have the same framing, so whole chunks are written and read as one strided array.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import recordio_message as message
from .recordio_message import Frame, RecordIOError, Tensor

__all__ = ["HEADER", "MAGIC", "RecordIOError", "decode", "encode", "framed", "scattered"]

MAGIC = 0xCED7230A
# Magic number and length of the payload.
HEADER = struct.Struct("<II")
# Fits into a core's own cache until it is written: filling it is a third faster than 8 MiB.
CHUNK_BYTES = 2**20


def encode(
    features: NDArray[np.float32],
    labels: NDArray[np.float32] | NDArray[np.integer] | None = None,
) -> Iterator[memoryview]:
    """Writes a matrix as RecordIO, byte for byte as `sagemaker<3`'s dense encoder does.

    Args:
        features: (N, D) float32.
        labels: (N,) float32, or integers of 32 bits, which become Int32 tensors as in the SDK.

    Yields:
        Chunks of whole records, of at most 1 MiB unless one record is larger; each owns its
            memory. A matrix without rows yields none.

    Raises:
        RecordIOError: A dtype or shape is not one of the above.
    """
    _check_matrix(features)
    if labels is not None:
        _check_labels(labels, len(features))
    record_bytes = len(message.record(features.shape[1], b"")) + 64
    step = max(1, CHUNK_BYTES // record_bytes)
    return _chunks(features, labels, step)


def decode(
    data: bytes | bytearray | memoryview,
    width: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Reads RecordIO whose records all hold one vector and, all or none, one label.

    Tensors may be float32, float64 or int32, vectors dense or sparse; records may differ in
    framing. Where dense neighbours share their framing they are read as one strided view.

    Args:
        data: Whole records.
        width: How many features each must have; by default as many as the first has. It bounds
            the memory that sparse records take, whatever shape they claim.

    Returns:
        The features, (N, D) float32, and the labels, (N,) float32, or None without labels. Where
        the bytes allow it they are read-only views of `data`. Labels beyond 2**24 lose what
        float32 cannot hold.

    Raises:
        RecordIOError: The bytes end early, are no RecordIO, hold no record, hold uneven or partly
            labelled records, or sparse ones without a shape or with keys that are twice there or
            beyond it. The message names the byte where it went wrong.
    """
    buffer = np.frombuffer(data, np.uint8)
    if not buffer.size:
        raise RecordIOError("the data holds no record: it is empty")
    features: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.float32]] = []
    position = 0
    while position < buffer.size:
        frame = _frame(buffer, position)
        _check_even(frame, features, labels, width)
        count = _run_length(buffer, frame)
        rows = buffer[position : position + count * frame.size].reshape(count, frame.size)
        features.append(_column(rows, frame, frame.features))
        if frame.label is not None:
            labels.append(_column(rows, frame, frame.label)[:, 0])
        position += count * frame.size
    return _joined(features), _joined(labels) if labels else None


def framed(payload: bytes) -> bytes:
    """A record with its header and padding."""
    return HEADER.pack(MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


def scattered(
    keys: NDArray[np.uint64], values: NDArray[np.float32], width: int
) -> NDArray[np.float32]:
    """The vector of `width` float32 that has each value at its key, in any order, and else zeros.

    Raises:
        RecordIOError: There are more or fewer keys than values, a key is not below `width` or is
            there twice, or so wide a vector does not fit into memory.
    """
    if keys.size != values.size:
        raise RecordIOError(f"{keys.size} keys are given for {values.size} values")
    ordered = np.sort(keys)
    if keys.size and ordered[-1] >= width:
        raise RecordIOError(f"the key {ordered[-1]} is beyond the shape of {width} values")
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise RecordIOError(f"the key {twice[0]} is given twice")
    try:
        vector = np.zeros(width, np.float32)
    except (MemoryError, ValueError) as error:
        raise RecordIOError(f"a shape of {width} values does not fit into memory") from error
    vector[keys] = values
    return vector


def _check_matrix(features: NDArray[np.float32]) -> None:
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] == 0:
        raise RecordIOError(
            f"features are {features.dtype} of shape {features.shape}; "
            "give float32 of shape (rows, at least one column)"
        )


def _check_labels(labels: NDArray[np.float32] | NDArray[np.integer], rows: int) -> None:
    if labels.shape != (rows,):
        raise RecordIOError(f"labels have shape {labels.shape}; features have {rows} rows")
    if labels.dtype == np.float32:
        return
    if labels.dtype.kind not in "iu":
        raise RecordIOError(f"labels are {labels.dtype}; give float32 or integers")
    if rows and (labels.min() < -(2**31) or labels.max() >= 2**31):
        raise RecordIOError("an integer label does not fit into 32 bits")


class _Layout(NamedTuple):
    """One record in bytes, its values zero, and where they go.

    Attributes:
        record: Header, message and padding.
        features: Where the first feature lies.
        label: Where the label's value lies.
    """

    record: NDArray[np.uint8]
    features: int
    label: int


def _chunks(
    features: NDArray[np.float32],
    labels: NDArray[np.float32] | NDArray[np.integer] | None,
    step: int,
) -> Iterator[memoryview]:
    layout = _layout(features.shape[1], None if labels is None else labels.dtype)
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        if labels is None:
            yield _even_chunk(layout, rows, None)
            continue
        part = labels[start : start + step]
        if part.dtype == np.float32:
            yield _even_chunk(layout, rows, part.astype("<f4", copy=False))
        elif part.min() >= 0 and part.max() < 128:
            yield _even_chunk(layout, rows, part.astype(np.uint8))
        else:
            yield _uneven_chunk(rows, part.astype(np.int64))


def _layout(width: int, labels: np.dtype[np.generic] | None) -> _Layout:
    if labels is None:
        label, size = b"", 0
    elif labels == np.float32:
        label, size = message.float_label(0.0), 4
    else:
        label, size = message.int_label(0), 1
    payload = message.record(width, label)
    # The label's value is the last thing in the message, before the padding.
    return _Layout(
        record=np.frombuffer(framed(payload), np.uint8),
        features=HEADER.size + message.features_offset(width),
        label=HEADER.size + len(payload) - size,
    )


def _even_chunk(
    layout: _Layout,
    rows: NDArray[np.float32],
    labels: NDArray[np.float32] | NDArray[np.uint8] | None,
) -> memoryview:
    """The framing of one record is repeated for each, and the values are filled in."""
    first, width = layout.features, rows.shape[1]
    end = first + width * 4
    chunk = np.empty((len(rows), layout.record.size), np.uint8)
    chunk[:, :first] = layout.record[:first]
    chunk[:, end:] = layout.record[end:]
    # A view of (rows, D) float32 at an odd stride: NumPy copes with unaligned stores.
    _field(chunk, first, "<f4", width)[:] = rows
    if labels is not None:
        _field(chunk, layout.label, labels.dtype, 1)[:, 0] = labels
    return chunk.reshape(-1).data


def _uneven_chunk(rows: NDArray[np.float32], labels: NDArray[np.int64]) -> memoryview:
    """Int32 labels are varints: from 128 on, and below 0, records differ in length."""
    parts = [
        framed(message.record(len(row), message.int_label(int(label)), row.astype("<f4").tobytes()))
        for row, label in zip(rows, labels, strict=True)
    ]
    return memoryview(b"".join(parts))


def _field(
    rows: NDArray[np.uint8], offset: int, dtype: np.dtype[np.generic] | str, width: int
) -> NDArray[np.generic]:
    kind = np.dtype(dtype)
    return np.ndarray(
        (len(rows), width), kind, rows, offset, strides=(rows.shape[1], kind.itemsize)
    )


def _frame(buffer: NDArray[np.uint8], position: int) -> Frame:
    """Parses the one record that starts at `position`."""
    start = position + HEADER.size
    if start > buffer.size:
        raise RecordIOError(f"the data ends within the header of the record at byte {position}")
    magic, length = HEADER.unpack(buffer[position:start].tobytes())
    if magic != MAGIC:
        raise RecordIOError(
            f"no RecordIO at byte {position}: the magic number is {magic:#010x}, not {MAGIC:#010x}"
        )
    end = start + length + -length % 4
    if end > buffer.size:
        raise RecordIOError(
            f"the data ends within the record at byte {position}: "
            f"{end - position} bytes announced, {buffer.size - position} there"
        )
    return message.parse(buffer, position, start, start + length, end)


def _check_even(
    frame: Frame,
    features: list[NDArray[np.float32]],
    labels: list[NDArray[np.float32]],
    width: int | None,
) -> None:
    if width is not None and frame.features.count != width:
        raise RecordIOError(
            f"the record at byte {frame.position} has {frame.features.count} features, not {width}"
        )
    if not features:
        return
    width = features[0].shape[1]
    if frame.features.count != width:
        raise RecordIOError(
            f"the record at byte {frame.position} has {frame.features.count} features; "
            f"those before it have {width}"
        )
    if (frame.label is not None) != bool(labels):
        raise RecordIOError(
            f"the record at byte {frame.position} {'has' if not labels else 'lacks'} a label, "
            "unlike those before it"
        )


def _run_length(buffer: NDArray[np.uint8], frame: Frame) -> int:
    """How many records from this one on differ in nothing but their values.

    The window doubles, so that data of ever-changing framing cost no more than linear time.
    """
    if not frame.strided:
        return 1
    available = (buffer.size - frame.position) // frame.size
    fixed = np.ones(frame.size, np.bool_)
    for tensor in frame.tensors:
        fixed[tensor.start - frame.position : tensor.end - frame.position] = False
    columns = np.flatnonzero(fixed)
    first = buffer[frame.position : frame.position + frame.size][columns]
    run, window = 1, 64
    while run < available:
        stop = min(available, run + window)
        start = frame.position + run * frame.size
        rows = buffer[start : frame.position + stop * frame.size].reshape(stop - run, frame.size)
        same = (rows[:, columns] == first).all(axis=1)
        if frame.label is not None and frame.label.kind == "i4":
            # A byte with its high bit set begins a longer varint: another framing.
            same &= rows[:, frame.label.start - frame.position] < 128
        if not same.all():
            return run + int(same.argmin())
        run, window = stop, window * 2
    return run


def _column(rows: NDArray[np.uint8], frame: Frame, tensor: Tensor) -> NDArray[np.float32]:
    if tensor.values is not None:
        values = _as_float32(tensor.values.reshape(1, -1), frame)
        return values if tensor.keys is None else _row(tensor.keys, values[0], frame)
    dtype = np.dtype(np.uint8) if tensor.kind == "i4" else np.dtype(f"<{tensor.kind}")
    return _as_float32(_field(rows, tensor.start - frame.position, dtype, tensor.count), frame)


def _row(
    keys: NDArray[np.uint64], values: NDArray[np.float32], frame: Frame
) -> NDArray[np.float32]:
    try:
        return scattered(keys, values, frame.features.count)[None]
    except RecordIOError as error:
        raise RecordIOError(f"the record at byte {frame.position}: {error}") from None


def _as_float32(values: NDArray[np.generic], frame: Frame) -> NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            # Without a conversion this is a view: a matrix is not held twice.
            return values.astype(np.float32, copy=not values.flags.aligned)
    except FloatingPointError as error:
        raise RecordIOError(
            f"a value at or after byte {frame.position} is too large for float32"
        ) from error


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
