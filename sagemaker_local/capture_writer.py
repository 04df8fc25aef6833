"""Writes captured requests to S3 in the background, in small batches.

What is captured, and how a line of it looks, is in data_capture.py.
"""

import logging
import threading
import uuid

from sagemaker_local import data_capture
from sagemaker_local.data_capture import Captured
from sagemaker_local.fleet import Answer, Invocation
from sagemaker_local.s3 import Location, Storage, StorageError
from sagemaker_local.store import Document

_log = logging.getLogger(__name__)
# A batch is written after this time, or as soon as it is this large.
_BATCH_SECONDS = 2.0
_BATCH_REQUESTS = 500
_BATCH_BYTES = 4 * 1024 * 1024
# What may wait for S3; beyond it nothing more is captured.
_MOST_BYTES = 32 * 1024 * 1024
# How long the end of the server waits for S3.
_CLOSE_SECONDS = 3.0


class CaptureWriter:
    """The captured requests of all endpoints that are not in S3 yet, and the thread for them.

    Answers never wait for S3, and none fails because of it. What S3 refuses is dropped; the
    server's log says so once for each destination, until S3 takes something there again.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._changed = threading.Condition()
        self._waiting: list[Captured] = []
        # Of those that wait and those that are being written.
        self._bytes = 0
        self._full = False
        self._closing = False
        self._refused: set[str] = set()
        # A daemon: the server ends even if S3 never answers.
        self._thread = threading.Thread(target=self._run, name="data capture", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(
        self,
        config: Document | None,
        endpoint: str,
        variant: str,
        invocation: Invocation,
        answer: Answer,
    ) -> None:
        """Keeps a request that was answered, if the DataCaptureConfig asks for it."""
        captured = data_capture.capture(config, endpoint, variant, invocation, answer)
        if captured is None:
            return
        with self._changed:
            if self._bytes + captured.size <= _MOST_BYTES:
                self._waiting.append(captured)
                self._bytes += captured.size
                self._changed.notify()
                return
            first, self._full = not self._full, True
        if first:
            _log.warning(
                "data capture of endpoint %s: S3 is slow, and %d MB wait for it. Until they are "
                "written, requests are answered without being captured.",
                endpoint,
                _MOST_BYTES // 1024**2,
            )

    def close(self) -> None:
        """Writes what is left, as far as S3 takes it in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            _log.warning("data capture: S3 does not answer; what waits for it is dropped.")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(self._is_due, _BATCH_SECONDS)
                batch, self._waiting = self._waiting, []
            if not batch:
                return
            self._write(batch)
            with self._changed:
                self._bytes -= sum(captured.size for captured in batch)
                if not self._waiting:
                    self._full = False

    def _is_due(self) -> bool:
        large = len(self._waiting) >= _BATCH_REQUESTS or self._bytes >= _BATCH_BYTES
        return large or self._closing

    def _write(self, batch: list[Captured]) -> None:
        """Writes an object for each variant, hour and key of KMS."""
        objects: dict[tuple[str, str | None], list[Captured]] = {}
        for captured in batch:
            place = captured.folder, captured.config.get("KmsKeyId")
            objects.setdefault(place, []).append(captured)
        for (folder, kms_key_id), together in objects.items():
            first = together[0]
            destination = first.config["DestinationS3Uri"]
            name = (
                f"{first.moment:%M-%S}-{first.moment.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
            )
            try:
                lines = b"".join(captured.line() for captured in together)
                self._storage.put_bytes(lines, Location.parse(f"{folder}/{name}"), kms_key_id)
                self._refused.discard(destination)
            except StorageError as error:
                if destination not in self._refused:
                    _log.warning(
                        "data capture of endpoint %s: %s refuses it, so it is dropped (%s).",
                        first.endpoint,
                        destination,
                        error,
                    )
                self._refused.add(destination)
            except Exception:
                # The thread goes on with the others, whatever is wrong with these.
                _log.exception("data capture of endpoint %s", first.endpoint)
