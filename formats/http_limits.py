"""How long an HTTP request may take to arrive, and how large its head may be.

uvicorn bounds neither. Its `limit_concurrency` would refuse the others in place of the slow ones,
those that ask for its health with them. Give `LimitedHttp` to it: `uvicorn.run(app, http=…)`.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# As API Gateway has it: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
HEAD_BYTES = 10_240
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0

_END_OF_HEAD = re.compile(rb"\n\r?\n")


class LimitedHttp(H11Protocol):
    """uvicorn's connection, ended where a request is too slow (408) or its head too large (431).

    Its attribute `conn` is an `h11.Connection`, which knows what part of a request is arriving.
    """

    _arriving: object = None
    _timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Asyncio's: the time for the first head begins."""
        super().connection_made(transport)
        self._head = bytearray()
        self._time(h11.IDLE)

    def data_received(self, data: bytes) -> None:
        """Asyncio's: bytes of a request."""
        if self._refused:
            return
        if self.conn.their_state is h11.IDLE:
            self._head += data[: HEAD_BYTES + 1]
            if len(self._head) > HEAD_BYTES and not _END_OF_HEAD.search(self._head, 0, HEAD_BYTES):
                self._refuse_head()
                return
        super().data_received(data)

    def handle_events(self) -> None:
        """uvicorn's: goes through what has been received."""
        super().handle_events()
        state = self.conn.their_state
        if state is not h11.IDLE:
            self._head.clear()
        if self.transport.get_protocol() is not self:
            # A WebSocket has taken the connection over, for as long as it likes.
            state = None
        elif state is h11.IDLE and not self.conn.trailing_data[0]:
            # Between two requests; uvicorn has a time for that.
            state = None
        self._time(state)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio's: all is over."""
        self._time(None)
        super().connection_lost(exc)

    def _time(self, arriving: object) -> None:
        """Starts the clock anew where another part of a request is arriving."""
        if arriving is self._arriving:
            return
        self._arriving = arriving
        if self._timer is not None:
            self._timer.cancel()
        limits: dict[object, float] = {h11.IDLE: HEAD_SECONDS, h11.SEND_BODY: BODY_SECONDS}
        seconds = limits.get(arriving)
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        # Where nothing of a request has come, nothing is said: a browser that connects beforehand
        # may take it for the answer to what it asks next.
        begun = self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]
        if begun or self.conn.our_state is h11.SEND_RESPONSE:
            self._answer(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
        self.transport.close()

    def _refuse_head(self) -> None:
        self._answer(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The request's first line and headers may have {HEAD_BYTES:,} bytes.",
        )
        # What is still sent is read and dropped: else the client would see a broken connection.
        self._refused = True
        self._time(None)
        self.loop.call_later(1, self.transport.close)

    def _answer(self, status: HTTPStatus, sentence: str) -> None:
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(sentence) + 1}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", f"{sentence}\n"]).encode())
