"""Files of a training channel: a fault names the object in S3, and memory is limited."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sagemaker_local.channels import Channel, ChannelError, ChannelFile, batches
from tests.sagemaker_local.rig import DIMENSIONS, as_csv, as_recordio, as_sparse_recordio, blobs

RECORDIO, CSV = "application/x-recordio-protobuf", "text/csv;label_size=0"
POINTS = blobs(20)[0]
URI = "s3://bucket/a key/part 2.rec"


def holding(value: float) -> np.ndarray:
    """The points with one value replaced."""
    points = POINTS.copy()
    points[7, 3] = value
    return points


def write(folder: Path, *bodies: bytes) -> tuple[ChannelFile, ...]:
    """Writes a file for each body; the last has the address `URI`."""
    for number, body in enumerate(bodies):
        (folder / f"{number:06d}").write_bytes(body)
    last = len(bodies) - 1
    return tuple(
        ChannelFile(folder / f"{number:06d}", URI if number == last else f"s3://bucket/{number}")
        for number in range(len(bodies))
    )


BAD: dict[str, tuple[str, bytes, str]] = {
    "cut short": (RECORDIO, as_recordio(POINTS)[:-5], "the file ends within a record"),
    "cut within a header": (RECORDIO, as_recordio(POINTS) + b"\x0a", "ends within a record"),
    "no RecordIO": (RECORDIO, as_csv(POINTS), "no RecordIO: the magic number is"),
    "no message": (RECORDIO, bytes.fromhex("0a23d7ce04000000") + b"\xff" * 4, "ends within a num"),
    "another width": (RECORDIO, as_recordio(POINTS[:, 1:]), "has 15 features, not 16"),
    "another width, sparse": (
        RECORDIO,
        as_sparse_recordio(POINTS[:, 1:]),
        "has 15 features, not 16",
    ),
    "a key twice": (
        RECORDIO,
        as_sparse_recordio(POINTS[:1]).replace(bytes(range(16)), bytes([1, *range(1, 16)])),
        "the key 1 is given twice",
    ),
    "another width, CSV": (CSV, as_csv(POINTS[:, 1:]), "rows have 15 values"),
    "a label that is none": ("text/csv", as_csv(POINTS), "rows have 15 values without the label"),
    "a header": (CSV, b"a," * 15 + b"secret\n" + as_csv(POINTS), "row 1, column 1 is no number"),
    "uneven rows": (CSV, as_csv(POINTS) + b"\n1,2\n", "row 21 has 2 values and row 1 has 16"),
    "no number": (CSV, as_csv(POINTS) + b"\n" + b"1," * 15 + b"secret", "row 21, column 16"),
    "a number as Python writes it": (CSV, b"1," * 15 + b"1_0", "row 1, column 16 is no number"),
    "NaN": (RECORDIO, as_recordio(holding(np.nan)), "Found missing (NaN) values."),
    "NaN, sparse": (RECORDIO, as_sparse_recordio(holding(np.nan)), "Found missing (NaN) values."),
    "NaN, CSV": (CSV, as_csv(holding(np.nan)), "Found missing (NaN) values."),
    "infinite": (RECORDIO, as_recordio(holding(-np.inf)), "Found infinite floating point values."),
    "infinite, CSV": (CSV, as_csv(holding(np.inf)), "Found infinite floating point values."),
}


@pytest.mark.parametrize(("kind", "body", "words"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_an_error_names_the_bad_object_and_no_local_file(
    tmp_path: Path, kind: str, body: bytes, words: str, compressed: bool
) -> None:
    good = (as_csv if kind.startswith("text") else as_recordio)(POINTS)
    if kind == "text/csv":
        good = as_csv(np.column_stack([np.zeros(len(POINTS), np.float32), POINTS]))
    pack: Callable[[bytes], bytes] = gzip.compress if compressed else bytes
    files = write(tmp_path, pack(good), pack(body))
    with pytest.raises(ChannelError) as caught:
        list(batches(Channel("train", kind, compressed, files), 8, DIMENSIONS))
    reason = str(caught.value)
    assert words in reason
    assert reason.startswith("Unable to read data channel 'train'. ")
    assert f"Caused by: {URI}" in reason
    assert str(tmp_path) not in reason
    assert "000001" not in reason
    assert "secret" not in reason


@pytest.mark.parametrize(
    "body",
    [
        as_recordio(POINTS),
        gzip.compress(as_recordio(POINTS))[:-20],
        gzip.compress(as_recordio(POINTS))[:20] + b"\xff" * 200,
    ],
    ids=["no gzip", "cut short", "damaged"],
)
def test_an_error_names_an_object_that_is_no_complete_gzip(tmp_path: Path, body: bytes) -> None:
    files = write(tmp_path, gzip.compress(as_recordio(POINTS)), body)
    with pytest.raises(ChannelError, match=f"Caused by: {URI}: "):
        list(batches(Channel("train", RECORDIO, True, files), 8, DIMENSIONS))


@pytest.mark.parametrize("kind", [RECORDIO, CSV])
def test_empty_objects_are_skipped_and_an_error_where_there_are_no_others(
    tmp_path: Path, kind: str
) -> None:
    good = (as_csv if kind == CSV else as_recordio)(POINTS)
    files = write(tmp_path, b"", good, b"")
    read = list(batches(Channel("train", kind, False, files), 100, DIMENSIONS))
    np.testing.assert_array_equal(np.concatenate(read), POINTS)
    with pytest.raises(ChannelError, match="holds no records: s3://bucket/0 and 1 more"):
        list(batches(Channel("train", kind, False, (files[0], files[2])), 100, DIMENSIONS))


def test_an_error_has_the_number_of_the_row_in_the_file(tmp_path: Path) -> None:
    """Not in the block: the file is read in blocks."""
    rows = 300_000
    files = write(tmp_path, b"1,2,3,4,5,6,7,8\n" * rows + b"1,2,3,4,5,6,7,no\n")
    with pytest.raises(ChannelError, match=f"row {rows + 1}, column 8 is no number"):
        list(batches(Channel("train", CSV, False, files), 1000, 8))


def test_sparse_rows_take_no_more_memory_than_dense_ones(tmp_path: Path) -> None:
    """A sparse row of zeros has 32 bytes, and 64 KB as a dense one."""
    rows, width = 500, 16_000
    record = as_sparse_recordio(np.zeros((1, width), np.float32))
    files = write(tmp_path, record * rows)
    tracemalloc.start()
    try:
        read = sum(len(b) for b in batches(Channel("train", RECORDIO, False, files), 10, width))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == rows
    # All rows would be 32 MB. At most 4 MiB are held, and twice that while they are joined.
    assert peak < 16 * 2**20
