"""A connection ends where a request is too slow or its head too large, and in no other case."""

import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from formats.http_limits import HEAD_BYTES
from tests.conftest import CHECKOUT
from tests.local_servers import free_port

# An app that says how long a body is; /early does without reading it, /wait when /go is asked for.
PROGRAM = """
import asyncio, sys, uvicorn
from formats import http_limits

http_limits.HEAD_SECONDS = http_limits.BODY_SECONDS = float(sys.argv[2])
gone, go = [], asyncio.Event()

async def app(scope, receive, send):
    path, size, more = scope["path"], 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.append(path)
            return
        size += len(message["body"])
        more = message["more_body"]
    if path == "/go":
        go.set()
    elif path == "/wait":
        await go.wait()
        go.clear()
    text = repr(gone if path == "/gone" else size).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})

uvicorn.run(app, port=int(sys.argv[1]), http=http_limits.LimitedHttp, lifespan="off",
            log_level="warning")
"""
SLOW_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX-"


class Peer:
    """A client of one connection."""

    def __init__(self, port: int, *parts: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._stream = self.socket.makefile("rb")
        for part in parts:
            self.send(part)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        stream = self._stream
        status = int(stream.readline().split()[1])
        size = 0
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            size = int(value) if name.lower() == b"content-length" else size
        return status, stream.read(size)

    def has_ended(self) -> bool:
        """Waits until the server closes the connection."""
        return self._stream.read(1) == b""

    def is_told_something(self) -> bool:
        return bool(select.select([self.socket], [], [], 0.05)[0])


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(size: int, path: str = "/") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()


def is_listening(port: int) -> bool:
    try:
        Peer(port)
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def serving(seconds: float) -> Iterator[int]:
    """The app's port; a head may take so long to arrive, and a body."""
    number = free_port()
    command = [sys.executable, "-c", PROGRAM, str(number), str(seconds)]
    process = subprocess.Popen(command, cwd=CHECKOUT)
    try:
        while not is_listening(number):
            assert process.poll() is None
            time.sleep(0.05)
        yield number
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where requests have to arrive soon."""
    with serving(1) as number:
        yield number


@pytest.fixture(scope="module")
def patient_port() -> Iterator[int]:
    """Where they have time, however slow the machine is."""
    with serving(300) as number:
        yield number


@pytest.mark.parametrize(
    "parts",
    [
        [SLOW_HEAD],
        [post(100), b"ab"],
        [get(), SLOW_HEAD],
        [post(2), b"ab" + post(9) + b"ab"],
    ],
    ids=["half a head", "half a body", "a second head", "a second body"],
)
def test_what_does_not_arrive_in_time_is_told_so(port: int, parts: list[bytes]) -> None:
    peer = Peer(port, *parts)
    statuses = [peer.answer()[0]]
    if statuses == [200]:
        statuses.append(peer.answer()[0])
    assert statuses[-1] == 408
    assert peer.has_ended()


def test_a_connection_on_which_nothing_comes_ends_without_a_word(port: int) -> None:
    assert Peer(port).has_ended()


@pytest.mark.parametrize("start", [SLOW_HEAD, post(10_000)], ids=["head", "body"])
def test_a_byte_now_and_then_gives_no_more_time(port: int, start: bytes) -> None:
    peer = Peer(port, start)
    for _ in range(1000):
        peer.send(b"a")
        if peer.is_told_something():
            break
    assert peer.answer()[0] == 408


def test_the_rest_of_a_body_that_is_answered_already_is_not_waited_for(port: int) -> None:
    peer = Peer(port, post(100, "/early"), b"ab")
    assert peer.answer() == (200, b"0")
    assert peer.has_ended()


def test_the_app_is_told_that_a_body_will_not_come(port: int) -> None:
    assert Peer(port, post(100, "/slow"), b"ab").answer()[0] == 408
    while b"/slow" not in Peer(port, get("/gone")).answer()[1]:
        time.sleep(0.05)


def test_neither_a_slow_answer_nor_a_pause_between_requests_is_cut_off(port: int) -> None:
    paused, waiting = Peer(port, get()), Peer(port, post(2, "/wait"), b"ab")
    assert paused.answer() == (200, b"0")
    # Both are older than this one when its time is over.
    assert Peer(port, SLOW_HEAD).answer()[0] == 408
    paused.send(get("/go"))
    assert paused.answer()[0] == 200
    assert waiting.answer() == (200, b"2")


def test_what_comes_too_slowly_behind_a_request_leaves_its_answer_whole(port: int) -> None:
    peer = Peer(port, get("/wait") + SLOW_HEAD)
    assert Peer(port, SLOW_HEAD).answer()[0] == 408
    assert Peer(port, get("/go")).answer()[0] == 200
    assert peer.answer() == (200, b"0")
    assert peer.answer()[0] == 408


def test_what_is_too_large_behind_a_request_says_nothing_into_its_answer(patient_port: int) -> None:
    peer = Peer(patient_port, get("/wait"))
    assert Peer(patient_port, get()).answer()[0] == 200  # The first one is read by now.
    peer.send(padded(20_000))
    assert peer.has_ended()
    assert Peer(patient_port, get("/go")).answer()[0] == 200


def padded(size: int) -> bytes:
    """A head of so many bytes."""
    return get("/", f"X-Padding: {'a' * (size - len(get('/', 'X-Padding: ')))}")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        pytest.param([padded(HEAD_BYTES)], 200, id="the largest"),
        pytest.param([padded(HEAD_BYTES + 1)], 431, id="one byte more"),
        pytest.param([padded(9000)[:5000], padded(9000)[5000:]], 200, id="in two parts"),
        pytest.param([padded(20_000)[:9000], padded(20_000)[9000:]], 431, id="too large in parts"),
        pytest.param([padded(200_000)], 431, id="200 KB"),
        pytest.param([get("/", *["X-Many: a"] * 2000)], 431, id="many headers"),
        pytest.param([get(f"/?{'a' * 20_000}")], 431, id="a long query"),
        pytest.param([post(500_000) + b"a" * 500_000], 200, id="a long body is no head"),
    ],
)
def test_heads_are_bounded_and_bodies_are_not(
    patient_port: int, parts: list[bytes], status: int
) -> None:
    peer = Peer(patient_port, *parts)
    assert peer.answer()[0] == status
    if status == 431:
        assert peer.has_ended()


def test_a_head_without_end_is_refused_while_it_is_sent(patient_port: int) -> None:
    peer = Peer(patient_port, b"GET / HTTP/1.1\r\nX-Endless: ")
    for _ in range(1000):
        peer.send(b"a" * 1000)
        if peer.is_told_something():
            break
    assert peer.answer()[0] == 431


def test_trailers_without_end_are_cut_off(patient_port: int) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    whole = Peer(patient_port, chunked + b"X-Sum: 1\r\n\r\n")
    assert whole.answer() == (200, b"2")
    peer = Peer(patient_port, chunked + b"X-Endless: ")
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        peer.send(b"a" * 100_000_000)


def test_each_request_of_a_connection_has_a_head_of_its_own(patient_port: int) -> None:
    peer = Peer(patient_port)
    for _ in range(5):
        peer.send(padded(HEAD_BYTES))
        assert peer.answer()[0] == 200
