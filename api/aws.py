"""The clients of AWS that the API uses: each made once, on first use, with timeouts."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    from api.settings import ApiSettings

# As many as the local server has threads; a Lambda uses one.
CONNECTIONS = 16


def error_code(error: ClientError) -> str:
    """AWS's name for a failure, such as `ModelError`; empty where it gives none."""
    return error.response.get("Error", {}).get("Code", "")


class Clients:
    """boto3 clients. Several threads may use one, but a session makes one client at a time."""

    def __init__(self, settings: ApiSettings) -> None:
        self._config = Config(
            connect_timeout=settings.api_connect_seconds,
            read_timeout=settings.api_read_seconds,
            retries={"total_max_attempts": settings.api_attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
        )
        # The explanation of a digit must never delay the digit.
        self._brief = self._config.merge(
            Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        )
        self._lock = Lock()

    @cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session()

    @cached_property
    def runtime(self) -> SageMakerRuntimeClient:
        """Invokes the endpoint."""
        return self._make("sagemaker-runtime", self._config)

    @cached_property
    def sagemaker(self) -> SageMakerClient:
        """Describes what the endpoint serves."""
        return self._make("sagemaker", self._brief)

    @cached_property
    def s3(self) -> S3Client:
        """Reads the centroids that the endpoint serves."""
        return self._make("s3", self._brief)

    def _make(self, service: Any, config: Config) -> Any:
        with self._lock:
            return self._session.client(service, config=config)
