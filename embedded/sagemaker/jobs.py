"""Runs training jobs: a thread each, which takes the part of AWS's agent beside the container.

It waits for room, fetches the data, runs the trainer processes, puts the model to S3, and keeps the
job's document true. What clients may ask of a job is in training.py.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from embedded.sagemaker import children, faults, names, trainer
from embedded.sagemaker.config import Config
from embedded.sagemaker.errors import JobFailure
from embedded.sagemaker.logs import Logs
from embedded.sagemaker.s3io import Location, Storage, StorageError
from embedded.sagemaker.store import Document, Store
from embedded.sagemaker.training import IN_PROGRESS, KIND, STOPPING, transition

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
_METRIC = re.compile(r"#quality_metric: host=\S+, (train|test) (\S+) <loss>=(\S+)")
_THROUGHPUT = re.compile(r"#throughput_metric: host=\S+, train throughput=(\S+) records/second")
_PROGRESS = re.compile(r"#progress_metric: host=\S+, completed (\S+) % of epochs")
_MEMORY = (
    "ClientError: Please use an instance type with more memory, or reduce the size of training "
    "data processed on an instance."
)
_INTERRUPTED = (
    "InternalServerError: We encountered an internal error while the job ran: the service was "
    "restarted. Please try again."
)


class _StopRequestedError(Exception):
    """The job was told to stop; `status` is the secondary status it ends with."""

    def __init__(self, status: str = "Stopped") -> None:
        super().__init__(status)
        self.status = status


class JobRunner:
    """All training jobs of the server."""

    def __init__(self, config: Config, store: Store, storage: Storage, logs: Logs) -> None:
        self._config = config
        self._store = store
        self._storage = storage
        self._logs = logs
        self._room = threading.Semaphore(config.parallel_jobs)
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}
        self._closing = threading.Event()

    def recover(self) -> None:
        """After a start: what was under way when the server ended has failed, or was stopped."""
        for name in self._store.names(KIND, (IN_PROGRESS, STOPPING)):
            self._store.update(KIND, name, _interrupted)
        shutil.rmtree(self._config.work_dir, ignore_errors=True)

    def start(self, name: str) -> None:
        """Begins a job that is stored."""
        with self._lock:
            self._stops[name] = threading.Event()
        threading.Thread(target=self._run, args=(name,), name=f"job-{name}", daemon=True).start()

    def stop(self, name: str) -> None:
        """Ends a job that is marked as stopping."""
        with self._lock:
            event = self._stops.get(name)
        if event is not None:
            event.set()

    def close(self, seconds: float = 5.0) -> None:
        """Ends every job's processes; their documents are mended at the next start."""
        self._closing.set()
        with self._lock:
            events = list(self._stops.values())
        for event in events:
            event.set()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                if not self._stops:
                    return
            time.sleep(_POLL_SECONDS)

    def _run(self, name: str) -> None:
        document = self._store.get(KIND, name)
        if document is None:
            return
        job = _Job(self._config, self._storage, self._logs, document, self._enter(name))
        stop = self._stops[name]
        try:
            with _Room(self._room, stop):
                job.run(stop)
            self._finish(name, job)
        except _StopRequestedError as stopped:
            if not self._closing.is_set():
                time.sleep(self._config.stopping_seconds)
                self._end(name, "Stopped", stopped.status, job=job)
        except JobFailure as failure:
            self._end(name, "Failed", "Failed", reason=str(failure), job=job)
        except Exception:
            _log.exception("training job %s", name)
            reason = "InternalServerError: We encountered an internal error. Please try again."
            self._end(name, "Failed", "Failed", reason=reason, job=job)
        finally:
            shutil.rmtree(job.folder, ignore_errors=True)
            with self._lock:
                self._stops.pop(name, None)

    def _enter(self, name: str) -> Callable[[str], None]:
        def enter(status: str) -> None:
            def change(document: Document) -> str | None:
                if document["TrainingJobStatus"] != IN_PROGRESS:
                    return None
                document.setdefault("TrainingStartTime", time.time())
                transition(document, status)
                return IN_PROGRESS

            self._store.update(KIND, name, change)

        return enter

    def _finish(self, name: str, job: _Job) -> None:
        document = self._store.get(KIND, name)
        if document is not None and document["TrainingJobStatus"] == STOPPING:
            # The stop was acknowledged before the job could say that it had completed.
            self._end(name, "Stopped", "Stopped", job=job)
        else:
            self._end(name, "Completed", "Completed", job=job)

    def _end(self, name: str, status: str, secondary: str, *, reason: str = "", job: _Job) -> None:
        def change(document: Document) -> str:
            # A stop that was acknowledged wins over a failure or an end at the same moment.
            final, last, why = status, secondary, reason
            if document["TrainingJobStatus"] == STOPPING and status != "Stopped":
                final, last, why = "Stopped", "Stopped", ""
            document["TrainingJobStatus"] = final
            transition(document, last, why)
            if why:
                document["FailureReason"] = why[:1024]
            _account(document)
            if job.metrics:
                document["FinalMetricDataList"] = job.metrics
            if job.artifact:
                document["ModelArtifacts"] = {"S3ModelArtifacts": job.artifact}
            return final

        self._store.update(KIND, name, change)


def _account(document: Document) -> None:
    """Times at the end of a job: none are billed if no instance started."""
    now = time.time()
    document["TrainingEndTime"] = now
    if "TrainingStartTime" not in document:
        return
    seconds = max(1, math.ceil(now - document["TrainingStartTime"]))
    document["TrainingTimeInSeconds"] = seconds
    # Spot capacity here is always there, and about as cheap as AWS's usually is.
    share = 0.3 if document["EnableManagedSpotTraining"] else 1.0
    document["BillableTimeInSeconds"] = max(1, math.ceil(seconds * share))


def _interrupted(document: Document) -> str:
    stopping = document["TrainingJobStatus"] == STOPPING
    status = "Stopped" if stopping else "Failed"
    document["TrainingJobStatus"] = status
    transition(document, status, "" if stopping else _INTERRUPTED)
    if not stopping:
        document["FailureReason"] = _INTERRUPTED
    _account(document)
    return status


class _Room:
    """A place for one job, waited for as long as nobody stops it."""

    def __init__(self, room: threading.Semaphore, stop: threading.Event) -> None:
        self._room = room
        self._stop = stop

    def __enter__(self) -> None:
        while not self._room.acquire(timeout=0.1):
            if self._stop.is_set():
                raise _StopRequestedError

    def __exit__(self, *_: object) -> None:
        self._room.release()


class _Job:
    """One run of one job."""

    def __init__(
        self,
        config: Config,
        storage: Storage,
        logs: Logs,
        document: Document,
        enter: Callable[[str], None],
    ) -> None:
        self._config = config
        self._storage = storage
        self._logs = logs
        self._document = document
        self._enter = enter
        self._faults: dict[str, float] = document.get("_faults", {})
        self._instances = int(document["ResourceConfig"]["InstanceCount"])
        self.folder = config.work_dir / document["TrainingJobName"]
        self.metrics: list[Document] = []
        self.artifact = ""
        self._deadline = math.inf

    def run(self, stop: threading.Event) -> None:
        """Takes the job from Starting to the uploaded model.

        Raises:
            JobFailure: With the reason to show.
            _StopRequestedError: It was stopped or took too long.
        """
        self._stop = stop
        processes: list[subprocess.Popen[bytes]] = []
        readers: list[threading.Thread] = []
        try:
            begun = time.monotonic()
            (self.folder / "shared").mkdir(parents=True, exist_ok=True)
            self._describe([])
            if "capacity-error" not in self._faults:
                for number in range(1, self._instances + 1):
                    processes.append(self._spawn(number))
                    readers.append(self._follow(processes[-1], number))
            wait = self._config.starting_seconds + self._faults.get("slow-start", 0.0)
            self._wait(lambda: time.monotonic() - begun >= wait)
            if "capacity-error" in self._faults:
                raise JobFailure(faults.CAPACITY)
            limit = self._document["StoppingCondition"]["MaxRuntimeInSeconds"]
            self._deadline = time.monotonic() + limit
            self._enter("Downloading")
            self._describe(self._download())
            self._enter("Training")
            self._train(processes, readers)
            self._enter("Uploading")
            self._upload()
        finally:
            children.end_all(processes)
            for reader in readers:
                reader.join(2.0)

    def _wait(self, done: Callable[[], bool]) -> None:
        while not done():
            self._check_stop()
            time.sleep(_POLL_SECONDS)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StopRequestedError
        if time.monotonic() > self._deadline:
            raise _StopRequestedError("MaxRuntimeExceeded")

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        cores = os.cpu_count() or 1
        return children.spawn(
            "embedded.sagemaker.trainer",
            [str(self.folder / "job.json"), str(number)],
            threads=max(1, cores // self._instances),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _describe(self, channels: list[Document]) -> None:
        """Writes the file that the trainer reads."""
        part = self.folder / "job.json.part"
        part.write_text(
            json.dumps(
                {
                    "parent": os.getpid(),
                    "instances": self._instances,
                    "hyperparameters": self._document.get("HyperParameters", {}),
                    "shared": str(self.folder / "shared"),
                    "channels": channels,
                }
            )
        )
        part.rename(self.folder / "job.json")

    def _download(self) -> list[Document]:
        try:
            return [
                self._fetch_channel(channel)
                for channel in self._document["InputDataConfig"]
                if channel["ChannelName"] in ("train", "test")
            ]
        except StorageError as error:
            raise JobFailure(f"ClientError: Data download failed:{error}") from error

    def _fetch_channel(self, channel: Document) -> Document:
        source: dict[str, Any] = channel["DataSource"]["S3DataSource"]
        manifest = source["S3DataType"] == "ManifestFile"
        found = (
            self._storage.listed(source["S3Uri"])
            if manifest
            else self._storage.under(source["S3Uri"])
        )
        files: list[str] = []
        for number, where in enumerate(found):
            self._check_stop()
            path = self.folder / "input" / channel["ChannelName"] / f"{number:06d}"
            self._storage.fetch(where, path)
            files.append(str(path))
        sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
        shares = [
            files[number :: self._instances] if sharded else files
            for number in range(self._instances)
        ]
        return {
            "name": channel["ChannelName"],
            "content_type": channel.get("ContentType", ""),
            "compressed": channel.get("CompressionType") == "Gzip",
            "files": shares,
        }

    def _train(
        self, processes: list[subprocess.Popen[bytes]], readers: list[threading.Thread]
    ) -> None:
        for process in processes:
            assert process.stdin is not None  # noqa: S101 - asked for at its start
            try:
                process.stdin.write(b"go\n")
                process.stdin.flush()
            except OSError:
                # It has ended already; its exit code is looked at below.
                continue
        if "job-failure" in self._faults:
            raise JobFailure("AlgorithmError: failure on demand, exit code: 1")
        watched = [psutil.Process(process.pid) for process in processes if process.poll() is None]
        while any(process.poll() is None for process in processes):
            self._check_stop()
            self._check_memory(watched)
            if any(process.returncode for process in processes):
                break
            time.sleep(_POLL_SECONDS)
        for reader in readers:
            reader.join(2.0)
        for process in processes:
            if process.returncode:
                raise JobFailure(self._reason(process.returncode))

    def _check_memory(self, watched: list[psutil.Process]) -> None:
        for process in watched:
            try:
                used = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            if used > self._config.training_memory_mb * 1024 * 1024:
                raise JobFailure(_MEMORY)

    def _reason(self, code: int) -> str:
        said = self.folder / "shared" / trainer.FAILURE
        if said.exists():
            return said.read_text()
        # Shells and containers show a signal as 128 and its number.
        return f"AlgorithmError: , exit code: {128 - code if code < 0 else code}"

    def _upload(self) -> None:
        base = self._document["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        uri = f"{base}/{self._document['TrainingJobName']}/output/{trainer.MODEL}"
        try:
            self._storage.put(self.folder / "shared" / trainer.MODEL, Location.parse(uri))
        except StorageError as error:
            raise JobFailure(f"ClientError: Artifact upload failed:{error}") from error
        self.artifact = uri

    def _follow(self, process: subprocess.Popen[bytes], number: int) -> threading.Thread:
        """Copies a trainer's output into the log and picks the metrics out."""
        stream = (
            f"{self._document['TrainingJobName']}/algo-{number}-"
            f"{int(self._document['CreationTime'])}"
        )
        output = process.stdout
        assert output is not None  # noqa: S101 - asked for at its start

        def follow() -> None:
            for raw in output:
                line = raw.decode(errors="replace").rstrip()
                self._logs.write(names.TRAINING_LOGS, stream, [line])
                if number == 1:
                    self._notice(line)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        return thread

    def _notice(self, line: str) -> None:
        found: list[tuple[str, str]] = []
        if match := _METRIC.search(line):
            found.append((f"{match[1]}:{match[2]}", match[3]))
        elif match := _THROUGHPUT.search(line):
            found.append(("train:throughput", match[1]))
        elif match := _PROGRESS.search(line):
            found.append(("train:progress", match[1]))
        for name, value in found:
            self.metrics = [each for each in self.metrics if each["MetricName"] != name]
            self.metrics.append(
                {"MetricName": name, "Value": float(value), "Timestamp": time.time()}
            )


def work_folder(config: Config, name: str) -> Path:
    """Where a job's files are while it runs."""
    return config.work_dir / name
