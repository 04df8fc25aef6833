"""CloudWatch Logs: what children write, and the calls with which clients read it.

Only reading is offered to clients; the server itself is the only writer.
"""

import json
import re
import time
from collections.abc import Iterable
from typing import Any

from sagemaker_local import names
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.pages import decode_token, encode_token, fingerprint_of, page
from sagemaker_local.store import Document, Store

_EVENTS = 10_000
_STREAMS = 50
# A quoted phrase, or a word, of a filter pattern.
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')


class Logs:
    """Log groups, streams and events."""

    def __init__(self, store: Store, config: Config) -> None:
        self._store = store
        self._config = config

    def write(self, group: str, stream: str, lines: Iterable[str]) -> None:
        """Appends lines to a stream, which is made if there is none."""
        now = int(time.time() * 1000)
        with self._store.transaction():
            self._store.execute(
                "INSERT OR IGNORE INTO stream (log_group, name, created) VALUES (?, ?, ?)",
                (group, stream, now),
            )
            self._store.execute_many(
                "INSERT INTO event (log_group, stream, timestamp, ingested, message)"
                " VALUES (?, ?, ?, ?, ?)",
                [(group, stream, now, now, line) for line in lines],
            )
            self._store.execute(
                "UPDATE stream SET first_event = coalesce(first_event, ?), last_event = ?,"
                " last_ingestion = ? WHERE log_group = ? AND name = ?",
                (now, now, now, group, stream),
            )

    def describe_log_groups(self, request: Document) -> Document:
        """DescribeLogGroups."""
        prefix, contains = request.get("logGroupNamePrefix"), request.get("logGroupNamePattern")
        rows = self._store.execute(
            "SELECT log_group, min(created) AS created FROM stream GROUP BY log_group"
        )
        items = [
            {
                "logGroupName": row["log_group"],
                "creationTime": row["created"],
                "metricFilterCount": 0,
                "arn": names.log_stream_arn(self._config, row["log_group"]),
                "logGroupArn": names.log_stream_arn(self._config, row["log_group"])[:-2],
                "storedBytes": 0,
                "logGroupClass": "STANDARD",
            }
            for row in rows
            if row["log_group"].startswith(prefix or "") and (contains or "") in row["log_group"]
        ]
        return _paged(request, "logGroups", items)

    def describe_log_streams(self, request: Document) -> Document:
        """DescribeLogStreams."""
        group = self._group(request)
        prefix = request.get("logStreamNamePrefix", "")
        by_time = request.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        rows = self._store.execute("SELECT * FROM stream WHERE log_group = ?", (group,))
        items = [
            {
                "logStreamName": row["name"],
                "creationTime": row["created"],
                "firstEventTimestamp": row["first_event"],
                "lastEventTimestamp": row["last_event"],
                "lastIngestionTime": row["last_ingestion"],
                "uploadSequenceToken": None,
                "arn": names.log_stream_arn(self._config, group, row["name"]),
                "storedBytes": 0,
            }
            for row in rows
            if row["name"].startswith(prefix)
        ]
        items.sort(
            key=lambda row: (
                row["lastEventTimestamp"] or 0 if by_time else 0,
                row["logStreamName"],
            ),
            reverse=request.get("descending", False),
        )
        return _paged(request, "logStreams", items)

    def get_log_events(self, request: Document) -> Document:
        """GetLogEvents: from the head on, or the last page; tokens go both ways, as AWS's do."""
        group, stream = self._group(request), request.get("logStreamName", "")
        if not self._store.execute(
            "SELECT 1 FROM stream WHERE log_group = ? AND name = ?", (group, stream)
        ):
            raise _missing("The specified log stream does not exist.")
        limit = request.get("limit", _EVENTS)
        where = "log_group = ? AND stream = ? AND timestamp >= ? AND timestamp < ?"
        values = (group, stream, request.get("startTime", 0), request.get("endTime", 2**62))
        token = request.get("nextToken")
        forward, edge = request.get("startFromHead", False), None
        if token is not None:
            forward, edge = _direction(token)
        beyond = "" if edge is None else f" AND id {'>' if forward else '<'} {edge}"
        rows = self._store.execute(
            f"SELECT * FROM event WHERE {where}{beyond}"  # noqa: S608 - edge is an integer
            f" ORDER BY id {'ASC' if forward else 'DESC'} LIMIT ?",
            (*values, limit),
        )
        if not forward:
            rows.reverse()
        # At either end AWS gives the same token again.
        first = rows[0]["id"] if rows else (edge or 0) + (1 if forward and edge else 0)
        last = rows[-1]["id"] if rows else (edge or 0) - (0 if forward or not edge else 1)
        return {
            "events": [_event(row) for row in rows],
            "nextForwardToken": f"f/{last:056d}",
            "nextBackwardToken": f"b/{first:056d}",
        }

    def filter_log_events(self, request: Document) -> Document:
        """FilterLogEvents; a pattern is a list of words and phrases that must all occur."""
        group = self._group(request)
        streams = json.dumps(request.get("logStreamNames"))
        prefix = request.get("logStreamNamePrefix", "")
        terms = json.dumps(_terms(request.get("filterPattern", "")))
        fingerprint, token = fingerprint_of("events", request), request.get("nextToken")
        after = decode_token(fingerprint, token)[0] if token else 0
        limit = request.get("limit", _EVENTS)
        rows = self._store.execute(
            "SELECT * FROM event WHERE log_group = ? AND id > ? AND timestamp BETWEEN ? AND ?"
            " AND (? = 'null' OR stream IN (SELECT value FROM json_each(?)))"
            " AND substr(stream, 1, length(?)) = ?"
            " AND NOT EXISTS (SELECT * FROM json_each(?) WHERE instr(message, value) = 0)"
            " ORDER BY id LIMIT ?",
            (
                *(group, after, request.get("startTime", 0), request.get("endTime", 2**62)),
                *(streams, streams, prefix, prefix, terms, limit + 1),
            ),
        )
        answer: Document = {
            "events": [
                {**_event(row), "logStreamName": row["stream"], "eventId": f"{row['id']:056d}"}
                for row in rows[:limit]
            ],
            "searchedLogStreams": [],
        }
        if len(rows) > limit:
            answer["nextToken"] = encode_token(fingerprint, [rows[limit - 1]["id"]])
        return answer

    def _group(self, request: Document) -> str:
        group = request.get("logGroupName") or request.get("logGroupIdentifier", "")
        if group.startswith("arn:"):
            group = group.split(":log-group:", 1)[-1].removesuffix(":*")
        if not self._store.execute("SELECT 1 FROM stream WHERE log_group = ? LIMIT 1", (group,)):
            raise _missing("The specified log group does not exist.")
        return group


def _terms(pattern: str) -> list[str]:
    """The words and phrases of a filter pattern.

    Raises:
        AwsError: It asks for more than that all of them occur.
    """
    found = _TERM.findall(pattern)
    if pattern.lstrip().startswith(("{", "[")) or any(
        word.startswith(("?", "-", "%")) for _, word in found
    ):
        raise _invalid(
            f"The filter pattern {pattern} is not supported here: give words, and phrases in "
            "quotation marks, that all have to occur. Words after ?, - or %, {…} and […] are not "
            "understood."
        )
    return [phrase or word for phrase, word in found]


def _event(row: Any) -> Document:
    return {
        "timestamp": row["timestamp"],
        "message": row["message"],
        "ingestionTime": row["ingested"],
    }


def _direction(token: str) -> tuple[bool, int]:
    kind, _, digits = token.partition("/")
    if kind not in ("f", "b") or not digits.isdigit():
        raise _invalid("The specified nextToken is invalid.")
    return kind == "f", int(digits)


def _paged(request: Document, member: str, items: list[Document]) -> Document:
    limit = request.get("limit", _STREAMS)
    fingerprint = fingerprint_of(member, request)
    shown, token = page(items, fingerprint, request.get("nextToken"), limit)
    return {member: shown, "nextToken": token}


def _missing(message: str) -> AwsError:
    return AwsError("ResourceNotFoundException", message)


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)
