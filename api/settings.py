"""The API's settings; only this module of the API reads the environment.

Where AWS is, and as whom, boto3 reads for itself (AWS_ENDPOINT_URL_*, AWS_ACCESS_KEY_ID and so on).
"""

from __future__ import annotations

from hashlib import sha256

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ApiSettings(BaseSettings):
    """The API's settings, each from the environment variable PLATFORM_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="PLATFORM_", extra="ignore")

    endpoint_name: str = Field(default="digits", description="The SageMaker endpoint to ask.")
    api_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="Where set, every request but the pages, /healthz and /openapi.json names it.",
    )
    api_key_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="In its place: its SHA-256, so that a Lambda's configuration does not hold it.",
    )
    api_connect_seconds: float = Field(
        default=2, gt=0, le=10, description="How long a connection to AWS may take."
    )
    api_read_seconds: float = Field(
        default=8, gt=0, le=25, description="How long an answer of the endpoint may take."
    )
    # API Gateway gives up after 29 seconds; two attempts of ten end before that.
    api_attempts: int = Field(default=2, ge=1, le=3, description="Attempts at one request to AWS.")

    allowed_hosts: str = Field(
        default="",
        description="Names, by commas, by which the local server may be asked: those of a proxy.",
    )

    aws_lambda_function_name: str | None = Field(
        default=None,
        validation_alias="AWS_LAMBDA_FUNCTION_NAME",
        description="Lambda names itself here: what waits for an answer is then API Gateway.",
    )

    @property
    def key_digest(self) -> bytes | None:
        """SHA-256 of the API key that requests name; None where they need none."""
        if self.api_key_sha256 is not None:
            return bytes.fromhex(self.api_key_sha256)
        return None if self.api_key is None else digest_of(self.api_key.get_secret_value())


def digest_of(key: str) -> bytes:
    """SHA-256 of an API key. A slow hash is for passwords; these are long and random."""
    return sha256(key.encode()).digest()
