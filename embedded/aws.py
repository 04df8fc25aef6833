"""Clients of boto3 for the services that an environment names, embedded ones or others."""

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

_QUICK = Config(connect_timeout=2, read_timeout=10, retries={"total_max_attempts": 1})


def aws_client(environment: Mapping[str, str], service: str, *, quick: bool = False) -> Any:
    """A client with the environment's keys, region and endpoint.

    Args:
        service: As boto3 names it, such as `sagemaker-runtime`.
        quick: Whether it gives up early, for questions that are asked again and again.
    """
    # The default session is not for several threads.
    session: Any = boto3.session.Session(
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
    )
    endpoint = environment.get("AWS_ENDPOINT_URL_" + service.upper().replace("-", "_"))
    return session.client(service, endpoint_url=endpoint or None, config=_QUICK if quick else None)
