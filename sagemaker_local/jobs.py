"""Runs training jobs, each in a thread, which does what AWS's agent beside the container does.

It waits until fewer than `parallel_jobs` run, and keeps the job's document up to date. The work
itself is in job_run.py, the operations on jobs in training.py.
"""

import logging
import math
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sagemaker_local.aws_errors import AwsError, JobFailure
from sagemaker_local.config import Config
from sagemaker_local.job_run import JobRun, StopRequestedError
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document, Store
from sagemaker_local.training import IN_PROGRESS, KIND, STOPPING, transition

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
_AGAIN_SECONDS = 1.0
_INTERRUPTED = (
    "InternalServerError: We encountered an internal error while the job ran: the service was "
    "restarted. Please try again."
)


class JobRunner:
    """All training jobs of the server."""

    def __init__(self, config: Config, store: Store, storage: Storage, logs: Logs) -> None:
        self._config = config
        self._store = store
        self._storage = storage
        self._logs = logs
        self._slots = threading.Semaphore(config.parallel_jobs)
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
        job = JobRun(
            self._config,
            self._storage,
            self._logs,
            document,
            lambda status: self._enter(name, status),
        )
        stop = self._stops[name]
        if document["TrainingJobStatus"] == STOPPING:
            # Stopped between its creation and the start of this thread.
            stop.set()
        try:
            outcome = self._outcome(name, job, stop)
            # Before the end is written: where the disk is full, that is what makes room.
            shutil.rmtree(job.folder, ignore_errors=True)
            if outcome is not None:
                self._end(name, job, *outcome)
        finally:
            with self._lock:
                self._stops.pop(name, None)

    def _outcome(
        self, name: str, job: JobRun, stop: threading.Event
    ) -> tuple[str, str, str] | None:
        """Runs a job to its end: status, secondary status, reason; None where the server ends."""
        try:
            with self._slot(stop):
                job.run(stop, self._closing)
        except StopRequestedError as stopped:
            if self._closing.is_set():
                return None
            time.sleep(self._config.stopping_seconds)
            return "Stopped", stopped.status, ""
        except JobFailure as failure:
            return "Failed", "Failed", str(failure)
        except Exception as error:
            _log.exception("training job %s", name)
            return "Failed", "Failed", _unexpected(error)
        return "Completed", "Completed", ""

    @contextmanager
    def _slot(self, stop: threading.Event) -> Iterator[None]:
        """One of the `parallel_jobs` slots; waiting for it ends when the job is stopped."""
        while not self._slots.acquire(timeout=0.1):
            if stop.is_set():
                raise StopRequestedError
        try:
            yield
        finally:
            self._slots.release()

    def _enter(self, name: str, status: str) -> None:
        def change(document: Document) -> str | None:
            if document["TrainingJobStatus"] != IN_PROGRESS:
                return None
            document.setdefault("TrainingStartTime", time.time())
            transition(document, status)
            return IN_PROGRESS

        self._store.update(KIND, name, change)

    def _end(self, name: str, job: JobRun, status: str, secondary: str, reason: str) -> None:
        def change(document: Document) -> str:
            if job.metrics:
                document["FinalMetricDataList"] = job.metrics
            if job.artifact:
                document["ModelArtifacts"] = {"S3ModelArtifacts": job.artifact}
            return _ended(document, status, secondary, reason)

        while True:
            try:
                self._store.update(KIND, name, change)
            except AwsError as full:
                _log.warning("the end of training job %s: %s", name, full)
                if self._closing.wait(_AGAIN_SECONDS):
                    return
            else:
                return


def _unexpected(error: Exception) -> str:
    """The reason that is shown, without the names of files."""
    words = error.strerror if isinstance(error, OSError) else None
    words = str(error) if isinstance(error, AwsError) else words
    return f"InternalServerError: {words or 'We encountered an internal error.'} Please try again."


def _ended(document: Document, status: str, secondary: str, reason: str) -> str:
    """Writes the end of a job into its document; returns the status it ends with."""
    # A stop that was acknowledged wins over a failure or an end at the same moment.
    if document["TrainingJobStatus"] == STOPPING and status != "Stopped":
        status, secondary, reason = "Stopped", "Stopped", ""
    document["TrainingJobStatus"] = status
    transition(document, secondary, reason)
    if reason:
        document["FailureReason"] = reason[:1024]
    now = time.time()
    document["TrainingEndTime"] = now
    # Nothing is billed if no instance started.
    if "TrainingStartTime" in document:
        seconds = max(1, math.ceil(now - document["TrainingStartTime"]))
        document["TrainingTimeInSeconds"] = seconds
        # Spot capacity here is always there, and about as cheap as AWS's usually is.
        share = 0.3 if document["EnableManagedSpotTraining"] else 1.0
        document["BillableTimeInSeconds"] = max(1, math.ceil(seconds * share))
    return status


def _interrupted(document: Document) -> str:
    return _ended(document, "Failed", "Failed", _INTERRUPTED)
