"""What instances of models are made of: artifacts on disk, what serves them.

The built-in k-means serves as a process of its own kind, a custom image under AWS's contract.
"""

import threading
from functools import partial
from pathlib import Path

from sagemaker_local import image_lookup, names, opt_ml
from sagemaker_local.aws_errors import JobFailure, StopRequestedError
from sagemaker_local.config import Config
from sagemaker_local.deployed_config import all_variants
from sagemaker_local.fleet import InstanceFactory, ServingChild
from sagemaker_local.images import Image
from sagemaker_local.logs import Logs
from sagemaker_local.s3 import Location, Storage, StorageError
from sagemaker_local.serving_container import Program, ServingContainer
from sagemaker_local.store import Document

# AWS's limit where the variant has none of its own.
_START_SECONDS = 480.0


class InstanceFactories:
    """Makes what serves in endpoints and transform jobs."""

    def __init__(
        self, config: Config, storage: Storage, logs: Logs, closing: threading.Event
    ) -> None:
        """Once `closing` is set, downloads end, and containers get no time to end."""
        self._config = config
        self._storage = storage
        self._logs = logs
        self._closing = closing

    def of_endpoint(self, endpoint: str, snapshot: Document) -> dict[str, InstanceFactory]:
        """What makes another instance of each variant, once its artifacts are here.

        Raises:
            JobFailure: An artifact cannot be had.
        """
        folder = self._config.models_dir / snapshot["id"]
        group = names.endpoint_logs(endpoint)
        models = {one["VariantName"]: one["_model"] for one in all_variants(snapshot)}
        return {
            name: self.of_model(name, model, folder / name, group) for name, model in models.items()
        }

    def of_model(self, name: str, model: Document, folder: Path, log_group: str) -> InstanceFactory:
        """What makes another instance of a model, once its artifacts are here.

        Args:
            name: Of the variant, or of the transform job.
            model: What deployed_config.serving_spec says of it.
            folder: Where the artifacts go.
            log_group: Where a custom image writes.

        Raises:
            JobFailure: An artifact cannot be had.
        """
        # A model stored by an earlier version, which knew k-means alone, has no `image`.
        address = model.get("image")
        image = image_lookup.custom_image(self._config, address) if address else None
        if image is None:
            archive = self._fetch(model["url"], folder / "model.tar.gz")
            return partial(ServingChild, self._config, name, archive)
        program = Program(
            variant=name,
            image=image,
            environment=model["environment"],
            isolated=model["isolated"],
            archives=self._archives(image, model, folder),
            start_seconds=model["start_seconds"] or _START_SECONDS,
            log_group=log_group,
        )
        return partial(ServingContainer, self._config, self._logs, program, self._closing)

    def _archives(self, image: Image, model: Document, folder: Path) -> dict[str, Path]:
        archives: dict[str, Path] = {}
        if model["url"]:
            archives["model"] = self._fetch(model["url"], folder / "model.tar.gz")
        sources = opt_ml.source_location({}, model["environment"])
        if image.script_mode and sources.startswith("s3://"):
            archives["code"] = self._fetch(sources, folder / "sourcedir.tar.gz")
        return archives

    def _check_cancelled(self) -> None:
        if self._closing.is_set():
            raise StopRequestedError

    def _fetch(self, url: str, path: Path) -> Path:
        """Brings an artifact; what is there already is not fetched again."""
        if path.exists():
            return path
        try:
            self._storage.fetch(Location.parse(url), path, self._check_cancelled)
        except StorageError as error:
            raise JobFailure(
                f'Failed to download model data for container "container_1" from URL: "{url}". '
                "Please ensure that there is an object located at the URL and that the role passed "
                f"to CreateModel has permissions to download the object. ({error})"
            ) from error
        return path
