"""ARNs, images and the other names that AWS gives to things."""

import re

from sagemaker_local import docker_engine, images
from sagemaker_local.aws_errors import validation
from sagemaker_local.config import Config
from sagemaker_local.images import Image

TRAINING_JOB = "training-job"
TRANSFORM_JOB = "transform-job"
PROCESSING_JOB = "processing-job"
MODEL = "model"
MODEL_PACKAGE = "model-package"
MODEL_PACKAGE_GROUP = "model-package-group"
ENDPOINT_CONFIG = "endpoint-config"
ENDPOINT = "endpoint"
ALARM = "alarm"
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS = "/aws/sagemaker/TransformJobs"
PROCESSING_LOGS = "/aws/sagemaker/ProcessingJobs"

# Who owns the built-in algorithms' images; in a region not listed any account is taken.
_ALGORITHM_ACCOUNTS = {
    "eu-west-1": "438346466558",
    "eu-west-2": "644912444149",
    "eu-central-1": "664544806723",
    "us-east-1": "382416733822",
    "us-east-2": "404615174143",
    "us-west-2": "174872318107",
}
_IMAGE = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[a-z0-9._/-]+?)(:(?P<tag>[\w.-]+))?(@sha256:[0-9a-f]{64})?"
)


def arn(config: Config, kind: str, name: str) -> str:
    """A resource's ARN; SageMaker writes names in lower case there."""
    return f"arn:aws:sagemaker:{config.region}:{config.account}:{kind}/{name.lower()}"


def address(config: Config, kind: str, name_or_arn: str) -> str:
    """The ARN of what a request names by its name or its ARN."""
    is_arn = name_or_arn.startswith("arn:")
    return name_or_arn.lower() if is_arn else arn(config, kind, name_or_arn)


def key(config: Config, kind: str, name_or_arn: str) -> str:
    """The last part of a resource's ARN; another account's or kind's ARN stays whole."""
    return address(config, kind, name_or_arn).removeprefix(arn(config, kind, ""))


def alarm_arn(config: Config, name: str) -> str:
    """ARN of an alarm."""
    return f"arn:aws:cloudwatch:{config.region}:{config.account}:alarm:{name}"


def log_stream_arn(config: Config, group: str, stream: str = "") -> str:
    """ARN of a log group, or of a stream in it."""
    base = f"arn:aws:logs:{config.region}:{config.account}:log-group:{group}"
    return f"{base}:log-stream:{stream}" if stream else f"{base}:*"


def endpoint_logs(name: str) -> str:
    """The log group of an endpoint."""
    return f"/aws/sagemaker/Endpoints/{name}"


def check_image(config: Config, image: str, role: str) -> None:
    """Refuses an image that is neither the region's k-means nor in the table nor in an engine.

    Raises:
        AwsError: In the words that AWS has for an image it cannot find.
    """
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise validation(
            f"Invalid image URI {image}. Please provide a valid Amazon Elastic Container Registry "
            "path of the Docker image to run."
        )
    own = own_code(config, image)
    if own is None or not own.container:
        return
    problem = docker_engine.problem(config, image)
    if not problem:
        return
    raise validation(
        f"Cannot find repository: {match['repository']} in registry ID: {match['account']} Please "
        f"check if your ECR repository exists and role {role} has proper pull permissions for "
        "SageMaker: ecr:BatchCheckLayerAvailability, ecr:BatchGetImage, "
        "ecr:GetDownloadUrlForLayer. (It is not in the table of images here, and cannot run as a "
        f"container: {problem}.)"
    )


def own_code(config: Config, image: str) -> Image | None:
    """What runs an image's own code: its entry in the table, or a container; None for k-means."""
    entry = images.find(config.images, image)
    # Endpoints of before there was a table have no image here.
    if entry or not image or _is_kmeans(config, image):
        return entry
    return images.as_container(image)


def _is_kmeans(config: Config, image: str) -> bool:
    match = _IMAGE.fullmatch(image)
    if match is None:
        return False
    owner = _ALGORITHM_ACCOUNTS.get(match["region"], match["account"])
    return (
        match["region"] == config.region
        and match["repository"] == "kmeans"
        and match["account"] == owner
        and match["tag"] in (None, "1", "latest")
    )
