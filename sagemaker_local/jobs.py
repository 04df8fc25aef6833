"""Runs jobs, each in a thread of its own, and keeps their documents up to date.

At most `parallel_jobs` run at once. The work itself is in job_run.py and transform_run.py, the
operations on jobs in training.py, processing.py and transform.py.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sagemaker_local import docker_engine, job_run, processing, training, transform
from sagemaker_local.aws_errors import AwsError, JobFailure, StopRequestedError
from sagemaker_local.config import Config
from sagemaker_local.job_kinds import IN_PROGRESS, STOPPING, Job, JobKind
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document, Store
from sagemaker_local.transform_run import TransformRun

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
_AGAIN_SECONDS = 1.0
_INTERRUPTED = (
    "InternalServerError: We encountered an internal error while the job ran: the service was "
    "restarted. Please try again."
)


class Run(Protocol):
    """One run of a job.

    Attributes:
        results: Members that the job's document gets at its end.
    """

    results: Document

    def run(self, stop: threading.Event, no_grace: threading.Event) -> None:
        """Does the work.

        Args:
            stop: Ends the job.
            no_grace: Once set, a job that ends gets no time for it.

        Raises:
            JobFailure: With the reason to show.
            StopRequestedError: It was stopped or took too long.
        """
        ...


_KINDS = {kind.resource: kind for kind in (training.KIND, processing.KIND, transform.KIND)}
_RUNS: dict[str, Callable[[Job], Run]] = {
    training.KIND.resource: job_run.training,
    processing.KIND.resource: job_run.processing,
    transform.KIND.resource: TransformRun,
}


class JobRunner:
    """All jobs of the server. A job is named by the resource of its kind and its own name."""

    def __init__(self, config: Config, store: Store, storage: Storage, logs: Logs) -> None:
        self._config = config
        self._store = store
        self._storage = storage
        self._logs = logs
        self._slots = threading.Semaphore(config.parallel_jobs)
        self._lock = threading.Lock()
        self._stops: dict[tuple[str, str], threading.Event] = {}
        self._closing = threading.Event()

    def recover(self) -> None:
        """After a start: what was under way when the server ended has failed, or was stopped."""
        docker_engine.remove_all(self._config)
        for resource, kind in _KINDS.items():
            for name in self._store.names(resource, (IN_PROGRESS, STOPPING)):
                self._store.update(
                    resource,
                    name,
                    lambda document, kind=kind: _ended(
                        kind, document, "Failed", "Failed", _INTERRUPTED
                    ),
                )
        shutil.rmtree(self._config.work_dir, ignore_errors=True)

    def start(self, resource: str, name: str) -> None:
        """Begins a job that is stored."""
        with self._lock:
            self._stops[resource, name] = threading.Event()
        threading.Thread(
            target=self._run, args=(resource, name), name=f"{resource}-{name}", daemon=True
        ).start()

    def stop(self, resource: str, name: str) -> None:
        """Ends a job that is marked as stopping."""
        with self._lock:
            event = self._stops.get((resource, name))
        if event is not None:
            event.set()

    def close(self, seconds: float = 5.0) -> None:
        """Ends every job; their documents are mended at the next start."""
        self._closing.set()
        with self._lock:
            events = list(self._stops.values())
        for event in events:
            event.set()
        deadline = time.monotonic() + seconds
        while self._stops and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        docker_engine.remove_all(self._config)

    def _run(self, resource: str, name: str) -> None:
        document = self._store.get(resource, name)
        if document is None:
            return
        kind = _KINDS[resource]
        job = Job(
            kind,
            document,
            self._config,
            self._storage,
            self._logs,
            lambda status: self._set_status(kind, name, status),
        )
        run = _RUNS[resource](job)
        stop = self._stops[resource, name]
        if document[kind.status] == STOPPING:
            # Stopped between its creation and the start of this thread.
            stop.set()
        try:
            outcome = self._outcome(name, run, stop)
            # Before the end is written: where the disk is full, that is what makes room.
            shutil.rmtree(job.folder, ignore_errors=True)
            if outcome is not None:
                self._end(kind, name, run.results, *outcome)
        finally:
            with self._lock:
                self._stops.pop((resource, name), None)

    def _outcome(self, name: str, run: Run, stop: threading.Event) -> tuple[str, str, str] | None:
        """Runs a job to its end: status, secondary status, reason; None where the server ends."""
        try:
            with self._slot(stop):
                run.run(stop, self._closing)
        except StopRequestedError as stopped:
            if self._closing.is_set():
                return None
            time.sleep(self._config.stopping_seconds)
            return "Stopped", stopped.status, ""
        except JobFailure as failure:
            return "Failed", "Failed", str(failure)
        except Exception as error:
            _log.exception("job %s", name)
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

    def _set_status(self, kind: JobKind, name: str, status: str) -> None:
        def change(document: Document) -> str | None:
            if document[kind.status] != IN_PROGRESS:
                return None
            document.setdefault(f"{kind.prefix}StartTime", time.time())
            kind.on_status(document, status, "")
            return IN_PROGRESS

        self._store.update(kind.resource, name, change)

    def _end(
        self, kind: JobKind, name: str, results: Document, status: str, secondary: str, reason: str
    ) -> None:
        def change(document: Document) -> str:
            document.update(results)
            return _ended(kind, document, status, secondary, reason)

        while True:
            try:
                self._store.update(kind.resource, name, change)
            except AwsError as full:
                _log.warning("the end of job %s: %s", name, full)
                if self._closing.wait(_AGAIN_SECONDS):
                    return
            else:
                return


def _unexpected(error: Exception) -> str:
    """The reason that is shown, without the names of files."""
    words = error.strerror if isinstance(error, OSError) else None
    words = str(error) if isinstance(error, AwsError) else words
    return f"InternalServerError: {words or 'We encountered an internal error.'} Please try again."


def _ended(kind: JobKind, document: Document, status: str, secondary: str, reason: str) -> str:
    """Writes the end of a job into its document; returns the status it ends with."""
    # A stop that was acknowledged wins over a failure or an end at the same moment.
    if document[kind.status] == STOPPING and status != "Stopped":
        status, secondary, reason = "Stopped", "Stopped", ""
    document[kind.status] = status
    if reason:
        document["FailureReason"] = reason[:1024]
    document[f"{kind.prefix}EndTime"] = time.time()
    kind.on_status(document, secondary, reason)
    return status
