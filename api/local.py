"""The Chalice app on this machine: an ASGI server that calls it as API Gateway would.

Chalice's own local server answers one request at a time. Here several threads answer, each with an
app of its own, since a Chalice app holds the request that it works on. Like API Gateway in front of
the Lambda, this refuses bodies that are too large, and more requests than can be answered.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
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

HOST = "127.0.0.1"

# Requests that are being answered, and requests that wait.
MAX_IN_FLIGHT = CONNECTIONS + 48


class _NotFoundError(ApiError):
    status, code = 404, "NotFound"


class Gateway:
    """An ASGI app that hands HTTP requests to Chalice as API Gateway's events."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="digits")
        self._local = threading.local()
        self._in_flight = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _send(send, await self._answer(scope, receive))

    async def _answer(self, scope: Message, receive: Receive) -> dict[str, Any]:
        if self._in_flight >= MAX_IN_FLIGHT:
            return _failure(OverloadedError("There is too much to do; try again in a second."))
        self._in_flight += 1
        try:
            event = _event(scope, await _body(receive))
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._call, event)
        except ApiError as error:
            return _failure(error)
        finally:
            self._in_flight -= 1

    def _call(self, event: dict[str, Any]) -> dict[str, Any]:
        app: Chalice | None = getattr(self._local, "app", None)
        if app is None:
            app = self._local.app = create_app()
        if event["path"] not in app.routes:
            return _failure(_NotFoundError(f"There is nothing at {event['path'][:100]}."))
        return app(event, None)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            # Making the clients takes half a second, which the first caller need not wait for.
            threading.Thread(target=lambda: recogniser().warm_up(), daemon=True).start()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _body(receive: Receive) -> bytes:
    """The body, as long as it is not larger than any route reads."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BATCH_BYTES:
            raise TooLargeError(f"At most {MAX_BATCH_BYTES:,} bytes are read.")
        if not message.get("more_body", False):
            return bytes(body)


def _event(scope: Message, body: bytes) -> dict[str, Any]:
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


def main() -> None:
    """`python -m api --port N`: serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the digits.")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1; by default 8000")
    port = parser.parse_args().port
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Keep-alive longer than a load balancer's pause; requests are not logged one by one.
    uvicorn.run(
        BrowserGuard(Gateway(), parse_hosts(ApiSettings().allowed_hosts)),
        host=HOST,
        port=port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
