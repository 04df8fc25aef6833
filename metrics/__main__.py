"""`python -m metrics`: serves /metrics until it is ended."""

import argparse
import os
import signal
import threading

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from formats.proxies import proxy_variables


class Lazy(Collector):
    """Loads the platform when it is first asked: its imports take seconds and 200 MB."""

    def __init__(self) -> None:
        self._collector: Collector | None = None
        self._lock = threading.Lock()

    def describe(self) -> list[Metric]:
        """Nothing, so that the registry does not ask before anybody else does."""
        return []

    def collect(self) -> list[Metric]:
        """All numbers."""
        with self._lock:
            if self._collector is None:
                from metrics.collector import load

                self._collector = load()
        return list(self._collector.collect())


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="metrics", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=9400)
    arguments = parser.parse_args()
    os.environ.update(proxy_variables(os.environ))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    registry = CollectorRegistry()
    registry.register(Lazy())
    server, thread = start_http_server(arguments.port, arguments.host, registry)
    ended.wait()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
