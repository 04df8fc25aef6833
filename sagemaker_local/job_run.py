"""One run of a training or processing job: data in, containers, log and metrics out, files up.

A `Run` of jobs.py, which keeps the job's document. What the job runs is an `Algorithm`.
"""

import math
import threading
import time
from collections.abc import Callable

from sagemaker_local import containers, image_lookup
from sagemaker_local.algorithm import Algorithm
from sagemaker_local.aws_errors import CAPACITY, JobFailure, StopRequestedError
from sagemaker_local.containers import Container
from sagemaker_local.custom_training_job import CustomTrainingJob
from sagemaker_local.downloads import Downloads
from sagemaker_local.job_kinds import Job
from sagemaker_local.kmeans_job import KMeansJob
from sagemaker_local.log_lines import follow
from sagemaker_local.processing_job import ProcessingJob
from sagemaker_local.s3 import Location, StorageError
from sagemaker_local.store import Document

_POLL_SECONDS = 0.02


class JobRun:
    """One run of one job."""

    def __init__(self, job: Job, algorithm: Algorithm) -> None:
        self.results: Document = {}
        self._job = job
        self._config = job.config
        self._set_status = job.set_status
        self._faults: dict[str, float] = job.document["_faults"]
        self._algorithm = algorithm
        self._metrics: dict[str, Document] = {}
        self._uploaded: list[str] = []
        self._deadline = math.inf
        self._readers: list[threading.Thread] = []

    def run(self, stop: threading.Event, no_grace: threading.Event) -> None:
        """Takes the job from its start to the uploaded files."""
        self._stop = stop
        try:
            started = time.monotonic()
            if "capacity-error" not in self._faults:
                self._algorithm.prepare()
                self._follow_new()
            wait = self._config.starting_seconds + self._faults.get("slow-start", 0.0)
            self._wait(lambda: time.monotonic() - started >= wait)
            if "capacity-error" in self._faults:
                raise JobFailure(CAPACITY)
            limit = self._job.document["StoppingCondition"]["MaxRuntimeInSeconds"]
            self._deadline = time.monotonic() + limit
            self._set_status("Downloading")
            self._algorithm.download(Downloads(self._job.storage, self._check_stop))
            self._check_stop()
            self._set_status("Training")
            try:
                self._run_containers()
            except StopRequestedError:
                self._end_containers(no_grace)
                if not no_grace.is_set():
                    self._upload(whole=False)
                raise
            self._set_status("Uploading")
            self._upload(whole=True)
        finally:
            for container in self._algorithm.containers:
                container.kill()
            self._read_to_the_end(2.0)
            # Before the job's folder is removed.
            last_values = list(self._metrics.values())
            metrics = {"FinalMetricDataList": last_values} if last_values else {}
            self.results = metrics | self._algorithm.results(self._uploaded)

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

    def _run_containers(self) -> None:
        self._algorithm.begin()
        self._follow_new()
        if "job-failure" in self._faults:
            raise JobFailure("AlgorithmError: failure on demand, exit code: 1")
        running = self._algorithm.containers
        while any(container.poll() is None for container in running):
            self._check_stop()
            self._check_containers()
            if any(container.poll() for container in running):
                break
            time.sleep(_POLL_SECONDS)
        failed = [number for number, container in enumerate(running) if container.poll()]
        if failed:
            # The others' output ends, too.
            containers.end_all(running, 0.0)
        # The last lines have the metrics, however long a busy machine takes to bring them.
        self._read_to_the_end(60.0)
        self._check_containers()
        if failed:
            raise JobFailure(self._algorithm.reason(failed[0]))

    def _end_containers(self, no_grace: threading.Event) -> None:
        containers.end_all(self._algorithm.containers, self._algorithm.grace_seconds, no_grace)
        self._check_containers()

    def _check_containers(self) -> None:
        for container in self._algorithm.containers:
            if problem := container.problem(self._config.training_memory_mb):
                raise JobFailure(problem)

    def _upload(self, whole: bool) -> None:
        for uri, path in self._algorithm.uploads(whole).items():
            try:
                self._job.storage.put(path, Location.parse(uri))
            except StorageError as error:
                raise JobFailure(f"ClientError: Artifact upload failed:{uri}: {error}") from error
            self._uploaded.append(uri)

    def _follow_new(self) -> None:
        """Copies the output of containers that were started into the log, and finds the metrics."""
        for container in self._algorithm.containers[len(self._readers) :]:
            number = len(self._readers) + 1
            reader = threading.Thread(target=self._follow, args=(container, number), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _follow(self, container: Container, number: int) -> None:
        stream = f"{self._job.name}/algo-{number}-{int(self._job.document['CreationTime'])}"
        record = self._record_metrics if number == 1 else None
        follow(container.output, self._job.logs, self._job.kind.log_group, stream, record)

    def _read_to_the_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))

    def _record_metrics(self, line: str) -> None:
        for name, value in self._algorithm.metrics(line).items():
            if math.isfinite(value):
                self._metrics[name] = {"MetricName": name, "Value": value, "Timestamp": time.time()}


def training(job: Job) -> JobRun:
    """The run of a training job."""
    address = job.document["AlgorithmSpecification"]["TrainingImage"]
    image = image_lookup.custom_image(job.config, address)
    return JobRun(job, CustomTrainingJob(job, image) if image else KMeansJob(job))


def processing(job: Job) -> JobRun:
    """The run of a processing job."""
    address = job.document["AppSpecification"]["ImageUri"]
    image = image_lookup.custom_image(job.config, address)
    assert image is not None  # noqa: S101 - CreateProcessingJob refuses k-means
    return JobRun(job, ProcessingJob(job, image))
