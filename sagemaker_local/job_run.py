"""One run of one training job: data in, trainer processes, log lines and metrics out, model up.

jobs.py keeps the job's document.
"""

import contextlib
import json
import math
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from sagemaker_local import children, faults, names, trainer
from sagemaker_local.aws_errors import AwsError, JobFailure
from sagemaker_local.config import Config
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Location, Storage, StorageError
from sagemaker_local.store import Document

_POLL_SECONDS = 0.02
_QUALITY = re.compile(r"#quality_metric: host=\S+, (train|test) (\S+) <loss>=(\S+)")
_THROUGHPUT = re.compile(r"#throughput_metric: host=\S+, train throughput=(\S+) records/second")
_PROGRESS = re.compile(r"#progress_metric: host=\S+, completed (\S+) % of epochs")


class StopRequestedError(Exception):
    """The job was told to stop; `status` is the secondary status it ends with."""

    def __init__(self, status: str = "Stopped") -> None:
        super().__init__(status)
        self.status = status


class JobRun:
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
            StopRequestedError: It was stopped or took too long.
        """
        self._stop = stop
        processes: list[subprocess.Popen[bytes]] = []
        readers: list[threading.Thread] = []
        try:
            started = time.monotonic()
            (self.folder / "shared").mkdir(parents=True, exist_ok=True)
            self._describe([])
            if "capacity-error" not in self._faults:
                for number in range(1, self._instances + 1):
                    processes.append(self._spawn(number))
                    readers.append(self._follow(processes[-1], number))
            wait = self._config.starting_seconds + self._faults.get("slow-start", 0.0)
            self._wait(lambda: time.monotonic() - started >= wait)
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
            raise StopRequestedError
        if time.monotonic() > self._deadline:
            raise StopRequestedError("MaxRuntimeExceeded")

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        return children.spawn(
            "sagemaker_local.trainer",
            [str(self.folder / "job.json"), str(number)],
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
        list_objects = self._storage.list_manifest if manifest else self._storage.list_prefix
        try:
            objects = list_objects(source["S3Uri"])
        except StorageError as error:
            raise StorageError(f"Unable to list {source['S3Uri']} ({error})") from error
        files: list[tuple[str, str]] = []
        for number, where in enumerate(objects):
            self._check_stop()
            path = self.folder / "input" / channel["ChannelName"] / f"{number:06d}"
            try:
                self._storage.fetch(where, path)
            except StorageError as error:
                raise StorageError(f"Unable to download object {where} ({error})") from error
            files.append((str(path), str(where)))
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
            # The last lines have the metrics, however long a busy machine takes to bring them.
            reader.join(60.0)
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
                raise JobFailure(trainer.OUT_OF_MEMORY)

    def _reason(self, code: int) -> str:
        reason = self.folder / "shared" / trainer.FAILURE
        if reason.exists():
            return reason.read_text()
        # Shells and containers show a signal as 128 and its number.
        return f"AlgorithmError: , exit code: {128 - code if code < 0 else code}"

    def _upload(self) -> None:
        base = self._document["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        uri = f"{base}/{self._document['TrainingJobName']}/output/{trainer.MODEL}"
        try:
            self._storage.put(self.folder / "shared" / trainer.MODEL, Location.parse(uri))
        except StorageError as error:
            raise JobFailure(f"ClientError: Artifact upload failed:{uri}: {error}") from error
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
                # Where the disk is full, the line is lost and not the job.
                with contextlib.suppress(AwsError):
                    self._logs.write(names.TRAINING_LOGS, stream, line)
                if number == 1:
                    self._record_metrics(line)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        return thread

    def _record_metrics(self, line: str) -> None:
        if match := _QUALITY.search(line):
            name, value = f"{match[1]}:{match[2]}", match[3]
        elif match := _THROUGHPUT.search(line):
            name, value = "train:throughput", match[1]
        elif match := _PROGRESS.search(line):
            name, value = "train:progress", match[1]
        else:
            return
        self.metrics = [metric for metric in self.metrics if metric["MetricName"] != name]
        self.metrics.append({"MetricName": name, "Value": float(value), "Timestamp": time.time()})
