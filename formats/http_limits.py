"""How long an HTTP request may take to arrive, and how large its head may be.

uvicorn bounds neither. Its `limit_concurrency` would refuse the others in place of the slow ones,
those that ask for its health with them. Give `LimitedHttp` to it: `uvicorn.run(app, http=…)`.
"""

import asyncio
import re
from enum import Enum, auto
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As API Gateway has it: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
HEAD_BYTES = 10_240
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0

# More than one read has: whatever is no body is held in memory until it ends.
_OVERHEAD_BYTES = 512 * 1024

# Empty lines may stand before a request.
_WHOLE_HEAD = re.compile(rb"[^\r\n].*?\n\r?\n", re.DOTALL)


class _Part(Enum):
    """What of a request is arriving."""

    NOTHING_YET = auto()
    HEAD = auto()
    BODY = auto()


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's connection, ended where a request is too slow (408) or its head too large (431)."""

    _part: _Part | None = None
    _timer: asyncio.TimerHandle | None = None
    _refused = False
    # What has come since the last part of a body: headers, and the trailers of a chunked body.
    _overhead = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asyncio's: the time for the first head begins."""
        super().connection_made(transport)
        self._head = bytearray()
        self._await(_Part.NOTHING_YET)

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes of requests."""
        if self._refused:
            return
        if self._part is not _Part.BODY:
            self._head += data[: HEAD_BYTES + 1]
            if len(self._head) > HEAD_BYTES and not _WHOLE_HEAD.search(self._head, 0, HEAD_BYTES):
                self._refuse_head()
                return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > _OVERHEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        """httptools': a request begins to arrive."""
        super().on_message_begin()
        self._overhead = 0
        self._await(_Part.HEAD)

    def on_body(self, body: bytes) -> None:
        """httptools': a part of its body."""
        self._overhead = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """httptools': its head is whole."""
        self._head.clear()
        self._await(_Part.BODY)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """httptools': all of it is there. uvicorn has a time for the pause until the next one."""
        super().on_message_complete()
        self._await(None)

    def handle_websocket_upgrade(self) -> None:
        """uvicorn's: a WebSocket takes the connection over, for as long as it likes."""
        self._await(None)
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: all is over."""
        self._await(None)
        super().connection_lost(exc)

    def _await(self, part: _Part | None) -> None:
        """Starts the clock anew for another part of a request."""
        self._part = part
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if part is not None:
            seconds = BODY_SECONDS if part is _Part.BODY else HEAD_SECONDS
            self._timer = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if self._answers_earlier_request():
            # Until that ends, uvicorn may have ceased to read.
            self._await(self._part)
            return
        # Where nothing of a request has come, nothing is said: a browser that connects beforehand
        # may take it for the answer to what it asks next.
        if self._part is _Part.HEAD or (
            self._part is _Part.BODY and not self.cycle.response_started
        ):
            self._answer(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()

    def _answers_earlier_request(self) -> bool:
        if self._part is _Part.BODY:
            return bool(self.pipeline)
        return bool(self.cycle) and not self.cycle.response_complete

    def _refuse_head(self) -> None:
        if self._answers_earlier_request():
            self.transport.close()
            return
        self._answer(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The request's first line and headers may have {HEAD_BYTES:,} bytes.",
        )
        # What is still sent is read and dropped: else the client would see a broken connection.
        self._refused = True
        self._await(None)
        self.loop.call_later(1, self.transport.close)

    def _answer(self, status: HTTPStatus, sentence: str) -> None:
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(sentence) + 1}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", f"{sentence}\n"]).encode())
