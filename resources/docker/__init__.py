"""Docker: modules that run outside Dagster's process, in a container or as a child process."""

from resources.docker.aws_access import TrustMissingError
from resources.docker.errors import (
    ContainerRefusedError,
    EngineLostError,
    EngineUnavailableError,
    ImageMissingError,
    ModuleFailedError,
    ModuleMemoryError,
    ModuleRunError,
    ModuleTimeoutError,
)
from resources.docker.resource import DockerResource, ModuleRun

__all__ = [
    "ContainerRefusedError",
    "DockerResource",
    "EngineLostError",
    "EngineUnavailableError",
    "ImageMissingError",
    "ModuleFailedError",
    "ModuleMemoryError",
    "ModuleRun",
    "ModuleRunError",
    "ModuleTimeoutError",
    "TrustMissingError",
]
