"""Brings the data of jobs from S3, and says which object failed and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.s3 import Listed, Location, Storage, StorageError
from sagemaker_local.store import Document

_Item = TypeVar("_Item")


class Downloads:
    """The downloads of one job."""

    def __init__(self, storage: Storage, check_stop: Callable[[], None]) -> None:
        """Takes what is called again and again; it raises where the job has to stop."""
        self._storage = storage
        self._check_stop = check_stop

    def objects(self, channel: Document) -> list[Listed]:
        """The objects of a training channel, or of the input of a transform job.

        Raises:
            JobFailure: They cannot be listed.
        """
        source: dict[str, Any] = channel["DataSource"]["S3DataSource"]
        manifest = source["S3DataType"] == "ManifestFile"
        list_objects = self._storage.list_manifest if manifest else self._storage.list_prefix
        try:
            return list_objects(source["S3Uri"])
        except StorageError as error:
            raise _failed(f"Unable to list {source['S3Uri']} ({error})") from error

    def fetch(self, location: Location, path: Path) -> None:
        """Writes an object to a file.

        Raises:
            JobFailure: It cannot be had.
        """
        self._check_stop()
        try:
            self._storage.fetch(location, path, self._check_stop)
        except StorageError as error:
            raise _failed(f"Unable to download object {location} ({error})") from error


def share(channel: Document, items: list[_Item], number: int, instances: int) -> list[_Item]:
    """What of a channel's objects the instance with this number, from 0, gets."""
    source = channel["DataSource"]["S3DataSource"]
    sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
    return items[number::instances] if sharded else items


def _failed(what: str) -> JobFailure:
    return JobFailure(f"ClientError: Data download failed:{what}")
