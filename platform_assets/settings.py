"""From the environment to resources: buckets, instance types and all other settings; defaults.

What is secret or has no sensible default becomes a `dagster.EnvVar`: it is read when a run starts,
never shows in the UI, and a run without it fails with its name. Everything else that can be set has
its default here, in the place of the resource's own. Hyperparameters are a run's configuration:
`mnist/model.py`.
"""

import os
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from formats.proxies import proxy_variables
from platform_assets.airbnb.listings import ListingsTable
from platform_assets.alert_settings import AlertSettings
from platform_assets.mnist.raw import SAMPLE_DATA, SAMPLE_FILES, PublicMnist
from platform_assets.models.endpoint import Approval, Endpoint
from platform_assets.partitions import PartitionSettings
from platform_assets.pipelines import FOLDER
from platform_assets.tables.limits import Limits
from resources.alerts import Alerts
from resources.docker import DockerResource
from resources.postgres import PostgresResource
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource, Security, TrainingCompute
from resources.spark import SparkResource


class Settings(PartitionSettings):
    """What may be set by variables that begin with PLATFORM_, and by those of AWS."""

    schedules: Literal["stopped", "running"] = Field(
        default="stopped",
        description="What schedules and sensors are until somebody turns them on or off in the UI.",
    )
    pipelines: Path = Field(
        default=FOLDER, description="Folder of the pipelines that are YAML: NAME/defs.yaml each."
    )
    mnist_source: str = Field(
        default=SAMPLE_DATA,
        description="The public digits; the bucket has to be readable with the AWS credentials.",
    )
    endpoint_name: str = Field(default="digits", description="Name of the SageMaker endpoint.")
    api_url: str = Field(
        default="",
        description="Where the HTTP API and its page answer; empty for no link to them.",
    )
    instance_type: str = Field(
        default="ml.m5.large",
        description="Instances that serve.",
    )
    approval: Approval = Field(
        default="none",
        description="Whether a person approves each classifier before it goes live: `required`.",
    )
    training_instance_type: str = Field(
        default="ml.m5.large", description="Instances that train, where a run does not say."
    )
    training_instance_count: int = Field(
        default=1, ge=1, description="How many of them train, each on a share of the digits."
    )
    training_volume_gb: int = Field(default=10, ge=1, description="Storage of each of them in GB.")
    kms_key_id: str = Field(
        default="", description="KMS key of all that is written and run; empty for AWS's own."
    )
    subnets: list[str] = Field(
        default=[], description="Subnets of the VPC that SageMaker works in, as JSON."
    )
    security_groups: list[str] = Field(
        default=[], description="Its security groups there, as JSON."
    )
    network_isolation: bool = Field(
        default=False, description="Whether SageMaker's containers have no network at all."
    )
    sagemaker_poll_seconds: float = Field(
        default=15, gt=0, description="Time between two looks at a job or an endpoint."
    )
    price_per_hour: dict[str, float] = Field(
        default={}, description="On-demand price of an hour by instance type, as JSON."
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
    snapshot_limits: Limits = Field(
        default_factory=Limits,
        description="Limits of a day that is published, by their names, as JSON.",
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
    cruncher: Literal["auto", "docker", "process", "spark"] = Field(
        default="auto", description="Whether the number cruncher runs in a container, or on Spark."
    )
    cruncher_image: str = Field(default="numbercruncher", description="Its image.")
    cruncher_network: str = Field(default="bridge", description="Its container's network.")
    cruncher_memory_mb: int = Field(default=1024, ge=64, description="Its memory limit in MiB.")
    cruncher_deadline_seconds: float = Field(default=3600, gt=0, description="Its time limit.")
    spark_above: int = Field(
        default=0,
        ge=0,
        description="Bytes of a run's snapshots above which it is made on Spark; 0 for never.",
    )
    spark_master: str = Field(default="", description="URL of Spark's master: spark://host:port.")
    spark_application_id: str = Field(
        default="", description="Application of EMR Serverless, in the place of a master."
    )
    spark_role_arn: str = Field(default="", description="Role of its jobs.")
    spark_environment: str = Field(
        default="", description="Packed Python environment of the tasks: a path, or an S3 address."
    )
    spark_settings: dict[str, str] = Field(
        default={}, description="Spark's settings by their names, as JSON; no secrets."
    )
    spark_forward_credentials: bool = Field(
        default=True, description="Whether tasks have this process's AWS credentials."
    )
    alerts: str = Field(
        default="",
        repr=False,
        description="Who is told of problems: a webhook, an SNS topic or a mail server, as a URL.",
    )
    ui_url: str = Field(
        default="http://127.0.0.1:3000", description="Where people find Dagster's UI: for links."
    )
    late_after_hours: float = Field(
        default=6, ge=0, description="Hours after its schedule at which a day has to be there."
    )
    stuck_after_minutes: float = Field(
        default=180, gt=0, description="How long a run may wait in the queue, or work."
    )
    spend_limit: float = Field(
        default=0,
        ge=0,
        description="Estimated spend of a calendar month on the digits; 0 for no limit.",
    )


def schedule_status() -> dg.DefaultScheduleStatus:
    """What schedules are where nobody has turned them on or off."""
    return dg.DefaultScheduleStatus[Settings().schedules.upper()]


def sensor_status() -> dg.DefaultSensorStatus:
    """What sensors that start runs are where nobody has turned them on or off."""
    return dg.DefaultSensorStatus[Settings().schedules.upper()]


def keep_loopback_from_proxies() -> None:
    """Have all clients of this process, and what it starts, reach this machine directly."""
    os.environ.update(proxy_variables(os.environ))


def resources(settings: Settings) -> dict[str, Any]:
    """Every resource of the platform, by the key under which assets and jobs ask for it."""
    pseudonym_key = dg.EnvVar("PLATFORM_PSEUDONYM_KEY") if settings.pseudonym_key else None
    alerts = dg.EnvVar("PLATFORM_ALERTS") if settings.alerts else ""
    kms_key_id = settings.kms_key_id or None
    security = Security(
        kms_key_id=settings.kms_key_id,
        subnets=settings.subnets,
        security_groups=settings.security_groups,
        network_isolation=settings.network_isolation,
    )
    return {
        "alerts": Alerts(target=alerts),
        "alert_settings": AlertSettings(
            ui_url=settings.ui_url,
            late_after_hours=settings.late_after_hours,
            stuck_after_minutes=settings.stuck_after_minutes,
            spend_limit=settings.spend_limit,
        ),
        "digits_store": ObjectStore(bucket=dg.EnvVar("PLATFORM_BUCKET"), kms_key_id=kms_key_id),
        "public": PublicMnist(
            uri=settings.mnist_source,
            # Nobody's own digits are replaced by the public ones.
            fallback=SAMPLE_FILES if settings.mnist_source == SAMPLE_DATA else "",
        ),
        "sagemaker": SageMakerResource(
            role_arn=dg.EnvVar("PLATFORM_SAGEMAKER_ROLE_ARN"),
            poll_seconds=settings.sagemaker_poll_seconds,
            price_per_hour=settings.price_per_hour,
            security=security,
            compute=TrainingCompute(
                instance_type=settings.training_instance_type,
                instance_count=settings.training_instance_count,
                volume_gb=settings.training_volume_gb,
            ),
        ),
        "endpoint": Endpoint(
            name=settings.endpoint_name,
            instance_type=settings.instance_type,
            approval=settings.approval,
            security=security,
        ),
        "listings_store": ObjectStore(
            bucket=dg.EnvVar("PLATFORM_AIRBNB_BUCKET"), kms_key_id=kms_key_id
        ),
        "postgres": PostgresResource(
            dsn=dg.EnvVar("PLATFORM_POSTGRES_DSN"), pseudonym_key=pseudonym_key
        ),
        "listings_table": ListingsTable(
            table=settings.listings_table,
            query=settings.listings_query,
            columns=settings.listings_columns,
            id_type=settings.listings_id_type,
            date_column=settings.listings_date_column,
            format=settings.snapshot_format,
            connections=settings.listings_connections,
            leave_out=settings.leave_out,
            pseudonymise=settings.pseudonymise,
            limits=settings.snapshot_limits,
        ),
        "docker": DockerResource(
            mode="auto" if settings.cruncher == "spark" else settings.cruncher,
            image=settings.cruncher_image,
            network=settings.cruncher_network,
            memory_mb=settings.cruncher_memory_mb,
            deadline_seconds=settings.cruncher_deadline_seconds,
        ),
        "spark": SparkResource(
            always=settings.cruncher == "spark",
            above_bytes=settings.spark_above,
            master=settings.spark_master,
            application_id=settings.spark_application_id,
            role_arn=settings.spark_role_arn,
            environment=settings.spark_environment,
            settings=settings.spark_settings,
            forward_credentials=settings.spark_forward_credentials,
            deadline_seconds=settings.cruncher_deadline_seconds,
        ),
    }
