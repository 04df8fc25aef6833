"""A custom image as a training job runs it, under the contract that AWS has with containers.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

import os
from collections.abc import Collection
from pathlib import Path

import regex

from sagemaker_local import archives, opt_ml
from sagemaker_local.algorithm import MODEL, artifact_uri, exit_reason, model_artifacts
from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.custom_job import CustomJob
from sagemaker_local.downloads import Downloads
from sagemaker_local.images import Image
from sagemaker_local.job_kinds import Job
from sagemaker_local.s3 import Location
from sagemaker_local.store import Document

_OUTPUT = "output.tar.gz"
# A pattern that takes longer on a line finds nothing in it.
_METRIC_SECONDS = 0.05


class CustomTrainingJob(CustomJob):
    """An `Algorithm`."""

    def __init__(self, job: Job, image: Image) -> None:
        """Takes what runs the job's image."""
        algorithm = job.document["AlgorithmSpecification"]
        instances = int(job.document["ResourceConfig"]["InstanceCount"])
        isolated = job.document["EnableNetworkIsolation"]
        super().__init__(job, image, algorithm, instances, isolated=isolated)
        definitions = algorithm.get("MetricDefinitions", [])
        self._metrics = [(one["Name"], one["Regex"]) for one in definitions]

    def prepare(self) -> None:
        """Makes the folders."""
        interface = "eth0" if self._image.container and not self._isolated else "lo"
        for base, host in zip(self._bases, self._hosts, strict=True):
            opt_ml.lay_out(base, self._document, host, self._hosts, interface)

    def download(self, downloads: Downloads) -> None:
        """Brings every channel, and the sources of script mode."""
        for channel in self._document.get("InputDataConfig", []):
            name = channel["ChannelName"]
            folders = [opt_ml.channel_folder(base, name) for base in self._bases]
            downloads.download(channel["DataSource"]["S3DataSource"], folders)
        if self._image.script_mode:
            self._download_sources(downloads)
            for base in self._bases:
                opt_ml.patch_drivers(base)

    def metrics(self, line: str) -> dict[str, float]:
        """What the request's MetricDefinitions find."""
        values: dict[str, float] = {}
        for name, pattern in self._metrics:
            try:
                match = regex.search(pattern, line, timeout=_METRIC_SECONDS)
                if match:
                    values[name] = float(match[1])
            except (regex.error, TimeoutError, IndexError, ValueError, TypeError):
                continue
        return values

    def reason(self, number: int) -> str:
        """What the code left in output/failure, with its exit code."""
        text = opt_ml.failure(self._bases[number])
        return exit_reason(text, self.containers[number].poll())

    def uploads(self, whole: bool) -> dict[str, Path]:
        """What lies in model and output/data of all instances; a whole job always has a model."""
        packed: dict[str, Path] = {}
        for name, folder in ((MODEL, "model"), (_OUTPUT, "output/data")):
            folders = [base / folder for base in self._bases]
            if archives.is_empty(folders) and not (whole and name == MODEL):
                continue
            archive = self._folder / name
            packed[artifact_uri(self._document, name)] = archive
            try:
                archives.pack(folders, archive)
            except archives.ArchiveError as error:
                raise JobFailure(
                    f"ClientError: Unable to pack /opt/ml/{folder}: {error}"
                ) from error
        return packed

    def results(self, uploaded: Collection[str]) -> Document:
        """Where the model is."""
        return model_artifacts(self._document, uploaded)

    def _command(self, base: Path) -> tuple[str, ...]:
        """A container's arguments; a process's program with its own."""
        if not (self._entrypoint or self._arguments):
            return self._image.train
        if self._image.container:
            return tuple(self._arguments)
        return tuple(opt_ml.replace_opt_ml([*self._entrypoint, *self._arguments], base))

    def _tools(self, base: Path) -> dict[str, str]:
        """Where a process finds Python and pip, and where pip installs: for this job alone."""
        if not self._image.script_mode:
            return {}
        packages = str(base / "packages")
        folder = Path(self._image.process[0]).parent
        return {
            "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PIP_TARGET": packages,
            "PYTHONPATH": packages,
        }

    def _collect(self) -> tuple[str, ...]:
        return "model", "output"

    def _environment(self, base: Path) -> dict[str, str]:
        return {
            **self._tools(base),
            **super()._environment(base),
            "TRAINING_JOB_NAME": self._document["TrainingJobName"],
            "TRAINING_JOB_ARN": self._document["TrainingJobArn"],
        }

    def _download_sources(self, downloads: Downloads) -> None:
        uri = opt_ml.source_location(
            self._document.get("HyperParameters", {}), self._document.get("Environment", {})
        )
        if not uri.startswith("s3://"):
            return
        archive = self._folder / "sourcedir.tar.gz"
        downloads.fetch(Location.parse(uri), archive)
        for base in self._bases:
            try:
                archives.unpack(archive, base / "code")
            except archives.ArchiveError as error:
                raise JobFailure(f"ClientError: Unable to unpack {uri}: {error}") from error
