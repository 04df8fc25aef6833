"""One HTTP request to a container on this machine, over a connection of its own."""

import asyncio
from collections.abc import Mapping

import h11

_CHUNK = 64 * 1024
_HOST = "127.0.0.1"


class TooLargeError(Exception):
    """The answer is longer than was allowed."""


async def request(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    limit: int = _CHUNK,
) -> tuple[int, dict[str, str], bytes]:
    """Asks and waits for the whole answer; the caller limits the time.

    Returns:
        Status, headers by their names in lower case, and body.

    Raises:
        OSError: Nobody listens, or the connection broke.
        h11.RemoteProtocolError: The answer is not HTTP, or incomplete.
        TooLargeError: The answer's body is longer than `limit` bytes.
    """
    connection = h11.Connection(h11.CLIENT)
    own = {"host": f"{_HOST}:{port}", "connection": "close", "content-length": str(len(body))}
    given = own | dict(headers or {})
    reader, writer = await asyncio.open_connection(_HOST, port)
    try:
        head = h11.Request(
            method=method,
            target=path,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        )
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        return await _receive(connection, reader, limit)
    finally:
        writer.close()


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, limit: int
) -> tuple[int, dict[str, str], bytes]:
    status, headers, body = 0, {}, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise TooLargeError
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the connection ended before the answer")
