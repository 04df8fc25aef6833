"""`python -m sagemaker_local`, or `embedded-sagemaker`: the server as a process."""

import argparse
import logging
import shlex
import socket
import sys
from pathlib import Path

import uvicorn

from sagemaker_local.app import build
from sagemaker_local.config import Config, ConfigError, from_environment
from sagemaker_local.faults import FaultPlanError
from sagemaker_local.formats.http_limits import LimitedHttp

_HOST = "127.0.0.1"
_SERVICES = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH_LOGS", "CLOUDWATCH", "IAM", "STS")


def main() -> int:
    """Runs the server until it is told to end; prints what clients need once they can connect."""
    parser = argparse.ArgumentParser(prog="embedded-sagemaker", description=__doc__)
    parser.add_argument("--port", type=int, default=8500, help="0 takes a free one (default 8500)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".embedded-sagemaker"),
        help="the folder that keeps all state (default .embedded-sagemaker)",
    )
    options = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        config = from_environment(options.data_dir)
        app = build(config)
        listener = _listen(options.port)
    except (ConfigError, FaultPlanError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=LimitedHttp,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
    )
    # Who connects from here on waits for the server; nobody is refused.
    for name, value in _client_environment(config, listener.getsockname()[1]).items():
        print(f"export {name}={shlex.quote(value)}")
    sys.stdout.flush()
    server.run(sockets=[listener])
    return 0


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((_HOST, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"port {port} cannot be used ({error}): choose another with --port."
        ) from error


def _client_environment(config: Config, port: int) -> dict[str, str]:
    """What clients need beside the keys, which they and the server get from the same place."""
    own = f"http://{_HOST}:{port}"
    return {
        "AWS_DEFAULT_REGION": config.region,
        **({"AWS_ENDPOINT_URL_S3": config.s3_endpoint} if config.s3_endpoint else {}),
        **{f"AWS_ENDPOINT_URL_{service}": own for service in _SERVICES},
    }


if __name__ == "__main__":
    sys.exit(main())
