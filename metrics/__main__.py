"""`python -m metrics`: serves /metrics until it is ended."""

import argparse
import functools
import os
import threading

import uvicorn
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from formats.browser_guard import BrowserGuard, parse_hosts
from formats.http_limits import LimitedHttp
from formats.proxies import proxy_variables

_LOADING = threading.Lock()


@functools.cache
def _load() -> CollectorRegistry:
    from metrics.collector import load

    registry = CollectorRegistry()
    registry.register(load())
    return registry


def scrape(_: Request) -> Response:
    """All numbers. The platform is loaded when the first one asks: that takes 200 MB."""
    with _LOADING:
        registry = _load()
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


def main() -> None:
    """Serve until SIGTERM or Ctrl-C.

    PLATFORM_ALLOWED_HOSTS has names, by commas, by which Prometheus may ask beside 127.0.0.1 and
    localhost.
    """
    parser = argparse.ArgumentParser(prog="metrics", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=9400)
    arguments = parser.parse_args()
    os.environ.update(proxy_variables(os.environ))
    setting = "PLATFORM_ALLOWED_HOSTS"
    allowed_hosts = parse_hosts(os.environ.get(setting, ""))
    app = Starlette(
        routes=[Route("/metrics", scrape)],
        middleware=[Middleware(BrowserGuard, allowed_hosts=allowed_hosts, setting=setting)],
    )
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        http=LimitedHttp,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
