"""From the environment to resources: the one reader of the environment.

What is secret or has no sensible default becomes a `dagster.EnvVar`: it is read when a run starts,
never shows in the UI, and a run without it fails with its name. The rest has defaults.
"""

import os
from datetime import date
from typing import Literal

import dagster as dg
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from formats.proxies import proxy_variables
from resources.docker import DockerResource
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource


class Settings(BaseSettings):
    """What may be set by variables that begin with PLATFORM_, and by those of AWS."""

    model_config = SettingsConfigDict(env_prefix="PLATFORM_", frozen=True)

    mnist_source: str = Field(
        default="s3://sagemaker-sample-data-eu-west-1/algorithms/kmeans/mnist/mnist.pkl.gz",
        description="The public digits; the bucket has to be readable with the AWS credentials.",
    )
    endpoint_name: str = Field(default="digits", description="Name of the SageMaker endpoint.")
    instance_type: str = Field(
        default="ml.m5.large",
        description="Instances that serve.",
    )
    sagemaker_poll_seconds: float = Field(
        default=15, gt=0, description="Time between two looks at a job or an endpoint."
    )
    price_per_hour: dict[str, float] = Field(
        default={}, description="On-demand price of an hour by instance type, as JSON."
    )
    first_partition: date = Field(
        default=date(2015, 1, 1),
        description="The first day that can be materialised; Inside Airbnb's first files are of "
        "2015.",
    )
    listings_table: str = Field(default="listings", description="Table of the listings.")
    listings_query: str = Field(
        default="", description="A SELECT in the place of the table, without a semicolon."
    )
    listings_columns: dict[str, str] = Field(
        default={}, description="The table's own names of columns → the platform's, as JSON."
    )
    listings_id_type: Literal["int64", "string"] = Field(
        default="int64", description="What ids are: whole numbers, or texts and UUIDs."
    )
    listings_date_column: str = Field(
        default="download_date", description="Its column with the day; empty if it has none."
    )
    snapshot_format: Literal["csv", "csv.gz", "parquet"] = Field(
        default="parquet", description="Format of the listings' snapshots."
    )
    listings_connections: int = Field(
        default=2, ge=1, description="Connections to the database that a run may have."
    )
    snapshot_limits: dict[str, float] = Field(
        default={}, description="Limits of a day that is published, by their names, as JSON."
    )
    leave_out: list[str] = Field(
        default=["host_name"], description="Columns that never leave the database, as JSON."
    )
    pseudonymise: list[str] = Field(
        default=[], description="Columns of which only a keyed hash leaves it, as JSON."
    )
    pseudonym_key: str | None = Field(
        default=None, repr=False, description="Key of the hash that replaces pseudonymised columns."
    )
    cruncher: Literal["auto", "docker", "process"] = Field(
        default="auto", description="Whether the number cruncher runs in a container."
    )
    cruncher_image: str = Field(default="numbercruncher", description="Its image.")
    cruncher_network: str = Field(default="bridge", description="Its container's network.")
    cruncher_memory_mb: int = Field(default=1024, ge=64, description="Its memory limit in MiB.")
    cruncher_deadline_seconds: float = Field(default=3600, gt=0, description="Its time limit.")
    aws_endpoint_url_s3: str = Field(default="", validation_alias="AWS_ENDPOINT_URL_S3")
    aws_region: str = Field(default="", validation_alias="AWS_DEFAULT_REGION")


def keep_loopback_from_proxies() -> None:
    """Has all clients of this process, and what it starts, reach this machine directly."""
    os.environ.update(proxy_variables(os.environ))


def object_store(bucket_variable: str) -> ObjectStore:
    """The bucket that an environment variable names."""
    return ObjectStore(bucket=dg.EnvVar(bucket_variable))


def postgres(settings: Settings) -> PostgresResource:
    """The database of PLATFORM_POSTGRES_DSN."""
    key = dg.EnvVar("PLATFORM_PSEUDONYM_KEY") if settings.pseudonym_key else None
    return PostgresResource(dsn=dg.EnvVar("PLATFORM_POSTGRES_DSN"), pseudonym_key=key)


def sagemaker(settings: Settings) -> SageMakerResource:
    """SageMaker in the role of PLATFORM_SAGEMAKER_ROLE_ARN."""
    return SageMakerResource(
        role_arn=dg.EnvVar("PLATFORM_SAGEMAKER_ROLE_ARN"),
        poll_seconds=settings.sagemaker_poll_seconds,
        price_per_hour=settings.price_per_hour,
    )


def docker(settings: Settings) -> DockerResource:
    """Where the number cruncher runs."""
    return DockerResource(
        mode=settings.cruncher,
        image=settings.cruncher_image,
        network=settings.cruncher_network,
        memory_mb=settings.cruncher_memory_mb,
        deadline_seconds=settings.cruncher_deadline_seconds,
        endpoint_url_s3=settings.aws_endpoint_url_s3,
        region=settings.aws_region,
    )
