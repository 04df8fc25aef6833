"""Carries what a container writes to its log stream: line by line, however much it is."""

import contextlib
import time
from collections.abc import Callable
from typing import IO

from sagemaker_local import names
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.logs import Logs

# Pieces of this size are one transaction of the store.
_CHUNK = 64 * 1024
# CloudWatch's limit for one event; longer lines become several.
_LINE = 256 * 1024
# What of one stream is kept.
_STREAM = 20 * 1024 * 1024
_NO_MORE = "The embedded SageMaker keeps 20 MB of a log stream; what follows is not kept."


def instance_stream(group: str, owner: str, instance: str) -> str:
    """The name of the stream of one machine of an endpoint's variant or a transform job.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html
    """
    began = f"-{int(time.time())}" if group == names.TRANSFORM_LOGS else ""
    return f"{owner}/{instance}{began}"


def follow(
    output: IO[bytes],
    logs: Logs,
    group: str,
    stream: str,
    look_at: Callable[[str], None] | None = None,
) -> None:
    """Copies lines from a pipe to a log stream until the pipe ends.

    Args:
        output: A buffered pipe; it is closed at the end.
        logs: Where the lines go. Where the disk is full, they are lost and not the job.
        group: The log group.
        stream: The log stream.
        look_at: Called with each line, those that are not kept as well.
    """
    kept = 0
    rest = b""
    with output:
        # Not `for line in output`: a line may be longer than memory.
        while chunk := output.read1(_CHUNK):  # type: ignore[attr-defined]
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE:
                lines, rest = [*lines, rest], b""
            if look_at is not None:
                for line in lines:
                    look_at(_text(line))
            if kept < _STREAM:
                kept += len(chunk)
                _write(logs, group, stream, lines, last=kept >= _STREAM)
        if rest and look_at is not None:
            look_at(_text(rest))
        if rest and kept < _STREAM:
            _write(logs, group, stream, [rest])


def _write(logs: Logs, group: str, stream: str, lines: list[bytes], *, last: bool = False) -> None:
    # An event of CloudWatch's is never empty.
    texts = [text for line in lines if (text := _text(line))] + ([_NO_MORE] if last else [])
    if texts:
        with contextlib.suppress(AwsError):
            logs.write(group, stream, texts)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()
