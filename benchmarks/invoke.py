"""Invoking an endpoint of the embedded SageMaker with boto3, against the same work in process.

The reference computes the nearest centroids in the caller's own process, so `ratio` is below one:
the share of that speed that is left once requests are signed, sent, checked, answered and read.
`ours_s` is the time of 40,000 digits in batches of 1,000; `p50_ms` that of one digit a request,
asked 10,000 times. `server_before_mb` and `server_after_mb` are the memory of the server and its
children before and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import ONE_THREAD, Benchmark, Stopwatch, run_side, side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Nearest = Callable[[NDArray[np.float32]], NDArray[np.intp]]

BENCHMARKS = (
    Benchmark(
        name="invoke",
        reference_name=(
            "scikit-learn, pairwise_distances_argmin in the caller's own process on one thread: "
            "no request at all"
        ),
        ours=side("invoke", "ours"),
        reference=side("invoke", "reference", **ONE_THREAD),
        rounds=2,
        services=True,
    ),
)
# About as many as the platform's classifier has. They are digits, so that all are used.
_CENTROIDS = 400
_BATCH, _BATCHES = 1_000, 40


def ours() -> None:
    """A plain boto3 client and an endpoint that is made for this run.

    RecordIO goes in and JSON comes back, as in the platform's API. Encoding and decoding are timed.
    """
    import boto3
    import numpy as np

    from benchmarks.digits import digits, endpoint
    from formats import recordio

    runtime: Any = boto3.client("sagemaker-runtime")
    with endpoint(digits(_CENTROIDS)) as name:

        def nearest(points: NDArray[np.float32]) -> NDArray[np.intp]:
            answer = runtime.invoke_endpoint(
                EndpointName=name,
                Body=b"".join(recordio.encode(points)),
                ContentType="application/x-recordio-protobuf",
                Accept="application/json",
            )
            predictions = json.loads(answer["Body"].read())["predictions"]
            clusters = [prediction["closest_cluster"] for prediction in predictions]
            return np.array(clusters).astype(np.intp)

        for _ in range(20):
            nearest(digits(_BATCH))
        before = _server_mb()
        watch, digest, figures = _time(nearest, singles=10_000)
        after = _server_mb()
    watch.report(
        digest,
        **figures,
        peak_mb=max(before, after),
        server_before_mb=round(before, 1),
        server_after_mb=round(after, 1),
    )


def reference() -> None:
    """scikit-learn, without any server."""
    from sklearn.metrics import pairwise_distances_argmin

    from benchmarks.digits import digits

    centroids = digits(_CENTROIDS)
    watch, digest, figures = _time(
        lambda points: pairwise_distances_argmin(points, centroids), singles=1_000
    )
    watch.report(digest, **figures)


def _time(nearest: Nearest, *, singles: int) -> tuple[Stopwatch, str, dict[str, float]]:
    """Times `nearest` on batches and, `singles` times, on one digit.

    Returns:
        The watch over the batches, a digest of their answers, and further figures.
    """
    import numpy as np

    from benchmarks.digits import digits

    points = digits(_BATCH * _BATCHES)
    batches = [points[start : start + _BATCH] for start in range(0, len(points), _BATCH)]
    with Stopwatch() as watch:
        answers = [nearest(batch) for batch in batches]
    digest = hashlib.sha256(np.concatenate(answers).astype("<i8").tobytes()).hexdigest()
    milliseconds = []
    for number in range(singles):
        one_digit = points[number % len(points)][None]
        start = time.perf_counter()
        nearest(one_digit)
        milliseconds.append(1000 * (time.perf_counter() - start))
    figures = {
        "digits_per_s": round(len(points) / watch.seconds),
        "p50_ms": round(statistics.median(milliseconds), 3),
        "p99_ms": round(statistics.quantiles(milliseconds, n=100)[98], 3),
    }
    return watch, digest, figures


def _server_mb() -> float:
    """Memory of the SageMaker and its children, shared pages counted in proportion."""
    from embedded import stack
    from embedded.home import Home

    home = Home(Path(os.environ["PLATFORM_HOME"]))
    return stack.status(home)["sagemaker"][1] / 2**20


if __name__ == "__main__":
    run_side(ours, reference)
