"""A plain boto3 client and an endpoint of the services' SageMaker, made for this run.

RecordIO goes in and JSON comes back, as the platform's API asks; both are written and read within
what is timed.
"""

import json
import os
from pathlib import Path
from typing import Any

import boto3
import numpy as np
from endpoint import endpoint
from invoke_input import BATCH, Matrix, centroids, digits, measure
from numpy.typing import NDArray

from embedded import stack
from embedded.home import Home
from formats import recordio

SINGLES = 10_000


def main() -> None:
    """Measures, and says how much memory the server held before and after."""
    runtime: Any = boto3.client("sagemaker-runtime")
    with endpoint(centroids()) as name:

        def nearest(points: Matrix) -> NDArray[np.intp]:
            answer = runtime.invoke_endpoint(
                EndpointName=name,
                Body=b"".join(recordio.encode(points)),
                ContentType="application/x-recordio-protobuf",
                Accept="application/json",
            )
            found = json.loads(answer["Body"].read())["predictions"]
            return np.array([each["closest_cluster"] for each in found]).astype(np.intp)

        for _ in range(20):
            nearest(digits(BATCH))
        before = _server_mb()
        watch, digest, figures = measure(nearest, SINGLES)
        after = _server_mb()
    watch.say(
        digest,
        **figures,
        peak_mb=max(before, after),
        server_before_mb=round(before, 1),
        server_after_mb=round(after, 1),
    )


def _server_mb() -> float:
    """Memory of the SageMaker and its children, shared pages in proportion."""
    home = Home(Path(os.environ["PLATFORM_HOME"]))
    return stack.status(home)["sagemaker"][1] / 2**20


main()
