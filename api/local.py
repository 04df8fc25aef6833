"""The Chalice app on this machine: an ASGI server that calls it as API Gateway would.

Chalice's own local server answers one request at a time. Here several threads answer, each with an
app of its own, since a Chalice app holds the request that it works on. Like API Gateway in front of
the Lambda, this refuses bodies that are too large, and more requests than can be answered.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from chalice.app import Chalice

from api.app import create_app, recogniser
from api.aws import CONNECTIONS
from api.errors import ApiError, OverloadedError, TooLargeError
from api.requests import MAX_BATCH_BYTES
from api.responses import failure_answer
from api.settings import ApiSettings
from formats.browser_guard import BrowserGuard, Message, Receive, Send, parse_hosts
from formats.http_limits import LimitedHttp

HOST = "127.0.0.1"

# Requests that are being answered, and requests that wait for it with their bodies complete.
MAX_IN_FLIGHT = CONNECTIONS + 48
# Bytes of all bodies, those that are still arriving with them: a slow body costs what it has sent.
MAX_HELD_BYTES = 128 * 2**20
# From this size on, glibc gives memory back once it is free. Pillow takes 16 MB at a time for large
# pictures; what every request takes is smaller.
_LARGE_BYTES = 8 * 2**20
# As much of what is free each thread keeps, so as not to ask for it anew with every request.
_KEPT_BYTES = 2 * 2**20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class _NotFoundError(ApiError):
    status, code = 404, "NotFound"


class _DisconnectedError(ApiError):
    status, code = 400, "BadRequest"


class Gateway:
    """An ASGI app that hands HTTP requests to Chalice as API Gateway's events."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="digits")
        # It waits for no picture, and is never turned away.
        self._health = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._local = threading.local()
        self._in_flight = 0
        self._held_bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _send(send, await self._answer(scope, receive))

    async def _answer(self, scope: Message, receive: Receive) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        if scope["path"] == "/healthz":
            return await loop.run_in_executor(self._health, self._call, scope, b"")
        body = bytearray()
        try:
            await self._receive(receive, body)
            if self._in_flight >= MAX_IN_FLIGHT:
                raise _too_much()
            self._in_flight += 1
            try:
                return await loop.run_in_executor(self._threads, self._call, scope, body)
            finally:
                self._in_flight -= 1
        except ApiError as error:
            return _failure(error)
        finally:
            self._held_bytes -= len(body)

    async def _receive(self, receive: Receive, body: bytearray) -> None:
        """Adds to a body what comes of it, as long as that is not more than any route reads."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError("The request ended within its body.")
            part = message.get("body", b"")
            if len(body) + len(part) > MAX_BATCH_BYTES:
                raise TooLargeError(f"At most {MAX_BATCH_BYTES:,} bytes are read.")
            if self._held_bytes + len(part) > MAX_HELD_BYTES:
                raise _too_much()
            body += part
            self._held_bytes += len(part)
            more = message.get("more_body", False)

    def _call(self, scope: Message, body: bytes | bytearray) -> dict[str, Any]:
        app: Chalice | None = getattr(self._local, "app", None)
        if app is None:
            app = self._local.app = create_app()
        if scope["path"] not in app.routes:
            return _failure(_NotFoundError(f"There is nothing at {scope['path'][:100]}."))
        return app(_event(scope, body), None)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Making the clients takes half a second, which the first caller need not wait for.
            threading.Thread(target=lambda: recogniser().warm_up(), daemon=True).start()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _event(scope: Message, body: bytes | bytearray) -> dict[str, Any]:
    """A request as API Gateway's REST proxy event."""
    queries: dict[str, list[str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        queries.setdefault(name, []).append(value)
    headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]}
    path, method = scope["path"], scope["method"]
    client = scope.get("client") or ("", 0)
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueQueryStringParameters": queries or None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": path,
            "httpMethod": method,
            "path": path,
            "identity": {"sourceIp": client[0]},
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


def _too_much() -> ApiError:
    return OverloadedError("There is too much to do; try again in a second.")


def _failure(error: ApiError) -> dict[str, Any]:
    return failure_answer(error).to_dict()


async def _send(send: Send, answer: dict[str, Any]) -> None:
    body = answer["body"]
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    headers = {
        # Chalice's own failures name no type; API Gateway, too, takes them for JSON.
        "Content-Type": "application/json",
        **answer["headers"],
        "Content-Length": str(len(content)),
    }
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer["statusCode"], "headers": encoded})
    await send({"type": "http.response.body", "body": content})


def _give_memory_back() -> None:
    """Has memory of large pictures returned to the system where glibc would keep it for itself."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def main() -> None:
    """`python -m api --port N`: serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the digits.")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1; by default 8000")
    port = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    _give_memory_back()
    allowed_hosts = parse_hosts(ApiSettings().allowed_hosts)
    # Keep-alive longer than a load balancer's pause; requests are not logged one by one.
    uvicorn.run(
        BrowserGuard(Gateway(), allowed_hosts, setting="PLATFORM_ALLOWED_HOSTS"),
        host=HOST,
        port=port,
        http=LimitedHttp,
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
