"""RecordIO-protobuf: golden bytes, the SDK's layout, irregular framing, sparse rows, garbage."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from formats import recordio

FLOATS = st.floats(width=32, allow_nan=False)


def joined(*args: object, **kwargs: object) -> bytes:
    return b"".join(recordio.encode(*args, **kwargs))  # type: ignore[arg-type]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def nested(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def frame(payload: bytes) -> bytes:
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)


def entry(number: int, tensor: bytes, kind: int = 2, name: bytes = b"values") -> bytes:
    return nested(number, nested(1, name) + nested(2, nested(kind, tensor)))


def f4(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_a_labelled_record_of_784_features_has_the_bytes_amazon_documents() -> None:
    values = np.arange(784, dtype=np.float32)
    expected = (
        bytes.fromhex("0a23d7ce680c0000 0ad118 0a06") + b"values"
        + bytes.fromhex("12c618 12c318 0ac018") + values.tobytes()
        + bytes.fromhex("1212 0a06") + b"values" + bytes.fromhex("1208 1206 0a04") + f4(7.0)
    )  # fmt: skip
    assert len(expected) == 3184
    assert joined(values[None], np.array([7.0], np.float32)) == expected


@pytest.mark.parametrize("chunk_bytes", [1, 250, 1000, 2**20])
def test_the_bytes_do_not_depend_on_the_chunks(
    chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordio, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    features, labels = rng.random((23, 5), np.float32), rng.random(23, np.float32)
    expected = b"".join(
        frame(entry(1, nested(1, row.tobytes())) + entry(2, nested(1, label.tobytes())))
        for row, label in zip(features, labels, strict=True)
    )
    assert joined(features, labels) == expected


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=FLOATS),
    st.sampled_from(["none", "float", "small", "wide"]),
    st.data(),
)
def test_what_is_written_is_read_back(features: np.ndarray, kind: str, data: st.DataObject) -> None:
    rows = len(features)
    labels: np.ndarray | None = {
        "none": lambda: None,
        "float": lambda: data.draw(hnp.arrays(np.float32, rows, elements=FLOATS)),
        "small": lambda: data.draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 9))),
        "wide": lambda: data.draw(
            hnp.arrays(np.int32, rows, elements=st.integers(-(2**23), 2**23))
        ),
    }[kind]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordio, "CHUNK_BYTES", 500)
        read, read_labels = recordio.decode(joined(features, labels))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, features)
    if labels is None:
        assert read_labels is None
    else:
        assert read_labels is not None
        assert read_labels.dtype == np.float32
        np.testing.assert_array_equal(read_labels, labels.astype(np.float32))


@pytest.mark.parametrize(
    "features",
    [np.asfortranarray(np.ones((3, 4), np.float32)), np.ones((6, 8), np.float32)[::2, ::2]],
    ids=["Fortran order", "a strided view"],
)
def test_any_memory_layout_is_written(features: np.ndarray) -> None:
    assert joined(features) == joined(np.ascontiguousarray(features))


def test_chunks_stay_small_and_own_their_memory() -> None:
    features = np.zeros((50_000, 100), np.float32)
    chunks = list(recordio.encode(features))
    assert max(len(chunk) for chunk in chunks) <= 2**20
    features += 1
    assert not np.any(recordio.decode(b"".join(chunks))[0])


VARIANTS: dict[str, Callable[[list[float], int], bytes]] = {
    "label first": lambda v, y: entry(2, nested(1, f4(y))) + entry(1, nested(1, f4(*v))),
    "float64": lambda v, y: (
        entry(1, nested(1, np.array(v).tobytes()), 3) + entry(2, nested(1, struct.pack("<d", y)), 3)
    ),
    "int32": lambda v, y: (
        entry(1, nested(1, b"".join(varint(int(x) % 2**64) for x in v)), 7)
        + entry(2, nested(1, varint(y)), 7)
    ),
    "not packed": lambda v, y: (
        entry(1, b"".join(b"\x0d" + f4(x) for x in v)) + entry(2, b"\x0d" + f4(y))
    ),
    "packed in two pieces": lambda v, y: (
        entry(1, nested(1, f4(*v[:1])) + nested(1, f4(*v[1:]))) + entry(2, nested(1, f4(y)))
    ),
    "with a shape": lambda v, y: (
        entry(1, nested(1, f4(*v)) + nested(3, varint(len(v)))) + entry(2, nested(1, f4(y)))
    ),
    "with a shape not packed": lambda v, y: (
        entry(1, nested(1, f4(*v)) + b"\x18" + varint(len(v))) + entry(2, nested(1, f4(y)))
    ),
    "with uid and metadata": lambda v, y: (
        nested(3, b"id")
        + entry(1, nested(1, f4(*v)))
        + nested(4, b"m")
        + entry(2, nested(1, f4(y)))
    ),
    "value before name": lambda v, y: (
        nested(1, nested(2, nested(2, nested(1, f4(*v)))) + nested(1, b"values"))
        + entry(2, nested(1, f4(y)))
    ),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_form_protobuf_allows_is_read(variant: Callable[[list[float], int], bytes]) -> None:
    rows = [([1.0, -2.0, 300.0], 3), ([4.0, 5.0, 6.0], 200), ([0.0, 1.0, 0.0], 0)]
    features, labels = recordio.decode(b"".join(frame(variant(v, y)) for v, y in rows))
    np.testing.assert_array_equal(features, np.array([v for v, _ in rows], np.float32))
    np.testing.assert_array_equal(labels, np.array([3, 200, 0], np.float32))  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(sorted(VARIANTS)), min_size=1, max_size=60), st.data())
def test_records_of_mixed_framing_keep_their_order(kinds: list[str], data: st.DataObject) -> None:
    labels = [data.draw(st.integers(0, 300)) for _ in kinds]
    content = [
        frame(VARIANTS[kind]([float(n), float(-n), 1.0], label))
        for n, (kind, label) in enumerate(zip(kinds, labels, strict=True))
    ]
    read, read_labels = recordio.decode(b"".join(content))
    assert read.tolist() == [[n, -n, 1.0] for n in range(len(kinds))]
    assert read_labels is not None
    assert read_labels.tolist() == labels


GOOD = frame(entry(1, nested(1, f4(1, 2))))
BAD = {
    "empty": (b"", "holds no record"),
    "no RecordIO": (b"id,name\n1,2\n", "no RecordIO at byte 0"),
    "cut within a header": (GOOD + GOOD[:5], f"header of the record at byte {len(GOOD)}"),
    "cut within a record": (GOOD + GOOD[:-4], f"ends within the record at byte {len(GOOD)}"),
    "a byte too many": (GOOD + b"\0", "ends within the header"),
    "garbage after a record": (GOOD + b"x" * 8, f"no RecordIO at byte {len(GOOD)}"),
    "no features": (frame(entry(2, nested(1, f4(1)))), "has no features"),
    "empty features": (frame(entry(1, b"")), "empty feature vector"),
    "two labels": (frame(entry(1, nested(1, f4(1))) + entry(2, nested(1, f4(1, 2)))), "2 labels"),
    "uneven widths": (GOOD + frame(entry(1, nested(1, f4(1, 2, 3)))), "3 features"),
    "a label that comes late": (
        GOOD + frame(entry(1, nested(1, f4(1, 2))) + entry(2, nested(1, f4(1)))),
        "has a label",
    ),
    "a wrong shape": (frame(entry(1, nested(1, f4(1, 2)) + nested(3, b"\x03"))), "shape"),
    "bytes instead of numbers": (frame(entry(1, nested(1, b"JFIF"), 9)), "no float32"),
    "another name": (frame(entry(1, nested(1, f4(1)), name=b"pixels")), "pixels"),
    "half a float": (frame(entry(1, nested(1, b"\0" * 6))), "end within a value"),
    "an endless number": (frame(b"\xff" * 12), "longer than protobuf allows"),
    "a field beyond its message": (frame(b"\x0a\x7f\x00\x00"), "runs over"),
    "a label without a value": (
        frame(entry(1, nested(1, f4(1))) + entry(2, nested(3, b"\x01"))),
        "sparse label",
    ),
    "too large for float32": (frame(entry(1, nested(1, struct.pack("<d", 1e300)), 3)), "too large"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_not_a_dense_matrix_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(recordio.RecordIOError, match=message):
        recordio.decode(data)


def packed(*numbers: int) -> bytes:
    return b"".join(varint(number) for number in numbers)


def sparse_record(
    keys: bytes, values: bytes, shape: bytes = packed(8), kind: int = 2, label: bytes = b""
) -> bytes:
    return frame(entry(1, nested(1, values) + nested(2, keys) + nested(3, shape), kind) + label)


def as_sparse_records(matrix: sparse.csr_matrix, width: int, kind: str) -> bytes:
    """As Amazon's own writer does it: of a row of zeros it writes the shape alone."""
    number, write = {
        "float32": (2, lambda row: row.astype("<f4").tobytes()),
        "float64": (3, lambda row: row.astype("<f8").tobytes()),
        "int32": (7, lambda row: packed(*(int(value) % 2**64 for value in row))),
    }[kind]
    records = []
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        keys, values = matrix.indices[start:end], matrix.data[start:end]
        filled = nested(1, write(values)) + nested(2, packed(*keys.tolist())) if len(keys) else b""
        records.append(frame(entry(1, filled + nested(3, packed(width)), number)))
    return b"".join(records)


@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=200), fill=st.just(0)),
    st.sampled_from(["float32", "float64", "int32"]),
)
def test_sparse_rows_are_read_as_the_matrix_that_scipy_makes_of_them(
    dense: np.ndarray, kind: str
) -> None:
    matrix = sparse.csr_matrix(dense)
    read, labels = recordio.decode(as_sparse_records(matrix, dense.shape[1], kind))
    assert read.dtype == np.float32
    assert labels is None
    np.testing.assert_array_equal(read, matrix.toarray())


SPARSE = {
    "in any order": sparse_record(packed(5, 0), f4(3, -2)),
    "with a shape of two dimensions": sparse_record(packed(5, 0), f4(3, -2), packed(2, 4)),
    "keys not packed": frame(
        entry(1, nested(1, f4(-2, 3)) + b"\x10\x00" + b"\x10\x05" + nested(3, packed(8)))
    ),
    "keys in two pieces, before the values": frame(
        entry(1, nested(2, b"\0") + nested(2, b"\x05") + nested(1, f4(-2, 3)) + b"\x18\x08")
    ),
    "a zero written out": sparse_record(packed(0, 5, 7), f4(-2, 3, 0)),
    "dense, with an empty field of keys": frame(
        entry(1, nested(1, f4(-2, 0, 0, 0, 0, 3, 0, 0)) + nested(2, b""))
    ),
}


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE.keys())
def test_every_form_of_a_sparse_row_is_scattered_by_its_keys(data: bytes) -> None:
    assert recordio.decode(data)[0].tolist() == [[-2, 0, 0, 0, 0, 3, 0, 0]]


def test_dense_and_sparse_records_may_take_turns_and_keep_their_labels() -> None:
    def label(value: float) -> bytes:
        return entry(2, nested(1, f4(value)))

    full = frame(entry(1, nested(1, f4(*range(8)))) + label(1))
    data = full * 3 + sparse_record(packed(7), f4(9), label=label(2)) + full
    features, labels = recordio.decode(data)
    expected = [[*range(8)]] * 3 + [[0] * 7 + [9]] + [[*range(8)]]
    assert features.tolist() == expected
    assert labels is not None
    assert labels.tolist() == [1, 1, 1, 2, 1]


BAD_SPARSE = {
    "no shape": (frame(entry(1, nested(1, f4(1)) + nested(2, b"\0"))), "has no shape"),
    "a key at the end": (sparse_record(packed(8), f4(1)), "byte 0: the key 8 is beyond"),
    "a key of 64 bits": (sparse_record(packed(2**64 - 1), f4(1)), "the key 18446744073709551615"),
    "a key twice": (sparse_record(packed(3, 1, 3), f4(1, 2, 3)), "the key 3 is given twice"),
    "more keys": (sparse_record(packed(1, 2), f4(1)), "2 keys are given for 1 values"),
    "more values": (sparse_record(packed(1), f4(1, 2)), "1 keys are given for 2 values"),
    "keys alone": (sparse_record(packed(1), b""), "1 keys are given for 0 values"),
    "values for an empty shape": (sparse_record(packed(1), f4(1), packed(0)), "empty feature"),
    "another width": (
        sparse_record(packed(1), f4(1)) + sparse_record(packed(1), f4(1), packed(9)),
        "9 features; those before it have 8",
    ),
    "a shape beyond all memory": (
        sparse_record(packed(1), f4(1), packed(2**62, 2**62)),
        "does not fit into memory",
    ),
    "too large for float32": (
        sparse_record(packed(1), struct.pack("<d", 1e300), kind=3),
        "too large",
    ),
    "keys that are no varints": (
        frame(entry(1, nested(1, f4(1)) + b"\x15" + f4(1) + nested(3, b"\x08"))),
        "no varint",
    ),
    "a sparse label": (
        frame(
            entry(1, nested(1, f4(1)))
            + entry(2, nested(1, f4(1)) + nested(2, b"\0") + nested(3, b"\x01"))
        ),
        "sparse label",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD_SPARSE.values(), ids=BAD_SPARSE.keys())
def test_a_sparse_row_that_could_be_read_wrongly_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(recordio.RecordIOError, match=message):
        recordio.decode(data)


@pytest.mark.parametrize(
    "data",
    [frame(entry(1, nested(1, f4(1, 2)))), sparse_record(packed(1), f4(1), packed(2**40))],
    ids=["dense", "sparse"],
)
def test_a_width_that_is_asked_for_refuses_others_before_they_take_memory(data: bytes) -> None:
    with pytest.raises(
        recordio.RecordIOError, match=r"the record at byte 0 has \d+ features, not 8"
    ):
        recordio.decode(data, 8)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_garbage_is_refused_and_nothing_else_happens(garbage: bytes, length: int) -> None:
    for data in (garbage, frame(garbage), GOOD[:4] + struct.pack("<I", length) + garbage):
        try:
            recordio.decode(data)
        except recordio.RecordIOError:
            continue


@given(st.data())
def test_a_flipped_byte_is_refused_or_read_as_the_same_shape(data: st.DataObject) -> None:
    whole = bytearray(joined(np.ones((3, 4), np.float32), np.ones(3, np.float32)))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        features, _ = recordio.decode(bytes(whole))
    except recordio.RecordIOError:
        return
    assert features.shape == (3, 4)


@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (np.ones((2, 3)), None),
        (np.ones(3, np.float32), None),
        (np.ones((2, 0), np.float32), None),
        (np.ones((2, 3), np.float32), np.ones(3, np.float32)),
        (np.ones((2, 3), np.float32), np.ones(2, np.float64)),
        (np.ones((2, 3), np.float32), np.array([0, 2**31])),
    ],
    ids=["float64", "a vector", "no columns", "labels too many", "float64 labels", "64-bit labels"],
)
def test_what_cannot_be_written_is_refused_before_the_first_chunk(
    features: np.ndarray, labels: np.ndarray | None
) -> None:
    with pytest.raises(recordio.RecordIOError):
        recordio.encode(features, labels)
