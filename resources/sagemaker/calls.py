"""How a call to SageMaker is made: clients, retries, and whose fault an error is.

Nothing here knows what the calls are for.
"""

import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from ..aws_failures import code_and_reason, explain_untrusted, is_transient, is_untrusted
from .errors import (
    AlreadyExistsError,
    BusyError,
    NotFoundError,
    RefusedError,
    SageMakerError,
    UnavailableError,
)

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

P = ParamSpec("P")
T = TypeVar("T")

# What the names of AWS's own endpoints end with, VPC and dual-stack endpoints among them.
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
# SageMaker has no codes of its own for these: all are validation errors, told apart by what they
# say. Quotes, ARNs and names within the words differ; tests name the logs that they are known from.
_VALIDATION = frozenset({"ValidationException", "ValidationError"})
_KINDS = (
    (
        {"ResourceInUse"},
        re.compile(r"cannot create already existing", re.I),
        AlreadyExistsError,
    ),
    (
        {"ResourceNotFound", "ResourceNotFoundException"},
        # Missing model data is no missing model: to create the model again would not help.
        re.compile(
            r"requested resource not found"
            r"|could not find (model(?! data)|endpoint|(\w+ )?job)\b"
            r"|^endpoint\b.*\bnot found",
            re.I,
        ),
        NotFoundError,
    ),
    (
        {"ConflictException"},
        re.compile(r"in-progress|because the \w+ job is in status", re.I),
        BusyError,
    ),
)
# An interrupted process is ended soon, and has to stop by then what it has created.
CREATED_WITHIN_SECONDS = 10


class Log(Protocol):
    """The part of a logger that is used: `context.log` and `logging.Logger` both have it."""

    def info(self, msg: str, /) -> None: ...
    def warning(self, msg: str, /) -> None: ...


@dataclass(frozen=True)
class Clients:
    """The three services that a SageMaker user talks to, and where they are."""

    control: "SageMakerClient"
    runtime: "SageMakerRuntimeClient"
    logs: "CloudWatchLogsClient"

    @property
    def region(self) -> str:
        """The region that the clients talk to."""
        return self.control.meta.region_name

    def see_console(self, page: str) -> str:
        """For the end of a message: where to see more, or nothing where there is no console."""
        url = self.console_url(page)
        return f" See {url}" if url else ""

    def console_url(self, page: str) -> str:
        """A link into the AWS console, such as to `jobs/<name>` or `endpoints/<name>`.

        Empty where SageMaker is not AWS's own: its console knows nothing of what is there.
        """
        host = urlsplit(self.control.meta.endpoint_url).hostname or ""
        if not host.endswith(_AWS_DOMAINS):
            return ""
        partition = self.control.meta.partition
        domain = {"aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}.get(partition)
        host = f"console.{domain}" if domain else f"{self.region}.console.aws.amazon.com"
        return f"https://{host}/sagemaker/home?region={self.region}#/{page}"


def make_clients(
    *, region: str | None = None, attempts: int = 5, answer_seconds: float = 70
) -> Clients:
    """Clients from the standard AWS environment, in a session of their own.

    Credentials, region and endpoint URLs (`AWS_ENDPOINT_URL_SAGEMAKER`, ...) are what boto3 finds.

    Args:
        region: Instead of the environment's.
        attempts: How often botocore sends one request before it gives up.
        answer_seconds: How long an answer may take; a model has 60 s for one.
    """
    session = boto3.session.Session(region_name=region)
    config = Config(
        connect_timeout=min(10, answer_seconds),
        read_timeout=answer_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        user_agent_extra="dagster-sagemaker",
    )
    # Logs are an extra: where they cannot be reached, jobs are watched all the same.
    logs_config = config.merge(
        Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"mode": "standard", "total_max_attempts": min(attempts, 2)},
        )
    )
    # The overloads of `client` name services whose stubs are not installed.
    make = cast("Callable[..., Any]", session.client)  # pyright: ignore[reportUnknownMemberType]
    return Clients(
        control=make("sagemaker", config=config),
        runtime=make("sagemaker-runtime", config=config),
        logs=make("logs", config=logs_config),
    )


@dataclass(frozen=True)
class Calls:
    """Makes calls with patience: botocore retries for seconds, this for minutes.

    A training job of hours must outlive an outage of minutes. Waits grow exponentially, with
    jitter, so that many runs do not come back in step.

    Attributes:
        patience_seconds: How long a call is tried again before `UnavailableError`.
        log: Gets a line for each retry.
        first_wait_seconds: Before the first retry; grows to `longest_wait_seconds`.
        sleep: Waits between two calls. It may raise where the run is cancelled meanwhile.
    """

    patience_seconds: float = 300
    log: Log = field(default_factory=lambda: logging.getLogger(__name__))
    first_wait_seconds: float = 1
    longest_wait_seconds: float = 30
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of a boto3 client.

        Raises:
            UnavailableError: It could not be done for as long as our patience lasts.
            RefusedError: It will not be done, however often it is asked for.
        """
        name = getattr(function, "__name__", "a call").lstrip("_")
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_delay(self.patience_seconds),
            wait=wait_exponential(self.first_wait_seconds, max=self.longest_wait_seconds)
            + wait_random(0, self.first_wait_seconds),
            before_sleep=lambda state: self._log_retry(name, state),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(lambda: _in_thread(name, lambda: function(*args, **kwargs)))
        except (ClientError, BotoCoreError) as error:
            raise translate(name, error) from error

    def with_patience(self, seconds: float) -> "Calls":
        """The same with so much patience at most, never interrupted: for what must be over soon."""
        patience = min(seconds, self.patience_seconds)
        return replace(self, patience_seconds=patience, sleep=time.sleep)

    def _log_retry(self, name: str, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        self.log.warning(f"{name} failed and is tried again in {wait:.1f} s: {error}")


def _in_thread(name: str, function: Callable[[], T]) -> T:
    """Call in a thread of its own and wait for it.

    Python interrupts the main thread anywhere, also where urllib3 has just locked its pool of
    connections: the lock would stay, and the request that stops the job would wait for it forever.
    `SimpleQueue` is written in C and has no such place.

    An interruption leaves the request under way. One that creates something is waited for all the
    same, so that it can be stopped then.
    """
    answers: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def call() -> None:
        try:
            answer = function()
        except BaseException as error:
            answers.put(partial(_raise, error))
        else:
            answers.put(lambda: answer)

    try:
        threading.Thread(target=call, name="aws", daemon=True).start()
        answer = answers.get()
    except BaseException:
        if name.startswith("create_"):
            with suppress(queue.Empty):
                answers.get(timeout=CREATED_WITHIN_SECONDS)
        raise
    return answer()


def _raise(error: BaseException) -> NoReturn:
    raise error


def translate(operation: str, error: ClientError | BotoCoreError) -> SageMakerError:
    """The error of ours for one of boto's."""
    if is_transient(error):
        return UnavailableError(f"{operation} could not be done: {error}. Run again later.")
    if is_untrusted(error):
        return RefusedError(f"{operation} could not be done: {explain_untrusted(error)}.")
    if not isinstance(error, ClientError):
        return RefusedError(f"SageMaker refused {operation}: {type(error).__name__}: {error}")
    code, reason = code_and_reason(error)
    kind = next(
        (
            kind
            for codes, pattern, kind in _KINDS
            if code in codes or (code in _VALIDATION and pattern.search(reason))
        ),
        RefusedError,
    )
    return kind(
        f"SageMaker refused {operation}: {code}: {reason}",
        # A quota that is used up is free again when other jobs have ended.
        transient=code == "ResourceLimitExceeded",
    )
