"""What runs an image: the built-in k-means, an entry of the table of images, or a container."""

import re

from sagemaker_local import docker_engine, images
from sagemaker_local.aws_errors import validation
from sagemaker_local.config import Config
from sagemaker_local.images import Image

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
    own = custom_image(config, image)
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


def custom_image(config: Config, image: str) -> Image | None:
    """What runs a custom image: its entry in the table, or a container; None for k-means."""
    entry = images.find(config.images, image)
    if entry or _is_kmeans(config, image):
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
