"""The lease that a run holds in Redis: it tells that its process lives, and keeps others out.

Celery itself does not notice that a host has died: the task stays started. A lease ends by itself
unless the process renews it, so a dead host's run is known as lost within `LEASE_SECONDS`. A
process that is cut off from Redis ends itself before that: by then another host may make the run.
"""

import logging
import os
import signal
import time
from threading import Thread

import redis
from redis.backoff import NoBackoff
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock
from redis.retry import Retry

LEASE_SECONDS = 60.0
RENEW_SECONDS = 5.0
# With one more renewal, and the time that it may take, less than a lease.
PATIENCE_SECONDS = 45.0
_ANSWER_SECONDS = 5.0

_log = logging.getLogger(__name__)


def connect(url: str) -> redis.Redis:
    """A client that waits for no answer longer than a lease allows; nothing is sent yet."""
    return redis.Redis.from_url(
        url,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def lease_of(client: redis.Redis, task_id: str, seconds: float = LEASE_SECONDS) -> Lock:
    """The lease of the run that a Celery task executes; it is not taken yet."""
    return client.lock(f"run-lease:{task_id}", timeout=seconds, thread_local=False)


def hold(
    lease: Lock, renew_seconds: float = RENEW_SECONDS, patience_seconds: float = PATIENCE_SECONDS
) -> bool:
    """Take a lease, and renew it until this process ends.

    The process is killed once another one holds the lease, or Redis has not renewed it for
    `patience_seconds`.

    Returns:
        Whether the lease was free.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    if not lease.acquire(blocking=False):
        return False
    Thread(target=_renew, args=(lease, renew_seconds, patience_seconds), daemon=True).start()
    return True


def _renew(lease: Lock, renew_seconds: float, patience_seconds: float) -> None:
    renewed = time.monotonic()
    while True:
        time.sleep(renew_seconds)
        began = time.monotonic()
        try:
            lease.reacquire()
            renewed = began
        except LockNotOwnedError:
            _end(f"{lease.name} has ended in Redis")
        except redis.RedisError as error:
            silent = time.monotonic() - renewed
            _log.warning("%s was not renewed for %.0f s: %s", lease.name, silent, error)
            if silent > patience_seconds:
                _end(f"{lease.name} could not be renewed for {silent:.0f} s")


def _end(reason: str) -> None:
    _log.error("%s, so another host may make this run: its process here is killed.", reason)
    # Nothing is cleaned up: a training job, for instance, is the other host's by now.
    os.kill(os.getpid(), signal.SIGKILL)
