"""Slow, large and many requests at once: health is answered, and others are or are told to wait.

How long health took at most, and what memory was left, is in `test-output/overload.txt`.
"""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from PIL import Image, ImageDraw

from api.requests import MAX_BATCH_BYTES
from tests.api.rig import Deployment, Served, Split, serve
from tests.conftest import CHECKOUT, Services
from tests.digit_pictures import encoded

PNG = {"content-type": "image/png"}
HEAD = (
    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)


@pytest.fixture
def fresh(services: Services, deployment: Deployment, tmp_path: Path) -> Iterator[Served]:
    """A server that has done nothing yet."""
    with serve({**services.env, "PLATFORM_ENDPOINT_NAME": deployment.endpoint}, tmp_path) as served:
        yield served


@contextmanager
def unfinished(served: Served, count: int, size: int, path: bytes = b"/") -> Iterator[None]:
    """So many requests of which so many bytes have come, and of whose bodies two more will not."""
    address = urlsplit(served.url)
    with ExitStack() as peers:
        for _ in range(count):
            peer = socket.create_connection((address.hostname, address.port), timeout=60)
            peers.enter_context(peer)
            peer.sendall(HEAD % (path, size + 2) + bytes(size))
        yield


@pytest.mark.parametrize("count", [70, 200])
def test_slow_bodies_keep_nobody_from_being_answered(
    served: Served, api: httpx.Client, digits: dict[str, Split], count: int
) -> None:
    with unfinished(served, count, 2):
        for digit in digits["test"].pixels[:20]:
            assert api.get("/healthz").status_code == 200
            assert api.post("/", content=encoded(digit), headers=PNG).status_code == 200


def test_health_does_not_wait_for_its_own_body(served: Served) -> None:
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as peer:
        peer.sendall(HEAD.replace(b"POST", b"GET") % (b"/healthz", 1000) + b"ab")
        assert peer.recv(20).startswith(b"HTTP/1.1 200")


def test_more_bytes_than_memory_is_there_for_are_turned_away_and_health_is_not(
    served: Served, api: httpx.Client, digits: dict[str, Split]
) -> None:
    size = MAX_BATCH_BYTES - 2
    picture = encoded(digits["test"].pixels[0])
    with ExitStack() as peers:
        # Whose bytes are too many depends on who comes first: one of the peers may be turned away.
        while (refused := api.post("/", content=bytes(size), headers=PNG)).status_code == 413:
            peers.enter_context(unfinished(served, 1, size))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert api.get("/healthz").status_code == 200
        while (answer := api.post("/", content=picture, headers=PNG)).status_code == 429:
            pass
        assert answer.status_code == 200
    # They have gone away, and so have their bodies.
    while api.post("/", content=bytes(size), headers=PNG).status_code == 429:
        pass


def large_picture() -> bytes:
    """A digit on nearly as many pixels as are read."""
    picture = Image.new("RGB", (4900, 4900), "white")
    ImageDraw.Draw(picture).line([(2450, 900), (2450, 4000)], "black", 400)
    return encoded(picture)


def test_health_overtakes_large_pictures_whose_memory_is_given_back(fresh: Served) -> None:
    crowd_size = 100
    body = large_picture()
    process = psutil.Process(fresh.process.pid)
    with (
        fresh.client() as probe,
        httpx.Client(
            base_url=fresh.url,
            timeout=600,
            trust_env=False,
            limits=httpx.Limits(max_connections=crowd_size),
        ) as api,
        ThreadPoolExecutor(crowd_size) as crowd,
    ):
        start = process.memory_info().rss
        sent = [crowd.submit(api.post, "/", content=body, headers=PNG) for _ in range(crowd_size)]
        wait(sent, return_when=FIRST_COMPLETED)
        seconds = [probed(probe) for _ in range(5)]
        # In the order in which they came, those that are not turned away would be done by now.
        assert len([request for request in sent if not request.done()]) > crowd_size / 4
        while not all(request.done() for request in sent):
            seconds.append(probed(probe))
            time.sleep(0.1)
        answers = [request.result() for request in sent]
        turned_away = [answer for answer in answers if answer.status_code == 429]
        assert {answer.headers["retry-after"] for answer in turned_away} <= {"1"}
        assert {answer.status_code for answer in answers} - {429} == {200}
        left = process.memory_info().rss
        note(
            f"{crowd_size} pictures of 4,900 x 4,900 at once: {len(turned_away)} were turned away. "
            f"/healthz was answered {len(seconds)} times meanwhile, in {max(seconds):.3f} s at "
            f"most. Memory: {start / 2**20:.0f} MB before, {left / 2**20:.0f} MB after them.\n"
        )
        assert left - start < 100 * 2**20


def probed(probe: httpx.Client) -> float:
    """The seconds until health is answered."""
    start = time.perf_counter()
    assert probe.get("/healthz").status_code == 200
    return time.perf_counter() - start


def note(figures: str) -> None:
    output = CHECKOUT / "test-output"
    output.mkdir(exist_ok=True)
    (output / "overload.txt").write_text(figures)


def test_headers_are_as_large_as_api_gateway_takes_them(api: httpx.Client) -> None:
    assert api.get("/healthz", headers={"x-padding": "a" * 9_000}).status_code == 200
    answer = api.get("/healthz", headers={"x-padding": "a" * 200_000})
    assert answer.status_code == 431
    assert "10,240 bytes" in answer.text
