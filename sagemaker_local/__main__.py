"""`python -m sagemaker_local --port N --data-dir DIR`: the server as a process."""

import argparse
import logging
import sys
from pathlib import Path

import uvicorn

from formats.http_limits import LimitedHttp
from sagemaker_local.app import build
from sagemaker_local.config import ConfigError, from_environment
from sagemaker_local.faults import FaultPlanError

_HOST = "127.0.0.1"


def main() -> int:
    """Runs the server until it is told to end."""
    parser = argparse.ArgumentParser(prog="sagemaker_local", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        app = build(from_environment(options.data_dir))
    except (ConfigError, FaultPlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    uvicorn.run(
        app,
        host=_HOST,
        port=options.port,
        http=LimitedHttp,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
