"""One HTTP request to a container on this machine, over a connection of its own."""

from collections.abc import Mapping

import httpx

_SHORT_ANSWER_BYTES = 64 * 1024
# Nobody is asked for a certificate: to load the authorities takes longer than the request.
_NO_TLS = httpx.create_ssl_context(verify=False)


class TooLargeError(Exception):
    """The answer is longer than was allowed."""


async def request(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    limit: int = _SHORT_ANSWER_BYTES,
) -> tuple[int, Mapping[str, str], bytes]:
    """Asks and waits for the whole answer; the caller limits the time.

    Returns:
        Status, headers, and body as it was sent.

    Raises:
        httpx.TransportError: Nobody listens, the connection broke, or the answer is not HTTP.
        TooLargeError: The answer's body is longer than `limit` bytes.
    """
    url = f"http://127.0.0.1:{port}{path}"
    given = {"accept-encoding": "identity", **(headers or {})}
    async with (
        httpx.AsyncClient(
            trust_env=False,
            timeout=None,  # noqa: S113 - the caller has one for the whole
            verify=_NO_TLS,
        ) as client,
        client.stream(method, url, headers=given, content=body) as answer,
    ):
        received = bytearray()
        async for chunk in answer.aiter_raw():
            received += chunk
            if len(received) > limit:
                raise TooLargeError
        return answer.status_code, answer.headers, bytes(received)
