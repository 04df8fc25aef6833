"""An image's own code as a training job runs it, under the contract that AWS has with containers.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import regex

from sagemaker_local import archives, containers, contract_folder
from sagemaker_local.algorithm import MODEL, exit_reason
from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.config import Config
from sagemaker_local.containers import Container
from sagemaker_local.downloads import Downloads, share
from sagemaker_local.images import Image, Launch
from sagemaker_local.s3 import Location
from sagemaker_local.store import Document

_OUTPUT = "output.tar.gz"
# A pattern that takes longer on a line finds nothing in it.
_METRIC_SECONDS = 0.05


class ContractJob:
    """An `Algorithm`."""

    def __init__(self, config: Config, image: Image, document: Document, folder: Path) -> None:
        """Takes what runs the image, the job's document and its working folder."""
        self.containers: list[Container] = []
        self.grace_seconds = config.grace_seconds
        self._config = config
        self._image = _as_asked(image, document["AlgorithmSpecification"])
        self._isolated: bool = document["EnableNetworkIsolation"]
        self._document = document
        self._folder = folder
        count = int(document["ResourceConfig"]["InstanceCount"])
        self._hosts = [f"algo-{number}" for number in range(1, count + 1)]
        self._bases = [folder / host for host in self._hosts]
        definitions = document["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = [(one["Name"], one["Regex"]) for one in definitions]

    def prepare(self) -> None:
        """Makes the folders."""
        interface = "eth0" if self._image.container and not self._isolated else "lo"
        for base, host in zip(self._bases, self._hosts, strict=True):
            contract_folder.lay_out(base, self._document, host, self._hosts, interface)

    def download(self, downloads: Downloads) -> None:
        """Brings every channel, and the sources of script mode."""
        for channel in self._document.get("InputDataConfig", []):
            listed = downloads.objects(channel)
            for number, base in enumerate(self._bases):
                folder = contract_folder.channel_folder(base, channel["ChannelName"])
                folder.mkdir(exist_ok=True)
                for location, name in share(channel, listed, number, len(self._bases)):
                    downloads.fetch(location, folder / _inside(location, name))
        if self._image.script_mode:
            self._bring_sources(downloads)

    def train(self) -> None:
        """Starts the command for each instance."""
        for base in self._bases:
            launch = Launch(
                self._image, self._image.train, base, self._environment(), self._isolated
            )
            self.containers.append(containers.start(self._config, launch))

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
        text = contract_folder.failure(self._bases[number])
        return exit_reason(text, self.containers[number].poll())

    def artifacts(self, whole: bool) -> dict[str, Path]:
        """What lies in model and output/data of all instances; a whole job always has a model."""
        packed: dict[str, Path] = {}
        for name, folder in ((MODEL, "model"), (_OUTPUT, "output/data")):
            folders = [base / folder for base in self._bases]
            if archives.is_empty(folders) and not (whole and name == MODEL):
                continue
            packed[name] = self._folder / name
            try:
                archives.pack(folders, packed[name])
            except archives.ArchiveError as error:
                raise JobFailure(
                    f"ClientError: Unable to pack /opt/ml/{folder}: {error}"
                ) from error
        return packed

    def _environment(self) -> dict[str, str]:
        region = self._config.region
        return {
            **self._document.get("Environment", {}),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "TRAINING_JOB_NAME": self._document["TrainingJobName"],
            "TRAINING_JOB_ARN": self._document["TrainingJobArn"],
        }

    def _bring_sources(self, downloads: Downloads) -> None:
        uri = contract_folder.submitted(
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


def _as_asked(image: Image, algorithm: Document) -> Image:
    """The image with the entry point and arguments that a request may have, instead of `train`."""
    if not algorithm.keys() & {"ContainerEntrypoint", "ContainerArguments"}:
        return image
    return replace(
        image,
        entrypoint=tuple(algorithm.get("ContainerEntrypoint", ())),
        train=tuple(algorithm.get("ContainerArguments", ())),
    )


def _inside(location: Location, name: str) -> PurePosixPath:
    """A file's name below its channel's folder.

    Raises:
        JobFailure: It would lie elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise JobFailure(
            f"ClientError: Data download failed:{location} cannot be a file of its channel: its "
            "name would lie outside of the channel's folder"
        )
    return path
