"""50,000 × 784 with labels to RecordIO-protobuf, against SageMaker's own SDK.

Both sides write to a temporary file, since a file counts as memory on neither.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from benchmarks.harness import Benchmark, Stopwatch, run_side, side, side_with

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BENCHMARKS = (
    Benchmark(
        name="recordio_encode",
        reference_name="sagemaker<3, sagemaker.amazon.common.write_numpy_to_dense_tensor",
        ours=side("recordio_encode", "ours"),
        reference=side_with(["sagemaker<3"], "recordio_encode", "reference"),
        rounds=5,
    ),
)


def ours() -> None:
    """Our encoder."""
    from formats import recordio

    _time(lambda file, features, labels: file.writelines(recordio.encode(features, labels)))


def reference() -> None:
    """The encoder of the SageMaker SDK, version 2."""
    from sagemaker.amazon.common import (  # pyright: ignore[reportMissingImports]
        write_numpy_to_dense_tensor,
    )

    _time(write_numpy_to_dense_tensor)


def _time(
    encode: Callable[[IO[bytes], NDArray[np.float32], NDArray[np.float32]], None],
) -> None:
    """Times `encode(file, features, labels)` and reports the digest of the file."""
    import numpy as np

    random = np.random.default_rng(0)
    features = random.random((50_000, 784), dtype=np.float32)
    labels = random.integers(0, 10, len(features)).astype(np.float32)
    with tempfile.TemporaryFile() as file:
        with Stopwatch() as watch:
            encode(file, features, labels)
            file.flush()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
    watch.report(digest.hexdigest(), input_mb=round(features.nbytes / 2**20, 1))


if __name__ == "__main__":
    run_side(ours, reference)
