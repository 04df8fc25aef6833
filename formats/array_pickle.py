"""A reader of pickles that hold NumPy arrays in tuples, and nothing else.

It interprets the few pickle opcodes that Python 2 (protocols 0 to 2) and Python 3 (protocols 2 to
4) write for arrays. `formats.mnist_pickle` deals with gzip, and with what the arrays mean.

`pickle.Unpickler` with a narrowed `find_class` is not safe enough: a memo index of 2**31 makes it
allocate 16 GB, and a deeply nested tuple used as a key overflows the C stack. `pickletools.genops`
cannot check the stream beforehand, since it fails on Python 2's binary strings of protocol 0. Here
a global name is a token that never becomes an object, and an array is a view of bytes that were
read.
"""

from __future__ import annotations

import codecs
import math
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from formats.errors import FormatError

__all__ = [
    "CorruptError",
    "ForbiddenContentError",
    "PickleFileError",
    "TruncatedError",
    "load",
]

_MAX_OPCODES = 10_000
_MAX_LINE = 4096
_PIECE = 2**20
_MAX_PROTOCOL = 4

# NumPy moved its C module in 2.0; both names stand for the same function in pickles.
_RECONSTRUCT = frozenset(
    {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
)
_NDARRAY, _DTYPE = "numpy ndarray", "numpy dtype"
# How Python 3 writes bytes in protocols 0 to 2, which know only text: as Latin-1 to be encoded.
_ENCODE = "_codecs encode"
_KINDS = "biuf"


class PickleFileError(FormatError):
    """The file is not a pickle of arrays as it should be."""


class CorruptError(PickleFileError):
    """The bytes contradict their checksum or their own format."""


class TruncatedError(PickleFileError):
    """The file ends before its content does."""


class ForbiddenContentError(PickleFileError):
    """The pickle asks for something other than numeric NumPy arrays, in tuples."""


class Stream(Protocol):
    """The source of the bytes, and the limit of what may be held of them.

    `read` and `readline` raise, or return fewer bytes, where it ends. Every method raises where
    more would be held than may be; `hold` is told of what is made of the bytes beside them.
    """

    def read(self, size: int, /) -> bytearray: ...
    def readline(self) -> bytearray: ...
    def hold(self, size: int, /) -> None: ...


def load(stream: Stream) -> object:
    """Reads one pickle up to its STOP.

    Returns:
        Tuples of NumPy arrays (in the order and byte order of the pickle), numbers, bytes and None.

    Raises:
        PickleFileError: The pickle is corrupt, truncated or forbidden. Errors of `stream` pass
            through.
    """
    return _Interpreter(stream).run()


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


@dataclass(slots=True)
class _DType:
    code: str
    complete: np.dtype[Any] | None = None


@dataclass(slots=True)
class _Array:
    complete: NDArray[Any] | None = None


# What the instruction MARK leaves on the stack.
_MARK = object()


class _Interpreter:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(_MAX_OPCODES):
            code = bytes(self.take(1))
            if code == pickle.STOP:
                return _finished(self.pop())
            action = _ACTIONS.get(code)
            if action is None:
                raise ForbiddenContentError(f"the pickle uses {_opcode_name(code)}; {_ONLY}")
            action(self)
        raise ForbiddenContentError(
            f"the pickle has more than {_MAX_OPCODES} instructions; {_ONLY}"
        )

    # Reading

    def take(self, size: int) -> bytearray:
        data = self._stream.read(size)
        if len(data) != size:
            raise TruncatedError("the pickle ends before its STOP")
        return data

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def _line(self) -> bytearray:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise TruncatedError("the pickle ends before its STOP")
        return line

    def _short_line(self) -> str:
        line = self._line()
        if len(line) > _MAX_LINE:
            raise CorruptError(f"the pickle has a name or number of {len(line) - 1} bytes")
        return line[:-1].decode("latin-1")

    def decimal(self) -> int:
        text = self._short_line()
        try:
            return int(text.removesuffix("L"))
        except ValueError as error:
            raise CorruptError(f"the pickle has {text[:40]!r} for a number") from error

    # The stack

    def pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise CorruptError("the pickle takes more off its stack than it holds")
        return self._stack.pop()

    def push(self, value: object) -> None:
        self._stack.append(value)

    # The instructions

    def proto(self) -> None:
        protocol = self.number("<B")
        if protocol > _MAX_PROTOCOL:
            raise ForbiddenContentError(f"the pickle is of protocol {protocol}; {_ONLY}")

    def frame(self) -> None:
        self.take(8)

    def global_(self) -> None:
        module, name = self._short_line(), self._short_line()
        self._push_global(f"{module} {name}")

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self._push_global(f"{_text(module)} {_text(name)}")

    def _push_global(self, name: str) -> None:
        if name not in _RECONSTRUCT and name not in (_NDARRAY, _DTYPE, _ENCODE):
            raise ForbiddenContentError(
                f"the pickle asks for {name.replace(' ', '.')[:100]!r}; {_ONLY}"
            )
        self.push(_Global(name))

    def tuple_to_mark(self) -> None:
        mark = len(self._stack) - 1
        while mark >= 0 and self._stack[mark] is not _MARK:
            mark -= 1
        if mark < 0:
            raise CorruptError("the pickle ends a tuple that it did not begin")
        items = tuple(self._stack[mark + 1 :])
        del self._stack[mark:]
        self.push(items)

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def put(self, index: int) -> None:
        value = self.pop()
        self.push(value)
        self._memo[index] = value

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise CorruptError(f"the pickle takes number {index} from its memo, which has none")
        self.push(self._memo[index])

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def string(self) -> None:
        # A view: in protocol 0 a whole matrix is one line, four characters for a byte.
        quoted = memoryview(self._line())[:-1]
        if len(quoted) < 2 or quoted[0] not in b"'\"" or quoted[-1] != quoted[0]:
            raise CorruptError("the pickle has a string without quotes")
        self._stream.hold(len(quoted))
        try:
            value, _ = codecs.escape_decode(quoted[1:-1])
        except ValueError as error:
            raise CorruptError("the pickle has a string with a bad escape") from error
        self.push(value)

    def counted(self, layout: str) -> None:
        size = self.number(layout)
        if size < 0:
            raise CorruptError(f"the pickle has a string of {size} bytes")
        self.push(self.take(size))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise CorruptError("the pickle calls something that is no function")
        self.push(self._call(function.name, cast("tuple[object, ...]", arguments)))

    def _call(self, function: str, arguments: tuple[object, ...]) -> _Array | _DType | bytearray:
        if function in _RECONSTRUCT:
            if len(arguments) != 3 or arguments[0] != _Global(_NDARRAY) or arguments[1] != (0,):
                raise ForbiddenContentError(f"the pickle makes an array of another class; {_ONLY}")
            return _Array()
        if function == _DTYPE and arguments:
            code = _text(arguments[0])
            # Letters such as O, V or M make NumPy do more than look at numbers.
            if len(code) > 2 or code[:1] not in _KINDS or not code[1:].isdigit():
                raise ForbiddenContentError(f"the pickle has the dtype {code[:40]!r}; {_ONLY}")
            return _DType(code)
        if function == _ENCODE and len(arguments) == 2 and _text(arguments[1]) == "latin1":
            return self._latin1(arguments[0])
        raise ForbiddenContentError(f"the pickle calls {function.replace(' ', '.')}; {_ONLY}")

    def _latin1(self, text: object) -> bytearray:
        """A text's characters as bytes, piece by piece: the text is not held a third time."""
        if not isinstance(text, (bytes, bytearray)):
            raise CorruptError("the pickle has something else where a text belongs")
        decoder = codecs.getincrementaldecoder("utf-8")()
        encoded = bytearray()
        try:
            for start in range(0, len(text), _PIECE):
                piece = decoder.decode(text[start : start + _PIECE]).encode("latin-1")
                self._stream.hold(len(piece))
                encoded += piece
            decoder.decode(b"", final=True)
        except UnicodeError as error:
            raise CorruptError("the pickle has bytes that are not written as Latin-1") from error
        return encoded

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if not isinstance(state, tuple):
            raise ForbiddenContentError(f"the pickle sets a state of its own making; {_ONLY}")
        items = cast("tuple[object, ...]", state)
        if isinstance(target, _Array) and target.complete is None:
            target.complete = _array(items)
        elif isinstance(target, _DType) and target.complete is None:
            target.complete = _dtype(target.code, items)
        else:
            raise ForbiddenContentError(f"the pickle sets the state of another object; {_ONLY}")
        self.push(target)


_ONLY = "only NumPy arrays of numbers, in tuples, are read"


def _opcode_name(code: bytes) -> str:
    for opcode in pickletools.opcodes:
        if opcode.code.encode("latin-1") == code:
            return f"the instruction {opcode.name}"
    return f"the unknown instruction {code!r}"


def _text(value: object) -> str:
    if isinstance(value, (bytes, bytearray)):
        return value[:_MAX_LINE].decode("latin-1")
    raise CorruptError("the pickle has something else where a name belongs")


def _dtype(code: str, state: tuple[object, ...]) -> np.dtype[Any]:
    # (version, byte order, subarray, names, fields, itemsize, alignment, flags)
    if len(state) < 5 or any(item is not None for item in state[2:5]):
        raise ForbiddenContentError(f"the pickle has a structured dtype; {_ONLY}")
    order = _text(state[1])
    if order not in ("<", ">", "=", "|"):
        raise CorruptError(f"the pickle has a dtype with the byte order {order[:40]!r}")
    try:
        return np.dtype(f"{order}{code}")
    except TypeError as error:
        raise CorruptError(f"the pickle has the unknown dtype {code!r}") from error


def _array(state: tuple[object, ...]) -> NDArray[Any]:
    if len(state) != 5:
        raise CorruptError("the pickle has an array whose state is not as NumPy writes it")
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, _DType) or dtype.complete is None:
        raise ForbiddenContentError(f"the pickle has an array without a numeric dtype; {_ONLY}")
    if not isinstance(data, (bytes, bytearray)):
        raise ForbiddenContentError(f"the pickle has an array that does not hold bytes; {_ONLY}")
    sizes = _shape(shape)
    needed = math.prod(sizes) * dtype.complete.itemsize
    if needed != len(data):
        raise CorruptError(
            f"the pickle has an array of shape {sizes} and dtype {dtype.complete} "
            f"with {len(data)} bytes instead of {needed}"
        )
    # Views only: a pickle may name the same bytes for a thousand arrays.
    return np.frombuffer(data, dtype.complete).reshape(sizes, order="F" if fortran else "C")


def _shape(shape: object) -> tuple[int, ...]:
    if isinstance(shape, tuple):
        items = cast("tuple[object, ...]", shape)
        sizes = tuple(item for item in items if isinstance(item, int) and item > 0)
        if 1 <= len(sizes) == len(items) <= 8:
            return sizes
    raise CorruptError("the pickle has an array of an impossible or empty shape")


def _finished(value: object, levels: int = 2) -> object:
    """The result with arrays in the place of their builders; the public file nests two levels."""
    if isinstance(value, _Array):
        if value.complete is None:
            raise CorruptError("the pickle has an array without values")
        return value.complete
    if not levels:
        return value
    if isinstance(value, tuple):
        return tuple(_finished(item, levels - 1) for item in cast("tuple[object, ...]", value))
    return value


_ACTIONS: dict[bytes, Callable[[_Interpreter], None]] = {
    pickle.PROTO: _Interpreter.proto,
    pickle.FRAME: _Interpreter.frame,
    pickle.GLOBAL: _Interpreter.global_,
    pickle.STACK_GLOBAL: _Interpreter.stack_global,
    pickle.MARK: lambda it: it.push(_MARK),
    pickle.TUPLE: _Interpreter.tuple_to_mark,
    pickle.EMPTY_TUPLE: lambda it: it.tuple_of(0),
    pickle.TUPLE1: lambda it: it.tuple_of(1),
    pickle.TUPLE2: lambda it: it.tuple_of(2),
    pickle.TUPLE3: lambda it: it.tuple_of(3),
    pickle.PUT: lambda it: it.put(it.decimal()),
    pickle.BINPUT: lambda it: it.put(it.number("<B")),
    pickle.LONG_BINPUT: lambda it: it.put(it.number("<I")),
    pickle.MEMOIZE: _Interpreter.memoize,
    pickle.GET: lambda it: it.get(it.decimal()),
    pickle.BINGET: lambda it: it.get(it.number("<B")),
    pickle.LONG_BINGET: lambda it: it.get(it.number("<I")),
    pickle.NONE: lambda it: it.push(None),
    pickle.NEWTRUE: lambda it: it.push(True),
    pickle.NEWFALSE: lambda it: it.push(False),
    pickle.INT: lambda it: it.push(it.decimal()),
    pickle.LONG: lambda it: it.push(it.decimal()),
    pickle.BININT: lambda it: it.push(it.number("<i")),
    pickle.BININT1: lambda it: it.push(it.number("<B")),
    pickle.BININT2: lambda it: it.push(it.number("<H")),
    pickle.LONG1: _Interpreter.long1,
    pickle.STRING: _Interpreter.string,
    pickle.SHORT_BINSTRING: lambda it: it.counted("<B"),
    pickle.BINSTRING: lambda it: it.counted("<i"),
    pickle.SHORT_BINBYTES: lambda it: it.counted("<B"),
    pickle.BINBYTES: lambda it: it.counted("<I"),
    pickle.SHORT_BINUNICODE: lambda it: it.counted("<B"),
    pickle.BINUNICODE: lambda it: it.counted("<I"),
    pickle.REDUCE: _Interpreter.reduce,
    pickle.BUILD: _Interpreter.build,
}
