"""A Python module that runs outside Dagster's process and reports through Pipes.

What the container and the child process have in common lives here: what is to be run, how its
output becomes messages and log lines, and how long it may take. How each is started does not.
"""

import json
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster_pipes import PIPES_PROTOCOL_VERSION_FIELD, PipesDefaultMessageWriter, PipesParams

from resources.docker.aws_access import RENEW_SECONDS, AwsAccess
from resources.docker.errors import ModuleMemoryError, ModuleRunError, ModuleTimeoutError

TAIL_LINES = 30
TAIL_COLUMNS = 500
QUEUED_LINES = 256
STATE_CHECK_SECONDS = 0.2
LAST_LINES_SECONDS = 1.0
STOP_RENEWING_SECONDS = 5.0
STOP_SECONDS = 3
# A module's own clock only matters where nobody outside is left to look at one.
DEADLINE_INSIDE_EXTRA_SECONDS = 30


@dataclass(frozen=True)
class ModuleSpec:
    """One module to run, and within what.

    Attributes:
        module: importable name, started as `python -m <module>`.
        arguments: command-line arguments; visible to everybody on the machine.
        environment: variables that are no secrets; they show in `docker inspect`.
        aws: how it reaches AWS. What is secret of it gets to the module by a file or a pipe
            and never by the environment it is started with.
        memory_mb: upper bound of resident memory, in MiB.
        deadline_seconds: time from start to end after which the module is stopped.
    """

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    aws: AwsAccess
    memory_mb: int
    deadline_seconds: float

    @property
    def deadline_inside(self) -> float:
        """Seconds after which the module is ended by a clock of its own."""
        return self.deadline_seconds + DEADLINE_INSIDE_EXTRA_SECONDS


def out_of_memory(spec: ModuleSpec, where: str, tail: Sequence[str]) -> ModuleMemoryError:
    """The error of a module that reached its memory limit in its container or process."""
    return ModuleMemoryError(
        f"{spec.module} ran out of its {spec.memory_mb} MiB of memory in its {where}."
        " Give it more (memory_mb), or fewer dates in one run.",
        log_tail=tail,
    )


def timed_out(spec: ModuleSpec, tail: Sequence[str]) -> ModuleTimeoutError:
    """The error of a module that was stopped at its deadline."""
    return ModuleTimeoutError(
        f"{spec.module} was still running after {spec.deadline_seconds:g} s and was stopped."
        " Give it more time (deadline_seconds), or fewer dates in one run.",
        log_tail=tail,
    )


@contextmanager
def renewing(access: AwsAccess, hand_over: Callable[[Mapping[str, str]], None]) -> Generator[None]:
    """Hands credentials that expire over again and again while the block runs.

    Args:
        access: whose credentials.
        hand_over: gives them to the module; whatever it raises, the next time comes.
    """
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_SECONDS):
            try:
                hand_over(access.credentials())
            except Exception as error:
                # The module still has those before; where they end, it says so itself.
                sys.stderr.write(f"The AWS credentials were not renewed: {type(error).__name__}\n")

    thread = threading.Thread(target=renew, name="renew-credentials", daemon=True)
    if access.expires:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if access.expires:
            thread.join(STOP_RENEWING_SECONDS)


class DeadlinePassedError(Exception):
    """The time a module was given is over; for use between the modules of this package."""


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cuts a stream of chunks into lines of any length, wherever the chunks were cut.

    A Docker Engine hands out a long line in pieces of 16 KiB; a pipe in pieces of 64 KiB.
    """
    pieces: list[bytes] = []
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        pieces.append(first)
        for piece in rest:
            yield b"".join(pieces)
            pieces = [piece]
    if any(pieces):
        yield b"".join(pieces)


class Output:
    """The lines of a module's streams, each read by a thread of its own."""

    def __init__(self) -> None:
        # Lines with the names of their streams; None for the end of a stream.
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(QUEUED_LINES)
        self._open = 0
        self._abandoned = threading.Event()

    def follow(self, stream: str, chunks: Iterable[bytes]) -> None:
        """Starts to read one stream; an error of the reader ends the stream."""
        self._open += 1
        name = f"read-{stream}"
        threading.Thread(target=self._read, args=(stream, chunks), name=name, daemon=True).start()

    def abandon(self) -> None:
        """Lets the reading threads go, whatever they still have."""
        self._abandoned.set()

    def _read(self, stream: str, chunks: Iterable[bytes]) -> None:
        # Whatever the error is, the stream has ended; how the module ended is asked for elsewhere.
        with suppress(Exception):
            for line in split_lines(chunks):
                self._put((stream, line))
        self._put(None)

    def _put(self, item: tuple[str, bytes] | None) -> None:
        while not self._abandoned.is_set():
            try:
                self._queue.put(item, timeout=1.0)
            except queue.Full:
                continue
            return

    def pump(
        self,
        consume: Callable[[str, bytes], None],
        *,
        deadline: float,
        check: Callable[[], bool],
    ) -> None:
        """Hands on every line as it comes, until all streams have ended.

        Args:
            consume: called in this thread with the stream's name and a line without its newline.
            deadline: moment of `time.monotonic()` that ends the waiting.
            check: called a few times a second; may raise, and returns False once the module has
                ended, after which lines are awaited for a second more (something it left behind
                may hold its streams open for ever).

        Raises:
            DeadlinePassedError: the deadline came first.
        """
        next_check = 0.0
        ended_at: float | None = None
        while self._open:
            now = time.monotonic()
            if ended_at is not None and now >= ended_at + LAST_LINES_SECONDS:
                return
            if now >= deadline:
                raise DeadlinePassedError
            if now >= next_check and ended_at is None:
                next_check = now + STATE_CHECK_SECONDS
                ended_at = None if check() else now
            try:
                line = self._queue.get(timeout=min(STATE_CHECK_SECONDS, deadline - now))
            except queue.Empty:
                continue
            if line is None:
                self._open -= 1
            else:
                consume(*line)


@contextmanager
def pipes_session(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    injector: dg.PipesContextInjector,
    reader: "StreamMessageReader",
    extras: Mapping[str, Any],
) -> Generator[dg.PipesSession]:
    """Dagster's session around a module; an error of the module gets what it had reported."""
    with dg.open_pipes_session(
        context=context, context_injector=injector, message_reader=reader, extras=dict(extras)
    ) as session:
        try:
            yield session
        except ModuleRunError as error:
            error.messages = tuple(session.get_custom_messages())
            raise


class StreamMessageReader(dg.PipesMessageReader):
    """Takes the Pipes messages out of a module's output; all other lines are its log.

    Messages travel as lines of standard error, or of output where something else writes to the
    error at the same time. The log goes to this process's own streams, where Dagster captures it,
    and its last lines are kept for the error message.
    """

    def __init__(self, stream: str = PipesDefaultMessageWriter.STDERR) -> None:
        self._stream = stream
        self._handler: dg.PipesMessageHandler | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    @property
    def expected_writer_count(self) -> int:
        """Dagster's hook: one process reports, so its `closed` is the end."""
        return 1

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of the log so far."""
        return tuple(self._tail)

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Generator[PipesParams]:
        """Dagster's hook: messages read while the context is open go to its handler."""
        self._handler = handler
        try:
            yield {PipesDefaultMessageWriter.STDIO_KEY: self._stream}
        finally:
            self._handler = None

    def consume(self, stream: str, line: bytes) -> None:
        """Handles one line of `stdout` or `stderr`."""
        text = line.decode("utf-8", errors="replace")
        message = _as_message(text)
        if message is not None and self._handler is not None:
            self._handler.handle_message(message)
            return
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.write(text + "\n")
        target.flush()
        if text.strip():
            self._tail.append(text[:TAIL_COLUMNS])

    def no_messages_debug_text(self) -> str:
        """Dagster's hook: what its log says where no message came."""
        return f"The messages were expected as lines of the module's {self._stream}."


def _as_message(text: str) -> Any:
    """The Pipes message a line holds, or None for a line of the log."""
    if not text.startswith("{") or PIPES_PROTOCOL_VERSION_FIELD not in text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    known = ("method" in value, "params" in value, PIPES_PROTOCOL_VERSION_FIELD in value)
    return value if all(known) else None
