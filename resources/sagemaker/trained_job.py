"""What a training job has come to, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import DescribeTrainingJobResponseTypeDef as Described

Origin = Literal["started", "attached", "reused"]


@dataclass(frozen=True)
class TrainedJob:
    """A completed training job.

    Attributes:
        name: Of the job, the attempt's suffix included.
        arn: Of the job.
        artifact_uri: S3 URI of the model artifact, as SageMaker says it.
        status: Always `Completed`.
        origin: `started` by this call, `attached` to while it ran, or `reused` since it was done.
        metrics: Final values of the job's metrics.
        image: Algorithm image.
        instance_type: What it ran on.
        instance_count: On how many of them.
        training_seconds: Duration of the training, None where SageMaker does not say.
        billable_seconds: Seconds paid for on each instance, None where SageMaker does not say.
        estimated_cost: billable_seconds × instance_count × the configured price of the instance
            type; None where no price is configured.
        console_url: The job in the AWS console.
    """

    name: str
    arn: str
    artifact_uri: str
    status: str
    origin: Origin
    metrics: Mapping[str, float]
    image: str
    instance_type: str
    instance_count: int
    training_seconds: int | None
    billable_seconds: int | None
    estimated_cost: float | None
    console_url: str

    def metadata(self) -> dict[str, Any]:
        """What is worth showing on a materialisation; what is not known is left out."""
        shown: dict[str, Any] = {
            "training_job": self.name,
            "training_job_origin": self.origin,
            "training_job_url": dg.MetadataValue.url(self.console_url),
            "artifact": self.artifact_uri,
            "instance_type": self.instance_type,
            "instance_count": self.instance_count,
            "training_seconds": self.training_seconds,
            "billable_seconds": self.billable_seconds,
            "estimated_cost": self.estimated_cost,
            **{f"metric/{name}": value for name, value in self.metrics.items()},
        }
        return {key: value for key, value in shown.items() if value is not None}


def artifact_of(described: "Described") -> str | None:
    """Where SageMaker says that the artifact is, None while it says nothing."""
    return described.get("ModelArtifacts", {}).get("S3ModelArtifacts")


def trained_job(
    described: "Described",
    *,
    origin: Origin,
    price_per_hour: Mapping[str, float],
    console_url: str,
) -> TrainedJob:
    """The result of a job that has completed with an artifact.

    Args:
        described: By DescribeTrainingJob.
        origin: How the job came.
        price_per_hour: By instance type.
        console_url: The job in the AWS console.
    """
    resources = described.get("ResourceConfig", {})
    instance_type = resources.get("InstanceType", "")
    instance_count = resources.get("InstanceCount", 1)
    billable = described.get("BillableTimeInSeconds")
    price = price_per_hour.get(instance_type)
    return TrainedJob(
        name=described["TrainingJobName"],
        arn=described["TrainingJobArn"],
        artifact_uri=artifact_of(described) or "",
        status=described["TrainingJobStatus"],
        origin=origin,
        metrics={
            metric["MetricName"]: metric["Value"]
            for metric in described.get("FinalMetricDataList", [])
            if "MetricName" in metric and "Value" in metric
        },
        image=described.get("AlgorithmSpecification", {}).get("TrainingImage", ""),
        instance_type=instance_type,
        instance_count=instance_count,
        training_seconds=described.get("TrainingTimeInSeconds"),
        billable_seconds=billable,
        estimated_cost=estimate_cost(billable, instance_count, price),
        console_url=console_url,
    )


def estimate_cost(
    billable_seconds: int | None, instances: int, price_per_hour: float | None
) -> float | None:
    """What a job cost, in the currency of the price; None where seconds or price are not known.

    SageMaker bills the seconds on each instance. Of a spot job, the billable seconds are already
    fewer than the training took: the price to multiply them with is the on-demand one.
    """
    if billable_seconds is None or price_per_hour is None:
        return None
    return billable_seconds * instances * price_per_hour / 3600
