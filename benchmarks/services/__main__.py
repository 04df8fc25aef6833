"""Holds the services in a temporary home and on free ports until standard input closes."""

import json
import os
import sys
import tempfile
from pathlib import Path

from embedded import ports, stack
from embedded.home import Home
from embedded.plan import make_plan
from embedded.programs import services

_FOREIGN = ("AWS_", "PLATFORM_", "DAGSTER_", "PG")


def main() -> None:
    """Starts the services, prints their environment as one line, and waits."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    base = os.environ.get("PLATFORM_PORT_BASE") or str(ports.free_base(range(11000, 22000, 20)))
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as root:
        plan = make_plan({**kept, "PLATFORM_HOME": root, "PLATFORM_PORT_BASE": base})
        try:
            running = stack.up(plan, services(plan))
            print(json.dumps({**running.env, "PLATFORM_HOME": root}), flush=True)
            sys.stdin.read()
        finally:
            stack.down(Home(Path(root)))


if __name__ == "__main__":
    main()
