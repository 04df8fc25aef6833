"""Copies the log lines of a job from CloudWatch, each once, as they come."""

import math
import time
from typing import TYPE_CHECKING

from .calls import Calls, Clients
from .errors import NotFoundError, SageMakerError

if TYPE_CHECKING:
    from mypy_boto3_logs.type_defs import GetLogEventsRequestTypeDef, OutputLogEventTypeDef

# One event of Dagster's log for many lines: each is a row in its database.
LINES_AT_ONCE = 200
# A chatty job must not keep the polling of its status waiting.
PAGES_AT_ONCE = 20
# Pages that follow one another at once: what there is, and that there is no more. Reading logs is
# limited for the whole account, in places to five requests a second:
# https://repost.aws/knowledge-center/cloudwatch-logs-throttling
PAGES_WITHOUT_PAUSE = 2
PAUSE_BETWEEN_PAGES_SECONDS = 0.25
# Logs are an extra: they never get the patience that the job itself gets.
PATIENCE_SECONDS = 5
PAUSE_SECONDS = 30


class JobLogs:
    """Follows the log streams of one job, one stream for each instance.

    A log that cannot be read never disturbs the job: it is reported once and then left out.
    """

    def __init__(
        self, clients: Clients, calls: Calls, *, group: str, job: str, instances: int = 1
    ) -> None:
        self._client = clients.logs
        self._calls = calls.with_patience(PATIENCE_SECONDS)
        self._log = calls.log
        self._group = group
        self._job = job
        self._instances = instances
        self._tokens: dict[str, str | None] = {}
        self._not_before = 0.0

    def copy_new(self) -> int:
        """Copy the lines that came since the last time.

        Returns:
            How many there were.
        """
        if time.monotonic() < self._not_before:
            return 0
        try:
            self._find_streams()
            return sum([self._copy_stream(stream) for stream in list(self._tokens)])
        except NotFoundError:
            return 0  # the first line makes the stream
        except SageMakerError as error:
            if error.transient:  # the job's own status is not to wait for it
                self._not_before = time.monotonic() + PAUSE_SECONDS
            else:
                self._not_before = math.inf
                self._log.warning(f"The log of {self._job} cannot be read and is left out: {error}")
            return 0

    def _find_streams(self) -> None:
        if len(self._tokens) >= self._instances:
            return
        token: str | None = None
        while True:
            more = {"nextToken": token} if token else {}
            page = self._calls(
                self._client.describe_log_streams,
                logGroupName=self._group,
                logStreamNamePrefix=f"{self._job}/",
                **more,
            )
            for stream in page["logStreams"]:
                name = stream.get("logStreamName", "")
                # A transform job's instances have each a second one, `…/data-log`, of their data.
                if name.count("/") == 1:
                    self._tokens.setdefault(name, None)
            token = page.get("nextToken")
            if not token:
                return

    def _copy_stream(self, stream: str) -> int:
        copied = 0
        for number in range(PAGES_AT_ONCE):
            if number >= PAGES_WITHOUT_PAUSE:
                self._calls.sleep(PAUSE_BETWEEN_PAGES_SECONDS)
            token = self._tokens[stream]
            request: GetLogEventsRequestTypeDef = {
                "logGroupName": self._group,
                "logStreamName": stream,
                "startFromHead": True,
            }
            if token:
                request["nextToken"] = token
            page = self._calls(self._client.get_log_events, **request)
            self._log_lines(stream, page["events"])
            copied += len(page["events"])
            self._tokens[stream] = page["nextForwardToken"]
            # CloudWatch says "no more for now" by repeating the token of the request, and may give
            # empty pages before.
            if page["nextForwardToken"] == token:
                break
        return copied

    def _log_lines(self, stream: str, events: "list[OutputLogEventTypeDef]") -> None:
        instance = stream.removeprefix(f"{self._job}/")
        lines = [event.get("message", "").rstrip("\n") for event in events]
        for start in range(0, len(lines), LINES_AT_ONCE):
            part = lines[start : start + LINES_AT_ONCE]
            joined = "\n".join(part)
            self._log.info(f"{instance}: {joined}" if len(part) == 1 else f"{instance}:\n{joined}")
