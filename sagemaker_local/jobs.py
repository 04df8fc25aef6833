"""Runs training jobs, each in a thread, which does what AWS's agent beside the container does.

It waits until fewer than `parallel_jobs` run, and keeps the job's document up to date. The work
itself is in job_run.py, the operations on jobs in training.py.
"""

from __future__ import annotations

import logging
import math
import shutil
import threading
import time
from collections.abc import Callable

from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.config import Config
from sagemaker_local.job_run import JobRun, StopRequestedError
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document, Store
from sagemaker_local.training import IN_PROGRESS, KIND, STOPPING, transition

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
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
        job = JobRun(self._config, self._storage, self._logs, document, self._enter(name))
        stop = self._stops[name]
        if document["TrainingJobStatus"] == STOPPING:
            # Stopped between its creation and the start of this thread.
            stop.set()
        try:
            with _Slot(self._slots, stop):
                job.run(stop)
            self._finish(name, job)
        except StopRequestedError as stopped:
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

    def _finish(self, name: str, job: JobRun) -> None:
        document = self._store.get(KIND, name)
        if document is not None and document["TrainingJobStatus"] == STOPPING:
            # The stop was acknowledged before the job could say that it had completed.
            self._end(name, "Stopped", "Stopped", job=job)
        else:
            self._end(name, "Completed", "Completed", job=job)

    def _end(
        self, name: str, status: str, secondary: str, *, reason: str = "", job: JobRun
    ) -> None:
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


class _Slot:
    """One of the `parallel_jobs` slots; waiting for it ends when the job is stopped."""

    def __init__(self, slots: threading.Semaphore, stop: threading.Event) -> None:
        self._slots = slots
        self._stop = stop

    def __enter__(self) -> None:
        while not self._slots.acquire(timeout=0.1):
            if self._stop.is_set():
                raise StopRequestedError

    def __exit__(self, *_: object) -> None:
        self._slots.release()
