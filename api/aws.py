"""The clients of AWS that the API uses: each made once, on first use, with timeouts."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

    from api.settings import ApiSettings

# As many as the local server has threads; a Lambda uses one.
CONNECTIONS = 16


class Clients:
    """boto3 clients; they may be used by several threads, but not made by several at once."""

    def __init__(self, settings: ApiSettings) -> None:
        self._config = Config(
            connect_timeout=settings.api_connect_seconds,
            read_timeout=settings.api_read_seconds,
            retries={"total_max_attempts": settings.api_attempts, "mode": "standard"},
            max_pool_connections=CONNECTIONS,
        )
        # What is told beside the digit must never keep the digit waiting.
        self._brief = self._config.merge(
            Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        )
        self._lock = Lock()

    @cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session()

    @cached_property
    def _runtime(self) -> SageMakerRuntimeClient:
        return self._session.client("sagemaker-runtime", config=self._config)

    @cached_property
    def _sagemaker(self) -> SageMakerClient:
        return self._session.client("sagemaker", config=self._brief)

    @cached_property
    def _s3(self) -> S3Client:
        return self._session.client("s3", config=self._brief)

    def runtime(self) -> SageMakerRuntimeClient:
        """For the endpoint's answers."""
        with self._lock:
            return self._runtime

    def sagemaker(self) -> SageMakerClient:
        """For what the endpoint serves."""
        with self._lock:
            return self._sagemaker

    def s3(self) -> S3Client:
        """For the centroids it serves."""
        with self._lock:
            return self._s3
