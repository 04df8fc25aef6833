"""Reads a training channel's files as mini-batches of a fixed size, with bounded memory.

RecordIO-protobuf and CSV, plain or gzip. How the files got here is the server's business.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from embedded.sagemaker.payloads import CSV, RECORDIO, Points, media_type, read_csv
from formats import recordio

_BLOCK = 4 * 1024 * 1024
_HEADER = struct.Struct("<II")
_MAGIC = 0xCED7230A


class ChannelError(ValueError):
    """A channel's data cannot be read, or are not what the hyperparameters say."""


@dataclass(frozen=True)
class Channel:
    """A channel as the child finds it on disk."""

    name: str
    content_type: str
    compressed: bool
    files: tuple[Path, ...]


def batches(channel: Channel, size: int, feature_dim: int) -> Iterator[Points]:
    """Mini-batches of (size, feature_dim) float32 in the order of the files; the last is smaller.

    Raises:
        ChannelError: Another content type, damaged data, another width, or no data at all.
    """
    kind, parameters = media_type(channel.content_type or RECORDIO)
    if kind not in (RECORDIO, CSV):
        raise ChannelError(
            f"Content type {channel.content_type} of channel {channel.name} is not supported; "
            f"supported are {RECORDIO} and {CSV};label_size=0"
        )
    # Without label_size AWS takes the first column of CSV for the label.
    skip = int(parameters.get("label_size", "1")) if kind == CSV else 0
    blocks = _csv_blocks if kind == CSV else _record_blocks

    def points() -> Iterator[Points]:
        for path in channel.files:
            try:
                with _open(path, channel.compressed) as file:
                    for block in blocks(file):
                        yield block[:, skip:]
            except (ValueError, OSError, EOFError) as error:
                raise ChannelError(
                    f"Unable to read {path.name} of {channel.name}: {error}"
                ) from error

    empty = True
    for batch in _regroup(points(), size):
        if batch.shape[1] != feature_dim:
            raise ChannelError(
                f"feature_dim is {feature_dim}, but records of channel {channel.name} have "
                f"{batch.shape[1]} values"
            )
        if not np.isfinite(batch).all():
            raise ChannelError(f"channel {channel.name} holds values that are not finite numbers")
        empty = False
        yield batch
    if empty:
        raise ChannelError(f"channel {channel.name} holds no records")


def _open(path: Path, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def _record_blocks(file: BinaryIO) -> Iterator[Points]:
    rest = b""
    while chunk := file.read(_BLOCK):
        data = rest + chunk
        end = _whole_records(data)
        if end:
            yield recordio.decode(memoryview(data)[:end])[0]
        rest = data[end:]
    if rest:
        raise ChannelError("the file ends within a record")


def _whole_records(data: bytes) -> int:
    """Where the last record that is complete in these bytes ends."""
    position = 0
    while position + _HEADER.size <= len(data):
        magic, length = _HEADER.unpack_from(data, position)
        if magic != _MAGIC:
            raise ChannelError(f"no RecordIO: the magic number is {magic:#010x}")
        following = position + _HEADER.size + length + -length % 4
        if following > len(data):
            break
        position = following
    return position


def _csv_blocks(file: BinaryIO) -> Iterator[Points]:
    rest = b""
    while chunk := file.read(_BLOCK):
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        if data[:end].strip():
            yield read_csv(data[:end])
        rest = data[end:]
    if rest.strip():
        yield read_csv(rest)


def _regroup(blocks: Iterable[Points], size: int) -> Iterator[Points]:
    """Cuts blocks of any height into batches of one height."""
    held: list[Points] = []
    count = 0
    for block in blocks:
        if held and block.shape[1] != held[0].shape[1]:
            raise ChannelError(
                f"records differ in width: {held[0].shape[1]} and {block.shape[1]} values"
            )
        while count + len(block) >= size:
            part = size - count
            held.append(block[:part])
            yield _stack(held)
            held, count, block = [], 0, block[part:]
        if len(block):
            held.append(block)
            count += len(block)
    if held:
        yield _stack(held)


def _stack(blocks: list[Points]) -> Points:
    # A copy also frees the batch from the strided, unaligned view of the record bytes.
    return np.concatenate(blocks, dtype=np.float32)
