"""MXNet NDArray files of all three versions, and the model archive around one."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from formats import ndarray_file
from formats.ndarray_file import NDArrayFileError

DTYPES = ["f4", "f8", "f2", "u1", "i4", "i1", "i8"]
CENTROIDS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_model_has_the_bytes_that_mxnet_writes() -> None:
    expected = (
        struct.pack("<QQQ", 0x112, 0, 1)
        + struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2, 3)
        + struct.pack("<iii", 1, 0, 0)
        + struct.pack("<6f", 0, 1, 2, 3, 4, 5)
        + struct.pack("<Q", 0)
    )
    assert ndarray_file.encode([CENTROIDS]) == expected


@given(st.lists(hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(max_side=4)), max_size=4))
def test_what_is_written_is_read_back(arrays: list[np.ndarray]) -> None:
    names = [f"naïve {n}" for n in range(len(arrays))]
    read = ndarray_file.decode(ndarray_file.encode(arrays, names))
    assert list(read.names) == names
    assert len(read.arrays) == len(arrays)
    for result, expected in zip(read.arrays, arrays, strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<IIqq", 0xF993FAC8, 2, 2, 3),
        struct.pack("<III", 2, 2, 3),
        struct.pack("<IiIqq", 0xF993FAC9, 0, 2, 2, 3),
    ],
    ids=["V1", "before V1", "V2"],
)
def test_all_versions_and_devices_are_read(head: bytes) -> None:
    on_gpu = struct.pack("<iii", 2, 3, 0)
    data = struct.pack("<QQQ", 0x112, 0, 1) + head + on_gpu + CENTROIDS.tobytes() + bytes(8)
    np.testing.assert_array_equal(ndarray_file.decode(data).arrays[0], CENTROIDS)


def array_file(head: bytes, *, count: int = 1) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, count) + head


V2 = struct.pack("<Ii", 0xF993FAC9, 0)
BAD = {
    "empty": (b"", "ends early"),
    "another file": (b"PK\3\4" + bytes(40), "no NDArray file"),
    "more arrays than bytes": (array_file(b"", count=2**60), "ends early"),
    "huge shape": (
        array_file(V2 + struct.pack("<Iqqiii", 2, 2**40, 2**40, 1, 0, 0)),
        "ends early",
    ),
    "negative shape": (array_file(V2 + struct.pack("<Iqqiii", 2, -1, -1, 1, 0, 0)), "shape"),
    "empty but huge shape": (
        array_file(V2 + struct.pack("<Iqqiii", 2, 0, 2**62, 1, 0, 1)),
        "impossible shape",
    ),
    "unknown dtype": (array_file(V2 + struct.pack("<Iqiii", 1, 1, 1, 0, 77)), "dtype number 77"),
    "sparse": (array_file(struct.pack("<Ii", 0xF993FAC9, 1) + bytes(40)), "sparse"),
    "no dimension": (array_file(V2 + struct.pack("<Iiii", 0, 1, 0, 0)), "ndim 0"),
    "ten thousand dimensions": (array_file(V2 + struct.pack("<I", 10_000) + bytes(80)), "ndim"),
    "trailing bytes": (ndarray_file.encode([CENTROIDS]) + b"\0", "1 bytes follow"),
    "names for nobody": (array_file(struct.pack("<Q", 3), count=0), "3 names for 0"),
    "a name that is no text": (
        ndarray_file.encode([CENTROIDS], ["ab"])[:-2] + b"\xff\xff",
        "not UTF-8",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_no_ndarray_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(NDArrayFileError, match=message):
        ndarray_file.decode(data)


@given(st.integers(0, 75))
def test_a_cut_file_is_refused_wherever_it_is_cut(length: int) -> None:
    whole = ndarray_file.encode([CENTROIDS])
    with pytest.raises(NDArrayFileError):
        ndarray_file.decode(whole[: min(length, len(whole) - 1)])


@pytest.mark.parametrize(
    ("arrays", "names"),
    [([np.array(1.0)], ()), ([np.zeros(2, "O")], ()), ([CENTROIDS], ("a", "b"))],
    ids=["no dimension", "objects", "too many names"],
)
def test_what_cannot_be_written_is_refused(
    arrays: list[np.ndarray], names: tuple[str, ...]
) -> None:
    with pytest.raises(NDArrayFileError):
        ndarray_file.encode(arrays, names)


def test_a_packed_model_unpacks_with_tar_and_with_us() -> None:
    packed = ndarray_file.pack_model(CENTROIDS)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        assert archive.getnames() == ["model_algo-1"]
        stored = archive.extractfile("model_algo-1")
        assert stored is not None
        assert stored.read() == ndarray_file.encode([CENTROIDS])
    np.testing.assert_array_equal(ndarray_file.unpack_model(packed), CENTROIDS)


def test_a_packed_model_depends_on_nothing_but_its_centroids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = ndarray_file.pack_model(CENTROIDS)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert ndarray_file.pack_model(CENTROIDS.copy(order="F")) == first


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MODEL = ndarray_file.encode([CENTROIDS])


def test_other_members_are_passed_over_and_nothing_is_written() -> None:
    packed = archive_of(
        (member("../../etc/passwd"), b"evil"),
        (member("/tmp/evil"), b"evil"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("./model_algo-1"), MODEL),
    )
    np.testing.assert_array_equal(ndarray_file.unpack_model(packed), CENTROIDS)


BAD_MODELS = {
    "no gzip": (b"model", "damaged or no tar.gz"),
    "no tar": (gzip.compress(b"model" * 300), "damaged or no tar.gz"),
    "empty": (b"", "damaged or no tar.gz"),
    "cut": (ndarray_file.pack_model(CENTROIDS)[:-20], "damaged"),
    "checksum": (ndarray_file.pack_model(CENTROIDS)[:-8] + bytes(8), "damaged"),
    "no model": (archive_of((member("state_1"), b"x")), "holds no model_algo-1"),
    "absolute": (archive_of((member("/model_algo-1"), MODEL)), "holds no model_algo-1"),
    "link": (archive_of((member("model_algo-1", tarfile.SYMTYPE, "/etc/passwd"), b"")), "regular"),
    "twice": (
        archive_of((member("model_algo-1"), MODEL), (member("model_algo-1"), MODEL)),
        "twice",
    ),
    "many members": (archive_of(*[(member(f"m{n}"), b"") for n in range(100)]), "more than 64"),
    "two arrays": (
        archive_of((member("model_algo-1"), ndarray_file.encode([CENTROIDS, CENTROIDS]))),
        "2 arrays",
    ),
    "a vector": (
        archive_of((member("model_algo-1"), ndarray_file.encode([CENTROIDS[0]]))),
        "shape",
    ),
    "not finite": (
        archive_of((member("model_algo-1"), ndarray_file.encode([CENTROIDS * np.float32(np.nan)]))),
        "not finite",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_what_is_no_model_archive_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(NDArrayFileError, match=message):
        ndarray_file.unpack_model(data)


@pytest.mark.parametrize("name", ["other", "model_algo-1"])
def test_a_bomb_is_stopped_while_it_expands(name: str) -> None:
    bomb = archive_of((member(name), bytes(8 * 2**20)), (member("model_algo-1"), MODEL))
    assert len(bomb) < 20_000
    with pytest.raises(NDArrayFileError, match="expands to more than 1048576 bytes"):
        ndarray_file.unpack_model(bomb, max_bytes=2**20)
