"""What stands in front of Dagster's app: limits, the rule about browsers, reading by POST."""

import os
from functools import partial

import uvicorn
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from formats.browser_guard import BrowserGuard, parse_hosts
from formats.http_limits import LimitedHttp


class NoQueriesByGet:
    """Refuses GraphQL by GET; the page to type queries in is still shown."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if (
            scope["type"] == "http"
            and scope["method"] in {"GET", "HEAD"}
            and scope["path"].rstrip("/").endswith("/graphql")
            and "text/html" not in Headers(scope=scope).get("accept", "")
        ):
            answer = PlainTextResponse("Send queries by POST.\n", 405, {"Allow": "POST"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def guard_webserver() -> None:
    """Put the guards in front of every Dagster web server that this process makes from now on.

    PLATFORM_ALLOWED_HOSTS has names, by commas, by which it may be asked beside 127.0.0.1 and
    localhost: those of a proxy in front of it.
    """
    setting = "PLATFORM_ALLOWED_HOSTS"
    allowed_hosts = parse_hosts(os.environ.get(setting, ""))
    build = DagsterWebserver.build_middleware

    def build_middleware(self: DagsterWebserver) -> list[Middleware]:
        return [
            Middleware(BrowserGuard, allowed_hosts=allowed_hosts, setting=setting),
            Middleware(NoQueriesByGet),
            *build(self),
        ]

    # What Dagster offers to its subclasses. Its command makes no other class.
    DagsterWebserver.build_middleware = build_middleware
    # Nor has its command a way to choose how uvicorn reads requests.
    uvicorn.run = partial(uvicorn.run, http=LimitedHttp)
