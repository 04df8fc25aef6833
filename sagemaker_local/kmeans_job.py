"""The built-in k-means as a training job runs it: its processes load while the data come."""

import json
import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from sagemaker_local import children, trainer
from sagemaker_local.algorithm import MODEL, artifact_uri, exit_reason, model_artifacts
from sagemaker_local.containers import ChildContainer
from sagemaker_local.downloads import Downloads, share
from sagemaker_local.job_kinds import Job
from sagemaker_local.store import Document

_QUALITY = re.compile(r"#quality_metric: host=algo-1, (train|test) (\S+) <loss>=(\S+)")
_THROUGHPUT = re.compile(r"#throughput_metric: host=algo-1, train throughput=(\S+) records/second")
_PROGRESS = re.compile(r"#progress_metric: host=algo-1, completed (\S+) % of epochs")


class KMeansJob:
    """An `Algorithm`."""

    grace_seconds = 2.0

    def __init__(self, job: Job) -> None:
        self.containers: list[ChildContainer] = []
        self._document = job.document
        self._folder = job.folder
        self._shared = job.folder / "shared"
        self._instances = int(job.document["ResourceConfig"]["InstanceCount"])

    def prepare(self) -> None:
        """Starts the processes; they wait for data."""
        self._shared.mkdir(parents=True, exist_ok=True)
        self._describe([])
        for number in range(1, self._instances + 1):
            arguments = [str(self._folder / "job.json"), str(number)]
            self.containers.append(
                ChildContainer(
                    children.spawn(
                        "sagemaker_local.trainer",
                        arguments,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                )
            )

    def download(self, downloads: Downloads) -> None:
        """Brings the channels `train` and `test`."""
        self._describe(
            [
                self._channel(downloads, channel)
                for channel in self._document["InputDataConfig"]
                if channel["ChannelName"] in ("train", "test")
            ]
        )

    def begin(self) -> None:
        """Tells the processes that the data are there."""
        for container in self.containers:
            container.tell("go")

    def metrics(self, line: str) -> dict[str, float]:
        """The metrics of the first instance."""
        if match := _QUALITY.search(line):
            return {f"{match[1]}:{match[2]}": float(match[3])}
        if match := _THROUGHPUT.search(line):
            return {"train:throughput": float(match[1])}
        if match := _PROGRESS.search(line):
            return {"train:progress": float(match[1])}
        return {}

    def reason(self, number: int) -> str:
        """The file that the trainer wrote, or its exit code."""
        written = self._shared / trainer.FAILURE
        if written.exists():
            return written.read_text()
        return exit_reason("", self.containers[number].poll())

    def uploads(self, whole: bool) -> dict[str, Path]:
        """The model; a stopped job keeps none."""
        return {artifact_uri(self._document, MODEL): self._shared / MODEL} if whole else {}

    def results(self, uploaded: Collection[str]) -> Document:
        """Where the model is."""
        return model_artifacts(self._document, uploaded)

    def _describe(self, channels: list[Document]) -> None:
        """Writes the file that the trainer reads."""
        part = self._folder / "job.json.part"
        part.write_text(
            json.dumps(
                {
                    "parent": os.getpid(),
                    "instances": self._instances,
                    "hyperparameters": self._document.get("HyperParameters", {}),
                    "shared": str(self._shared),
                    "channels": channels,
                }
            )
        )
        part.rename(self._folder / "job.json")

    def _channel(self, downloads: Downloads, channel: Document) -> Document:
        files: list[tuple[str, str]] = []
        source = channel["DataSource"]["S3DataSource"]
        for number, item in enumerate(downloads.objects(source)):
            path = self._folder / "input" / channel["ChannelName"] / f"{number:06d}"
            downloads.fetch(item.location, path)
            files.append((str(path), str(item.location)))
        return {
            "name": channel["ChannelName"],
            "content_type": channel.get("ContentType", ""),
            "compressed": channel.get("CompressionType") == "Gzip",
            "files": [
                share(source, files, number, self._instances) for number in range(self._instances)
            ],
        }
