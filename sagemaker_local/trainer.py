"""The training container's program: k-means over local channels, log lines to standard output.

One process for each instance. The first instance puts the streams of all together and writes the
model. Nothing here knows S3 or the job's state: the server brings the data and takes the model.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_local import children, hyperparameters
from sagemaker_local.aws_errors import OUT_OF_MEMORY

if TYPE_CHECKING:
    from sagemaker_local.channels import Points

MODEL = "model.tar.gz"
FAILURE = "failure"
_POLL_SECONDS = 0.02
# scikit-learn would load them only to know their types.
_OPTIONAL = ("pandas", "pyarrow", "polars", "matplotlib")


class _Log:
    """Lines as the built-in algorithm writes them."""

    def __init__(self, host: str) -> None:
        self.host = host

    def write(self, text: str, level: str = "INFO") -> None:
        stamp = time.strftime("%m/%d/%Y %H:%M:%S", time.gmtime())
        print(f"[{stamp} {level} {os.getpid()}] {text}", flush=True)

    def metric(self, kind: str, text: str) -> None:
        self.write(f"#{kind}: host={self.host}, {text}")


class _Instance:
    """One instance's part of a job."""

    def __init__(self, job: dict[str, Any], number: int) -> None:
        from sagemaker_local.channels import Channel, ChannelFile

        self._job = job
        self._number = number
        self._host = f"algo-{number}"
        self._log = _Log(self._host)
        self._parameters = hyperparameters.parse(job["hyperparameters"])
        self._shared = Path(job["shared"])
        self._channels = {
            channel["name"]: [
                Channel(
                    channel["name"],
                    channel["content_type"],
                    channel["compressed"],
                    tuple(ChannelFile(Path(path), uri) for path, uri in files),
                )
                for files in channel["files"]
            ]
            for channel in job["channels"]
        }

    def run(self) -> None:
        """Trains; the first instance also writes the model and the metrics."""
        from sagemaker_local import kmeans

        self._log.write("Docker entrypoint called with argument(s): train")
        self._log.write(f"Final configuration: {json.dumps(asdict(self._parameters))}")
        started = time.monotonic()
        stream = kmeans.Stream(self._parameters)
        for epoch in range(self._parameters.epochs):
            for batch in self._batches("train"):
                stream.feed(batch)
            share = 100.0 * (epoch + 1) / self._parameters.epochs
            self._log.metric("progress_metric", f"completed {share:.1f} % of epochs")
        elapsed = max(time.monotonic() - started, 1e-6)
        rate = f"train throughput={stream.seen / elapsed} records/second"
        self._log.metric("throughput_metric", rate)
        self._save_state(stream)
        if self._number == 1:
            self._finish(stream.seen // self._parameters.epochs)

    def _batches(self, name: str, instance: int | None = None) -> "Iterator[Points]":
        from sagemaker_local.channels import batches

        number = self._number if instance is None else instance
        size = self._parameters.mini_batch_size
        return batches(self._channels[name][number - 1], size, self._parameters.feature_dim)

    def _save_state(self, stream: Any) -> None:
        import numpy as np

        part = self._shared / f"{self._host}.part.npz"
        centres, weights = stream.state()
        np.savez(part, centres=centres, weights=weights)
        part.rename(self._state(self._number))

    def _state(self, number: int) -> Path:
        return self._shared / f"algo-{number}.npz"

    def _finish(self, points: int) -> None:
        from sagemaker_local import kmeans
        from sagemaker_local.formats import ndarray_file

        self._log.write("shrinking the centers of all instances by local Lloyd's iterations")
        centres, weights = self._merge_states()
        model = kmeans.shrink(centres, weights, self._parameters)
        model = kmeans.refine(lambda: self._whole_channel("train"), model, points)
        for name in ("train", "test"):
            if name in self._channels:
                self._evaluate(name, model)
        packed = ndarray_file.pack_model(model)
        part = self._shared / (MODEL + ".part")
        part.write_bytes(packed)
        part.rename(self._shared / MODEL)
        self._log.write("Serialized the model.")

    def _whole_channel(self, name: str) -> "Iterator[Points]":
        """A channel's data once, whether instances share them out or hold all of them."""
        parts = self._channels[name]
        for number in range(1, 2 if parts.count(parts[0]) == len(parts) else len(parts) + 1):
            yield from self._batches(name, number)

    def _merge_states(self) -> tuple[Any, Any]:
        import numpy as np

        centres, weights = [], []
        for number in range(1, self._job["instances"] + 1):
            path = self._state(number)
            # The server ends this process when another instance fails.
            while not path.exists():
                time.sleep(_POLL_SECONDS)
            with np.load(path) as state:
                centres.append(state["centres"])
                weights.append(state["weights"])
        return np.concatenate(centres), np.concatenate(weights)

    def _evaluate(self, name: str, model: Any) -> None:
        from sagemaker_local import kmeans

        total, count = kmeans.squared_distances(self._whole_channel(name), model)
        values = {"msd": total / count, "ssd": total}
        for metric in self._parameters.eval_metrics:
            self._log.metric("quality_metric", f"{name} {metric} <loss>={values[metric]}")


def _fail(job: dict[str, Any], log: _Log, reason: str) -> int:
    log.write(reason, "ERROR")
    (Path(job["shared"]) / FAILURE).write_text(reason)
    return 1


def _import_sklearn() -> None:
    """Imports what k-means needs of scikit-learn, without the optional packages.

    Saves about 120 MB and half of the start. Must run before the first import of scikit-learn.
    """
    absent = [name for name in _OPTIONAL if name not in sys.modules]
    # None in sys.modules is Python's documented way to make an import fail.
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))
    try:
        importlib.import_module("sklearn.cluster")
        importlib.import_module("sklearn.metrics")
    finally:
        for name in absent:
            sys.modules.pop(name, None)


def main() -> int:
    """Runs one instance: `trainer JOB_FILE NUMBER`; waits for a line on standard input first."""
    job = json.loads(Path(sys.argv[1]).read_text())
    number = int(sys.argv[2])
    children.tie_to_parent(job["parent"])
    log = _Log(f"algo-{number}")
    try:
        # Before the libraries load: what is wrong here is known at once.
        hyperparameters.parse(job["hyperparameters"])
        # Libraries load while the server still downloads the data.
        _import_sklearn()
        if not sys.stdin.readline():
            return 1
        job = json.loads(Path(sys.argv[1]).read_text())
        _Instance(job, number).run()
    except hyperparameters.HyperParameterError as error:
        return _fail(job, log, f"ClientError: {error} (caused by ValidationError)")
    except MemoryError:
        return _fail(job, log, OUT_OF_MEMORY)
    except ValueError as error:
        # Channels, formats and k-means raise it for data or parameters that they refuse.
        return _fail(job, log, f"ClientError: {error}")
    except OSError as error:
        return _fail(job, log, f"AlgorithmError: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
