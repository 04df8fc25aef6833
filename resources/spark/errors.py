"""What can go wrong between a run and Spark."""

from collections.abc import Mapping, Sequence
from typing import Any

from resources.docker import ModuleRunError
from resources.errors import ResourceError


class SparkNotSetUpError(ResourceError):
    """It is not said where Spark is, or what it needs is missing."""


class SparkRunError(ModuleRunError):
    """An application on EMR Serverless failed, or could not be followed to its end."""

    def __init__(
        self, message: str, *, messages: Sequence[Mapping[str, Any]], transient: bool
    ) -> None:
        super().__init__(message)
        self.messages = tuple(messages)
        self.transient = transient
