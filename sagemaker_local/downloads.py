"""Brings the data of jobs from S3, and says which object failed and why."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.s3 import InputObject, Location, Storage, StorageError

_Item = TypeVar("_Item")


class Downloads:
    """The downloads of one job."""

    def __init__(self, storage: Storage, check_stop: Callable[[], None]) -> None:
        """Takes what is called again and again; it raises where the job has to stop."""
        self._storage = storage
        self._check_stop = check_stop

    def download(self, source: Mapping[str, Any], folders: Sequence[Path]) -> None:
        """Writes the objects of a source, by their names, below a folder for each instance.

        Raises:
            JobFailure: One cannot be had, or has a name that leads out of the folder.
        """
        objects = self.objects(source)
        for number, folder in enumerate(folders):
            folder.mkdir(parents=True, exist_ok=True)
            for location, name in share(source, objects, number, len(folders)):
                self.fetch(location, folder / _inside(location, name))

    def objects(self, source: Mapping[str, Any]) -> list[InputObject]:
        """The objects of a source: of an `S3DataSource`, or an `S3Input` of a processing job.

        Raises:
            JobFailure: They cannot be listed.
        """
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


def share(
    source: Mapping[str, Any], items: list[_Item], number: int, instances: int
) -> list[_Item]:
    """What of a source's objects the instance with this number, from 0, gets."""
    sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
    return items[number::instances] if sharded else items


def _inside(location: Location, name: str) -> PurePosixPath:
    """A file's name below the folder of its source.

    Raises:
        JobFailure: It would lie elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise _failed(
            f"{location} cannot be a file of its channel: its name would lie outside of the "
            "channel's folder"
        )
    return path


def _failed(what: str) -> JobFailure:
    return JobFailure(f"ClientError: Data download failed:{what}")
