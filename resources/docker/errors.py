"""What can go wrong between a run and the module it starts in a container or a child process.

Every message says what happened, to what, and what to do, and ends with the tail of the log where
there is one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import docker.errors
import requests

from resources.errors import ResourceError

ENGINE_ERRORS = (docker.errors.DockerException, requests.exceptions.RequestException)
"""What the Docker client raises where the engine refuses or does not answer."""


class ModuleRunError(ResourceError):
    """A module that was started did not come to a good end.

    Attributes:
        messages: the Pipes custom messages that had arrived until then, so that what was finished
            can still be reported.
        log_tail: the last lines of the module's output.
    """

    def __init__(self, message: str, *, log_tail: Sequence[str] = ()) -> None:
        self.log_tail = tuple(log_tail)
        self.messages: tuple[Mapping[str, Any], ...] = ()
        tail = "\n".join(f"  {line}" for line in self.log_tail)
        super().__init__(f"{message}\nThe end of its log:\n{tail}" if tail else message)


class ModuleFailedError(ModuleRunError):
    """The module ended with an exit code other than 0, or by a signal."""


class ModuleMemoryError(ModuleRunError):
    """The module needed more memory than it was given."""


class ModuleTimeoutError(ModuleRunError):
    """The module was still running at its deadline and was stopped."""


class EngineUnavailableError(ResourceError):
    """No Docker Engine answers."""

    transient = True


class EngineLostError(ModuleRunError):
    """The Docker Engine stopped answering while a container ran, or lost the container."""

    transient = True


class ImageMissingError(ResourceError):
    """The engine does not have the image."""


class ContainerRefusedError(ResourceError):
    """The engine has the image and would not create or start the container as asked."""
