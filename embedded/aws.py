"""The keys and the region of an environment, for boto3."""

from collections.abc import Mapping

import boto3


def aws_session(environment: Mapping[str, str]) -> boto3.session.Session:
    """A boto3 session of its own, since the default one is not for several threads."""
    return boto3.session.Session(
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment.get("AWS_SESSION_TOKEN") or None,
    )
