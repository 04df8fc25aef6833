"""The public MNIST pickle: real Python 2 files, every malicious or broken one, and writing it."""

import gzip
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats import mnist_pickle
from formats.array_pickle import (
    CorruptError,
    ForbiddenContentError,
    PickleFileError,
    TruncatedError,
)
from formats.mnist_pickle import (
    MnistDataset,
    NotGzipError,
    Split,
    TooLargeError,
    WrongLayoutError,
    WrongValuesError,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")

Pair = tuple[np.ndarray, np.ndarray]


def pair(rows: int = 3) -> Pair:
    images = np.zeros((rows, 784), np.float32)
    images[:500] = np.arange(len(images[:500]) * 784).reshape(-1, 784) % 256 / 256
    return images, np.arange(rows, dtype=np.int64) % 10


def dataset(rows: int = 3) -> MnistDataset:
    return MnistDataset(Split(*pair(rows)), Split(*pair(2)), Split(*pair(1)))


def packed(content: object, protocol: int = 3) -> bytes:
    return gzip.compress(pickle.dumps(content, protocol), 1)


def mini(shared_data: Path, protocol: int) -> bytes:
    return (shared_data / "mnist" / f"mnist_py2_mini_p{protocol}.pkl.gz").read_bytes()


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_files_of_a_real_python_2_are_read_as_pickle_reads_them(
    shared_data: Path, protocol: int
) -> None:
    content = mini(shared_data, protocol)
    read = mnist_pickle.load(content)
    oracle = pickle.loads(gzip.decompress(content), encoding="latin1")
    assert [len(split.labels) for split in read.splits().values()] == [500, 100, 100]
    for split, (images, labels) in zip(read.splits().values(), oracle, strict=True):
        assert split.images.dtype == np.float32
        assert split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.labels, labels)


def test_what_is_written_has_the_bytes_of_python_2s_own_pickle(shared_data: Path) -> None:
    content = mini(shared_data, 2)
    written = mnist_pickle.dump(mnist_pickle.load(content))
    assert gzip.decompress(written) == gzip.decompress(content)


@pytest.mark.parametrize("rows", [1, 255, 256, 65_535, 65_536])
def test_what_is_written_is_read_by_pickle_for_every_width_of_number(rows: int) -> None:
    written = mnist_pickle.dump(dataset(rows))
    (images, labels), _, _ = pickle.loads(gzip.decompress(written), encoding="latin1")
    np.testing.assert_array_equal(images, pair(rows)[0])
    np.testing.assert_array_equal(labels, pair(rows)[1])
    assert images.dtype.str == "<f4"
    assert labels.dtype.str == "<i8"


def test_equal_datasets_make_equal_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    first = mnist_pickle.dump(dataset())
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert mnist_pickle.dump(dataset()) == first
    assert first[4:8] == bytes(4)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_of_python_3_are_read(protocol: int) -> None:
    read = mnist_pickle.load(packed((pair(), pair(2), pair(1)), protocol))
    np.testing.assert_array_equal(read.train.images, pair()[0])
    np.testing.assert_array_equal(read.test.labels, pair(1)[1])


class Evil:
    """Pickles to a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def raw(opcodes: bytes) -> bytes:
    return gzip.compress(opcodes)


NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
OBJECT_DTYPE = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
FLOAT_DTYPE = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"

FORBIDDEN = {
    "os.system": packed(Evil(os.system, "true")),
    "builtins.eval": packed(Evil(eval, "1")),
    "builtins.eval by Python 2's name": raw(b"c__builtin__\neval\n(S'1'\ntR."),
    "getattr": packed(Evil(getattr, dict, "get")),
    "numpy.load": packed(Evil(np.load, "x")),
    "numpy.fromfile": raw(b"cnumpy.core.multiarray\nfromfile\n(S'/etc/passwd'\ntR."),
    "a function within numpy": raw(b"cnumpy.testing\nrundocs\n(S'x.py'\ntR."),
    "a dotted name": raw(b"cnumpy\nndarray.tofile\n(S'x'\ntR."),
    "by stack": raw(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."),
    "an extension code": raw(b"\x80\x02\x82\x01."),
    "an instance": raw(b"(S'true'\nios\nsystem\n."),
    "a persistent id": raw(b"Pabc\n."),
    "an array of objects": packed((np.array([Evil(os.system, "true")], "O"),) * 3),
    "an array of the dtype object": raw(NDARRAY + b"(I1\n(I1\nt" + OBJECT_DTYPE + b"I00\n(lNatb."),
    "the dtype object alone": raw(OBJECT_DTYPE + b"."),
    "a structured dtype": packed(np.zeros(2, [("a", "f4")])),
    "a dtype with metadata": raw(FLOAT_DTYPE + b"(I4\nS'<'\nNNNI-1\nI-1\nI0\n}tb."),
    "a subclass of ndarray": packed(np.ma.masked_array([1.0])),
    "an array of another class": raw(NDARRAY.replace(b"numpy\nndarray", b"numpy\ndtype") + b"."),
    "an array of a size of its own": raw(NDARRAY.replace(b"I0\n", b"I1000000000\n") + b"."),
    "a state set twice": raw(
        FLOAT_DTYPE + b"p0\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb(I3\nS'>'\nNNNI-1\nI-1\nI0\ntb."
    ),
    "a dictionary as state": raw(NDARRAY + b"}b."),
    "the state of a global": raw(b"cnumpy\nndarray\n(I1\ntb."),
    "the state of a tuple": raw(b"(I1\nt(I1\ntb."),
    "an array without a dtype": raw(NDARRAY + b"(I1\n(I1\ntNI00\nS'abcd'\ntb."),
    "an array of a dtype without a byte order": raw(
        NDARRAY + b"(I1\n(I1\nt" + FLOAT_DTYPE + b"I00\nS'abcd'\ntb."
    ),
    "a call of ndarray": raw(b"cnumpy\nndarray\n(I1000000000000\ntR."),
    "a list": packed([1]),
    "a dictionary": packed({}),
    "endless instructions": raw(b"I1\n" * 20_000 + b"."),
    "protocol 5": packed((pair(), pair(), pair()), 5),
}


@pytest.mark.parametrize("content", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_pickle_that_asks_for_more_than_arrays_is_refused(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(*_: object) -> int:
        raise AssertionError("the pickle was obeyed")

    monkeypatch.setattr("os.system", ran)
    with pytest.raises(ForbiddenContentError):
        mnist_pickle.load(content)


GOOD = mnist_pickle.dump(dataset())
MALFORMED = {
    "text": b"this is no pickle",
    "an empty stack": b".",
    "a memo that is empty": b"g1\n.",
    "a tuple that never began": b"t.",
    "a call of nothing": b"I1\nI2\nR.",
    "a number that is none": b"Iabc\n.",
    "a string without quotes": b"Sabc\n.",
    "a string of negative size": b"T\xff\xff\xff\xff.",
    "an array that is never filled": b"(" * 2 + NDARRAY + b"I1\nttt.",
    "an array with too few bytes": (
        NDARRAY + b"(I1\n(I9\nt" + FLOAT_DTYPE
        + b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'abcd'\ntb."
    ),
    "an array of negative shape": (
        NDARRAY + b"(I1\n(I-1\nI-1\nt" + FLOAT_DTYPE
        + b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'abcd'\ntb."
    ),
    "something after the end": gzip.decompress(GOOD) + b"more",
}  # fmt: skip


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_pickle_that_contradicts_itself_is_refused(content: bytes) -> None:
    with pytest.raises(PickleFileError) as caught:
        mnist_pickle.load(raw(content))
    assert isinstance(caught.value, (CorruptError, ForbiddenContentError, WrongLayoutError))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", NotGzipError),
        (b"<?xml version='1.0'?><Error>", NotGzipError),
        (pickle.dumps((pair(), pair(), pair()), 2), NotGzipError),
        (GOOD[:2], TruncatedError),
        (GOOD[:200], TruncatedError),
        (GOOD[:-1], TruncatedError),
        (GOOD[:-8], TruncatedError),
        (gzip.compress(gzip.decompress(GOOD)[:5000]), TruncatedError),
        (gzip.compress(b""), TruncatedError),
        (GOOD[:-8] + bytes(4) + GOOD[-4:], CorruptError),
        (GOOD[:-4] + bytes(4), CorruptError),
        (GOOD[:10] + bytes(b ^ 0xFF for b in GOOD[10:90]) + GOOD[90:], CorruptError),
    ],
    ids=[
        "empty", "an error page", "not compressed", "two bytes", "cut early", "a byte short",
        "without checksum", "a pickle cut before compression", "an empty pickle",
        "wrong CRC", "wrong length", "damaged",
    ],
)  # fmt: skip
def test_an_object_that_is_not_whole_is_refused(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        mnist_pickle.load(content)


IMAGES, LABELS = pair()


def with_value(value: float) -> np.ndarray:
    images = IMAGES.copy()
    images[1, 5] = value
    return images


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (1, WrongLayoutError, "no tuple but a int"),
        ((pair(), pair()), WrongLayoutError, "2 things instead of 3"),
        ((pair(), pair(), IMAGES), WrongLayoutError, "test split holds no tuple"),
        ((pair(), (IMAGES, 7), pair()), WrongLayoutError, "labels of the validation split"),
        (((IMAGES.astype("f8"), LABELS), pair(), pair()), WrongLayoutError, "float64"),
        (((IMAGES.astype(">f4"), LABELS), pair(), pair()), WrongLayoutError, ">f4"),
        (((IMAGES, LABELS.astype("i4")), pair(), pair()), WrongLayoutError, "int32"),
        (((IMAGES[:, :783].copy(), LABELS), pair(), pair()), WrongLayoutError, "783"),
        (((IMAGES, LABELS[:2]), pair(), pair()), WrongLayoutError, "2 labels"),
        (((IMAGES.reshape(3, 28, 28), LABELS), pair(), pair()), WrongLayoutError, "2 dimensions"),
        (((np.asfortranarray(IMAGES), LABELS), pair(), pair()), WrongLayoutError, "column"),
        (((with_value(np.nan), LABELS), pair(), pair()), WrongValuesError, "nan"),
        (((with_value(np.inf), LABELS), pair(), pair()), WrongValuesError, "inf"),
        (((with_value(-0.5), LABELS), pair(), pair()), WrongValuesError, "-0.5"),
        (((IMAGES * 256, LABELS), pair(), pair()), WrongValuesError, "255"),
        (((IMAGES, LABELS + 8), pair(), pair()), WrongValuesError, "8 to 10"),
        (((IMAGES, LABELS - 1), pair(), pair()), WrongValuesError, "-1 to 1"),
    ],
)
def test_arrays_that_are_not_digits_are_refused(
    content: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mnist_pickle.load(packed(content))


def test_digits_that_load_would_refuse_are_not_written() -> None:
    with pytest.raises(WrongValuesError):
        mnist_pickle.dump(MnistDataset(Split(*pair()), Split(*pair()), Split(IMAGES, LABELS + 8)))


def test_a_large_object_is_refused_before_it_is_opened() -> None:
    with pytest.raises(TooLargeError, match="more than the 100 allowed"):
        mnist_pickle.load(GOOD, max_compressed_bytes=100)


# Made when they are needed: some have 64 MiB, and each worker of a test run collects them.
BOMBS: dict[str, Callable[[], bytes]] = {
    "a string that claims 1 GiB": lambda: b"\x80\x02T" + struct.pack("<i", 2**30) + bytes(2**26),
    "bytes that claim 4 GiB": lambda: b"\x80\x03B" + struct.pack("<I", 2**32 - 1) + bytes(2**26),
    "a long line": lambda: b"S'" + b"a" * 2**26 + b"'\n.",
    "a long name": lambda: b"c" + b"a" * 2**26,
    "a memo number of 2**32": lambda: b"I1\nr\xff\xff\xff\xff" + b"I1\n.",
    "a long number": lambda: b"\x8a\xff" + b"\x7f" * 255 + b"1" * 10 + b".",
    "a thousand copies of one text": lambda: (
        b"c_codecs\nencode\nq\0X" + struct.pack("<I", 2**24) + b"a" * 2**24 + b"q\1"
        + b"U\6latin1q\2" + b"h\0h\1h\2\x86R" * 1000 + b"."
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
@linux
def test_a_bomb_costs_no_memory(bomb: Callable[[], bytes]) -> None:
    """In a process of its own, which may not have more than 128 MiB beyond its start."""
    program = """
import resource, sys
from formats import mnist_pickle
content = sys.stdin.buffer.read()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**27,) * 2)
try:
    mnist_pickle.load(content, max_expanded_bytes=2**25)
except mnist_pickle.PickleFileError as error:
    print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=gzip.compress(bomb(), 1),
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().strip() in {
        "TooLargeError",
        "TruncatedError",
        "ForbiddenContentError",
        "WrongLayoutError",
        "CorruptError",
    }, done.stderr.decode()


CAP = 64 * 2**20
NEARLY = CAP * 9 // 10


AT_THE_CAP: dict[str, Callable[[], bytes]] = {
    "a line over the cap": lambda: b"S'" + b"a" * (CAP + 2**20) + b"'\n.",
    "a line to decode": lambda: b"S'" + b"a" * NEARLY + b"'\n.",
    "a name over the cap": lambda: b"c" + b"a" * (CAP + 2**20) + b"\n.",
    "a text to encode": lambda: (
        b"c_codecs\nencode\nX" + struct.pack("<I", NEARLY) + b"a" * NEARLY + b"U\6latin1\x86R."
    ),
}


@pytest.mark.parametrize("opcodes", AT_THE_CAP.values(), ids=AT_THE_CAP.keys())
@linux
def test_the_cap_holds_for_all_that_is_in_memory_at_the_same_time(
    opcodes: Callable[[], bytes],
) -> None:
    """In a process of its own, by the most that it ever had resident; half of the cap is room."""
    program = f"""
import re, sys
from formats import mnist_pickle
content = sys.stdin.buffer.read()
def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
start = kilobytes("VmRSS")
try:
    mnist_pickle.load(content, max_expanded_bytes={CAP})
except mnist_pickle.TooLargeError:
    print(kilobytes("VmHWM") - start)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=gzip.compress(opcodes(), 1),
        capture_output=True,
        check=True,
    )
    assert int(done.stdout) * 1024 < CAP * 1.5


def as_text(some: MnistDataset) -> bytes:
    """As Python 3 writes it in protocol 2: bytes as a text, which is longer than they are."""
    return packed(tuple((item.images, item.labels) for item in some.splits().values()), 2)


@linux
@pytest.mark.parametrize(
    ("pack", "times", "enough"),
    [(mnist_pickle.dump, 2.0, True), (mnist_pickle.dump, 0.9, False), (as_text, 2.7, True)],
    ids=["enough", "too little", "text"],
)
def test_reading_takes_no_more_memory_than_twice_the_arrays(
    pack: Callable[[MnistDataset], bytes], times: float, enough: bool
) -> None:
    """In a process of its own, which may not have more than so many times the arrays."""
    rows = 30_000
    program = f"""
import resource, sys
from formats import mnist_pickle
content = sys.stdin.buffer.read()
pages = int(open("/proc/self/statm").read().split()[0])
arrays = {rows + 3} * (784 * 4 + 8)
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + int({times} * arrays),) * 2)
try:
    print(len(mnist_pickle.load(content).train.labels))
except MemoryError:
    print("not enough")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pack(dataset(rows)),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().strip() == (str(rows) if enough else "not enough")


@settings(max_examples=200)
@given(st.data())
def test_a_mutated_pickle_is_refused_or_still_digits(data: st.DataObject) -> None:
    content = bytearray(gzip.decompress(GOOD))
    # The framing, not the pixels: the first and last bytes of the pickle.
    at = data.draw(
        st.one_of(st.integers(0, 160), st.integers(len(content) - 120, len(content) - 1))
    )
    content[at] = data.draw(st.integers(0, 255))
    try:
        read = mnist_pickle.load(gzip.compress(bytes(content), 1))
    except PickleFileError:
        return
    assert read.train.images.shape == (3, 784)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_pickle_are_refused(opcodes: bytes) -> None:
    with pytest.raises(PickleFileError):
        mnist_pickle.load(raw(opcodes))
