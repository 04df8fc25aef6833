"""A reader of pickles that hold NumPy arrays in tuples, and nothing else.

Lives here: a machine for the few pickle opcodes that Python 2 (protocols 0 to 2) and Python 3
(protocols 2 to 4) write for arrays. Does not: gzip, and what the arrays mean
(`formats.mnist_pickle`).

It isn't `pickle.Unpickler` with `find_class` narrowed: that still believes the stream in other
ways (a memo index of 2**31 makes it allocate 16 GB, a tuple nested deep enough and used as a key
overruns the C stack). Here a global name is a token that never becomes an object, and an array is
made by `numpy.frombuffer` from bytes that are there.
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

__all__ = ["ForbiddenPickleError", "MalformedPickleError", "TruncatedPickleError", "load"]

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


class MalformedPickleError(FormatError):
    """The bytes are no pickle, or one that contradicts itself."""


class TruncatedPickleError(MalformedPickleError):
    """The bytes end before the pickle does."""


class ForbiddenPickleError(FormatError):
    """The pickle asks for something other than numeric NumPy arrays, in tuples."""


class Stream(Protocol):
    """What is read from. Both calls raise, or return fewer bytes, where the stream ends."""

    def read(self, size: int, /) -> bytearray: ...
    def readline(self) -> bytes: ...


def load(stream: Stream) -> object:
    """Reads one pickle up to its STOP.

    Returns:
        Tuples of NumPy arrays (in the order and byte order of the pickle), numbers, bytes and None.

    Raises:
        MalformedPickleError, ForbiddenPickleError: See there. What `stream` raises passes through.
    """
    return _Machine(stream).run()


@dataclass(frozen=True, slots=True)
class _Global:
    name: str


class _Mark:
    """What MARK leaves on the stack."""


@dataclass(slots=True)
class _DType:
    code: str
    complete: np.dtype[Any] | None = None


@dataclass(slots=True)
class _Array:
    complete: NDArray[Any] | None = None


_MARK = _Mark()


class _Machine:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        # Text that a pickle may still have encoded: what it has once, it may not have a thousand
        # copies made of.
        self._encodable = 0

    def run(self) -> object:
        for _ in range(_MAX_OPCODES):
            code = bytes(self.take(1))
            if code == pickle.STOP:
                return _finished(self.pop())
            action = _ACTIONS.get(code)
            if action is None:
                raise ForbiddenPickleError(f"the pickle uses {_opcode_name(code)}; {_ONLY}")
            action(self)
        raise ForbiddenPickleError(f"the pickle has more than {_MAX_OPCODES} instructions; {_ONLY}")

    # Reading

    def take(self, size: int) -> bytearray:
        data = self._stream.read(size)
        if len(data) != size:
            raise TruncatedPickleError("the pickle ends before its STOP")
        return data

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def _line(self) -> bytes:
        line = self._stream.readline()
        if not line.endswith(b"\n"):
            raise TruncatedPickleError("the pickle ends before its STOP")
        return line

    def _short_line(self) -> str:
        line = self._line()[:-1]
        if len(line) > _MAX_LINE:
            raise MalformedPickleError(f"the pickle has a name or number of {len(line)} bytes")
        return line.decode("latin-1")

    def decimal(self) -> int:
        text = self._short_line()
        try:
            return int(text.removesuffix("L"))
        except ValueError as error:
            raise MalformedPickleError(f"the pickle has {text[:40]!r} for a number") from error

    # The stack

    def pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise MalformedPickleError("the pickle takes more off its stack than is there")
        return self._stack.pop()

    def push(self, value: object) -> None:
        self._stack.append(value)

    # The instructions

    def proto(self) -> None:
        protocol = self.number("<B")
        if protocol > _MAX_PROTOCOL:
            raise ForbiddenPickleError(f"the pickle is of protocol {protocol}; {_ONLY}")

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
            raise ForbiddenPickleError(
                f"the pickle asks for {name.replace(' ', '.')[:100]!r}; {_ONLY}"
            )
        self.push(_Global(name))

    def tuple_to_mark(self) -> None:
        at = len(self._stack) - 1
        while at >= 0 and self._stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise MalformedPickleError("the pickle ends a tuple that it did not begin")
        items = tuple(self._stack[at + 1 :])
        del self._stack[at:]
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
            raise MalformedPickleError(f"the pickle takes number {index} from its memo: not there")
        self.push(self._memo[index])

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def string(self) -> None:
        # A view: in protocol 0 a whole matrix is one line, four characters for a byte.
        quoted = memoryview(self._line())[:-1]
        if len(quoted) < 2 or quoted[0] not in b"'\"" or quoted[-1] != quoted[0]:
            raise MalformedPickleError("the pickle has a string without quotes")
        try:
            value, _ = codecs.escape_decode(quoted[1:-1])
        except ValueError as error:
            raise MalformedPickleError("the pickle has a string with a bad escape") from error
        self.push(value)

    def counted(self, layout: str) -> None:
        size = self.number(layout)
        if size < 0:
            raise MalformedPickleError(f"the pickle has a string of {size} bytes")
        self._encodable += size
        self.push(self.take(size))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise MalformedPickleError("the pickle calls something that is no function")
        made = _call(function.name, cast("tuple[object, ...]", arguments))
        if isinstance(made, bytearray):
            self._encodable -= len(made)
            if self._encodable < 0:
                raise ForbiddenPickleError(f"the pickle has a text encoded twice; {_ONLY}")
        self.push(made)

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if not isinstance(state, tuple):
            raise ForbiddenPickleError(f"the pickle sets a state of its own making; {_ONLY}")
        items = cast("tuple[object, ...]", state)
        if isinstance(target, _Array) and target.complete is None:
            target.complete = _array(items)
        elif isinstance(target, _DType) and target.complete is None:
            target.complete = _dtype(target.code, items)
        else:
            raise ForbiddenPickleError(f"the pickle sets the state of another object; {_ONLY}")
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
    raise MalformedPickleError("the pickle has something else where a name belongs")


def _call(function: str, arguments: tuple[object, ...]) -> _Array | _DType | bytearray:
    if function in _RECONSTRUCT:
        if len(arguments) != 3 or arguments[0] != _Global(_NDARRAY) or arguments[1] != (0,):
            raise ForbiddenPickleError(f"the pickle makes an array of another class; {_ONLY}")
        return _Array()
    if function == _DTYPE and arguments:
        code = _text(arguments[0])
        # Letters such as O, V or M make NumPy do more than look at numbers.
        if len(code) > 2 or code[:1] not in _KINDS or not code[1:].isdigit():
            raise ForbiddenPickleError(f"the pickle has the dtype {code[:40]!r}; {_ONLY}")
        return _DType(code)
    if function == _ENCODE and len(arguments) == 2 and _text(arguments[1]) == "latin1":
        return _latin1(arguments[0])
    raise ForbiddenPickleError(f"the pickle calls {function.replace(' ', '.')}; {_ONLY}")


def _latin1(text: object) -> bytearray:
    """A text's characters as bytes, piece by piece: the text is not held a third time."""
    if not isinstance(text, (bytes, bytearray)):
        raise MalformedPickleError("the pickle has something else where a text belongs")
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoded = bytearray()
    try:
        for start in range(0, len(text), _PIECE):
            encoded += decoder.decode(text[start : start + _PIECE]).encode("latin-1")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise MalformedPickleError(
            "the pickle has bytes that are not written as Latin-1"
        ) from error
    return encoded


def _dtype(code: str, state: tuple[object, ...]) -> np.dtype[Any]:
    # (version, byte order, subarray, names, fields, itemsize, alignment, flags)
    if len(state) < 5 or any(item is not None for item in state[2:5]):
        raise ForbiddenPickleError(f"the pickle has a structured dtype; {_ONLY}")
    order = _text(state[1])
    if order not in ("<", ">", "=", "|"):
        raise MalformedPickleError(f"the pickle has a dtype with the byte order {order[:40]!r}")
    try:
        return np.dtype(f"{order}{code}")
    except TypeError as error:
        raise MalformedPickleError(f"the pickle has the unknown dtype {code!r}") from error


def _array(state: tuple[object, ...]) -> NDArray[Any]:
    if len(state) != 5:
        raise MalformedPickleError("the pickle has an array whose state is not as NumPy writes it")
    _, shape, dtype, fortran, data = state
    if not isinstance(dtype, _DType) or dtype.complete is None:
        raise ForbiddenPickleError(f"the pickle has an array without a numeric dtype; {_ONLY}")
    if not isinstance(data, (bytes, bytearray)):
        raise ForbiddenPickleError(f"the pickle has an array that does not hold bytes; {_ONLY}")
    sizes = _shape(shape)
    needed = math.prod(sizes) * dtype.complete.itemsize
    if needed != len(data):
        raise MalformedPickleError(
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
    raise MalformedPickleError("the pickle has an array of an impossible or empty shape")


def _finished(value: object) -> object:
    """The result with arrays in the place of their builders; the public file nests two levels."""
    if isinstance(value, tuple):
        return tuple(
            tuple(_plain(part) for part in cast("tuple[object, ...]", item))
            if isinstance(item, tuple)
            else _plain(item)
            for item in cast("tuple[object, ...]", value)
        )
    return _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, _Array):
        if value.complete is None:
            raise MalformedPickleError("the pickle has an array without values")
        return value.complete
    return value


Action = Callable[[_Machine], None]


def _pushing(value: object) -> Action:
    return lambda machine: machine.push(value)


def _pushing_number(layout: str) -> Action:
    return lambda machine: machine.push(machine.number(layout))


def _counted(layout: str) -> Action:
    return lambda machine: machine.counted(layout)


def _tuple_of(count: int) -> Action:
    return lambda machine: machine.tuple_of(count)


_ACTIONS: dict[bytes, Action] = {
    pickle.PROTO: _Machine.proto,
    pickle.FRAME: _Machine.frame,
    pickle.GLOBAL: _Machine.global_,
    pickle.STACK_GLOBAL: _Machine.stack_global,
    pickle.MARK: _pushing(_MARK),
    pickle.TUPLE: _Machine.tuple_to_mark,
    pickle.EMPTY_TUPLE: _tuple_of(0),
    pickle.TUPLE1: _tuple_of(1),
    pickle.TUPLE2: _tuple_of(2),
    pickle.TUPLE3: _tuple_of(3),
    pickle.PUT: lambda machine: machine.put(machine.decimal()),
    pickle.BINPUT: lambda machine: machine.put(machine.number("<B")),
    pickle.LONG_BINPUT: lambda machine: machine.put(machine.number("<I")),
    pickle.MEMOIZE: _Machine.memoize,
    pickle.GET: lambda machine: machine.get(machine.decimal()),
    pickle.BINGET: lambda machine: machine.get(machine.number("<B")),
    pickle.LONG_BINGET: lambda machine: machine.get(machine.number("<I")),
    pickle.NONE: _pushing(None),
    pickle.NEWTRUE: _pushing(True),
    pickle.NEWFALSE: _pushing(False),
    pickle.INT: lambda machine: machine.push(machine.decimal()),
    pickle.LONG: lambda machine: machine.push(machine.decimal()),
    pickle.BININT: _pushing_number("<i"),
    pickle.BININT1: _pushing_number("<B"),
    pickle.BININT2: _pushing_number("<H"),
    pickle.LONG1: _Machine.long1,
    pickle.STRING: _Machine.string,
    pickle.SHORT_BINSTRING: _counted("<B"),
    pickle.BINSTRING: _counted("<i"),
    pickle.SHORT_BINBYTES: _counted("<B"),
    pickle.BINBYTES: _counted("<I"),
    pickle.SHORT_BINUNICODE: _counted("<B"),
    pickle.BINUNICODE: _counted("<I"),
    pickle.REDUCE: _Machine.reduce,
    pickle.BUILD: _Machine.build,
}
