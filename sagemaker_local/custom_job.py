"""What training and processing jobs of custom images have in common: a container an instance."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from sagemaker_local import containers
from sagemaker_local.containers import Container
from sagemaker_local.images import Image, Launch
from sagemaker_local.job_kinds import Job
from sagemaker_local.store import Document


class CustomJob(ABC):
    """The part of an `Algorithm` that starts the containers."""

    def __init__(
        self, job: Job, image: Image, specification: Document, instances: int, *, isolated: bool
    ) -> None:
        """Nothing runs yet.

        Args:
            job: The job.
            image: What runs its image.
            specification: The request's part with `ContainerEntrypoint` and `ContainerArguments`.
            instances: How many containers.
            isolated: Whether they have no role, and no way to other machines.
        """
        self.containers: list[Container] = []
        self.grace_seconds = job.config.grace_seconds
        self._config = job.config
        self._document = job.document
        self._folder = job.folder
        self._image = image
        self._entrypoint: list[str] = specification.get("ContainerEntrypoint", [])
        self._arguments: list[str] = specification.get("ContainerArguments", [])
        self._isolated = isolated
        self._hosts = [f"algo-{number}" for number in range(1, instances + 1)]
        self._bases = [job.folder / host for host in self._hosts]

    def begin(self) -> None:
        """Starts a container for each instance."""
        for base in self._bases:
            launch = Launch(
                self._image,
                self._command(base),
                base,
                self._environment(base),
                self._isolated,
                tuple(self._entrypoint),
                self._collect(),
            )
            self.containers.append(containers.start(self._config, launch))

    @abstractmethod
    def _command(self, base: Path) -> tuple[str, ...]:
        """A process's program and arguments, a container's arguments."""

    def _environment(self, base: Path) -> Mapping[str, str]:
        """Variables besides those of the role."""
        del base
        return self._document.get("Environment", {})

    @abstractmethod
    def _collect(self) -> tuple[str, ...]:
        """Folders below the base folder that are of use after the end."""
