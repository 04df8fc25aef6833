"""Cuts an object of a transform job into the bodies of its requests.

No more of it than one body and one record is in memory.
"""

from collections.abc import Iterable, Iterator
from io import BufferedIOBase

from sagemaker_local.formats import recordio


class SplitError(ValueError):
    """The object does not have the form that SplitType says, or a record of it is too large."""


def bodies(
    file: BufferedIOBase, split: str, limit: int, *, single: bool, framed: bool
) -> Iterator[bytes]:
    """The bodies in the order of the object's bytes.

    Args:
        file: The object, uncompressed.
        split: `None`, `Line` or `RecordIO`.
        limit: How many bytes a body may have.
        single: Whether each record has a body of its own, or as many as fit share one.
        framed: Whether a record of RecordIO in a body of its own keeps its frame.

    Raises:
        SplitError: What is read next is no such record, or does not fit into a body.
    """
    if split == "None":
        body = file.read(limit + 1)
        _check_size(len(body), limit)
        yield body
        return
    if split == "Line":
        records = _lines(file, limit)
    else:
        records = _frames(file, limit, bare=single and not framed)
    yield from records if single else _packed(records, limit)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise SplitError(
            f"a record has more than the {limit // 2**20} MB that MaxPayloadInMB allows"
        )


def _packed(records: Iterable[bytes], limit: int) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for record in records:
        if parts and size + len(record) > limit:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(record)
        size += len(record)
    if parts:
        yield b"".join(parts)


def _lines(file: BufferedIOBase, limit: int) -> Iterator[bytes]:
    """Lines with their ends; those without anything are no records."""
    while line := file.readline(limit + 1):
        _check_size(len(line), limit)
        if line.strip():
            yield line


def _frames(file: BufferedIOBase, limit: int, *, bare: bool) -> Iterator[bytes]:
    """Records with header and padding, or bare of them."""
    while header := file.read(recordio.HEADER.size):
        if len(header) < recordio.HEADER.size:
            raise SplitError("the object ends within a record")
        magic, length = recordio.HEADER.unpack(header)
        if magic != recordio.MAGIC:
            raise SplitError(f"no RecordIO: the magic number is {magic:#010x}")
        padded = length + -length % 4
        # Before it is read: the length may be any number.
        _check_size(recordio.HEADER.size + padded, limit)
        content = file.read(padded)
        if len(content) < padded:
            raise SplitError("the object ends within a record")
        yield content[:length] if bare else header + content
