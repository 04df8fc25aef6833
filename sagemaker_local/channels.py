"""Reads a training channel's files as mini-batches of a fixed size, with bounded memory.

RecordIO-protobuf, dense or sparse, and CSV, plain or gzip. The server has
downloaded the files before; an error names the S3 object that a file is a copy of.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from sagemaker_local.formats import recordio
from sagemaker_local.payloads import CSV, RECORDIO, Points, media_type, read_csv

_BLOCK = 4 * 1024 * 1024


class ChannelError(ValueError):
    """A channel's data cannot be read, or are not what the hyperparameters say."""


class ChannelFile(NamedTuple):
    """A file on disk, and the `s3://` address of the object that it is a copy of."""

    path: Path
    uri: str


@dataclass(frozen=True)
class Channel:
    """A channel as the child finds it on disk."""

    name: str
    content_type: str
    compressed: bool
    files: tuple[ChannelFile, ...]


def batches(channel: Channel, size: int, feature_dim: int) -> Iterator[Points]:
    """Mini-batches of (size, feature_dim) float32 in the order of the files; the last is smaller.

    Raises:
        ChannelError: Another content type, damaged data, another width, or no data at all. The
            message names the object.
    """
    kind, parameters = media_type(channel.content_type or RECORDIO)
    if kind not in (RECORDIO, CSV):
        raise ChannelError(
            f"Content type {channel.content_type} of channel {channel.name} is not supported; "
            f"supported are {RECORDIO} and {CSV};label_size=0"
        )

    def points() -> Iterator[Points]:
        for file in channel.files:
            try:
                with _open(file.path, channel.compressed) as opened:
                    if kind == RECORDIO:
                        blocks = _record_blocks(opened, feature_dim)
                    else:
                        # Without label_size AWS takes the first column of CSV for the label.
                        blocks = _csv_blocks(opened, int(parameters.get("label_size", "1")))
                    for block in blocks:
                        _check(block, feature_dim)
                        yield block
            except _NotFiniteError as error:
                raise ChannelError(
                    f"Unable to read data channel '{channel.name}'. {error} Caused by: {file.uri}"
                ) from error
            except (ValueError, OSError, EOFError, zlib.error) as error:
                reason = error.strerror or error if isinstance(error, OSError) else error
                raise ChannelError(
                    f"Unable to read data channel '{channel.name}'. Requested content-type is "
                    f"'{channel.content_type or RECORDIO}'. Please verify the data matches the "
                    f"requested content-type. Caused by: {file.uri}: {reason} "
                    f"(feature_dim is {feature_dim})"
                ) from error

    empty = True
    for batch in _regroup(points(), size):
        empty = False
        yield batch
    if empty:
        raise ChannelError(_nothing_in(channel))


def _nothing_in(channel: Channel) -> str:
    if not channel.files:
        return (
            f"channel {channel.name} has no object for this instance; S3DataDistributionType "
            "ShardedByS3Key takes at least as many objects as there are instances"
        )
    first, *others = channel.files
    more = f" and {len(others)} more" if others else ""
    return f"channel {channel.name} holds no records: {first.uri}{more} without any"


class _NotFiniteError(ValueError):
    """The data hold what is no number; the text is the algorithm's own."""


def _check(block: Points, feature_dim: int) -> None:
    if block.shape[1] != feature_dim:
        raise ChannelError(
            f"rows have {block.shape[1]} values without the label, not {feature_dim}; "
            "label_size=0 says that there is no label"
        )
    if np.isfinite(block).all():
        return
    if np.isnan(block).any():
        raise _NotFiniteError(
            "Found missing (NaN) values. Please remove any missing (NaN) values in the input data."
        )
    raise _NotFiniteError(
        "Found infinite floating point values. Please remove any infinite floating point values "
        "in the input data."
    )


def _open(path: Path, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def _record_blocks(file: BinaryIO, feature_dim: int) -> Iterator[Points]:
    # A sparse record of few bytes is a whole row in memory: blocks are bounded by rows, too.
    most = max(1, _BLOCK // (4 * feature_dim))
    rest = b""
    while chunk := file.read(_BLOCK):
        data = rest + chunk
        start = 0
        while (end := _whole_records(data, start, most)) > start:
            yield recordio.decode(memoryview(data)[start:end], feature_dim)[0]
            start = end
        rest = data[start:]
    if rest:
        raise ChannelError("the file ends within a record")


def _whole_records(data: bytes, position: int, most: int) -> int:
    """Where the last of at most so many records from `position` on ends that is complete."""
    for _ in range(most):
        if position + recordio.HEADER.size > len(data):
            break
        magic, length = recordio.HEADER.unpack_from(data, position)
        if magic != recordio.MAGIC:
            raise ChannelError(f"no RecordIO: the magic number is {magic:#010x}")
        following = position + recordio.HEADER.size + length + -length % 4
        if following > len(data):
            break
        position = following
    return position


def _csv_blocks(file: BinaryIO, label_size: int) -> Iterator[Points]:
    rest, first = b"", 1
    while chunk := file.read(_BLOCK):
        data = rest + chunk
        end = data.rfind(b"\n") + 1
        if data[:end].strip():
            rows = read_csv(data[:end], first)
            first += len(rows)
            yield rows[:, label_size:]
        rest = data[end:]
    if rest.strip():
        yield read_csv(rest, first)[:, label_size:]


def _regroup(blocks: Iterable[Points], size: int) -> Iterator[Points]:
    """Cuts blocks of any number of rows into batches of `size` rows."""
    parts: list[Points] = []
    count = 0
    for block in blocks:
        while count + len(block) >= size:
            part = size - count
            parts.append(block[:part])
            yield _stack(parts)
            parts, count, block = [], 0, block[part:]
        if len(block):
            parts.append(block)
            count += len(block)
    if parts:
        yield _stack(parts)


def _stack(blocks: list[Points]) -> Points:
    # A copy also frees the batch from the strided, unaligned view of the record bytes.
    return np.concatenate(blocks, dtype=np.float32)
