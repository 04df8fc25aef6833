"""What differs between what training and processing jobs run; job_run.py does the rest."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from sagemaker_local.containers import Container
from sagemaker_local.downloads import Downloads
from sagemaker_local.store import Document

MODEL = "model.tar.gz"


class Algorithm(Protocol):
    """What one job runs, in the order in which its methods are called."""

    @property
    def containers(self) -> Sequence[Container]:
        """Those that have been started, one for each instance."""
        ...

    @property
    def grace_seconds(self) -> float:
        """How long containers get to end once the job is stopped."""
        ...

    def prepare(self) -> None:
        """While the job is Starting."""
        ...

    def download(self, downloads: Downloads) -> None:
        """Brings the data; raises JobFailure."""
        ...

    def begin(self) -> None:
        """Lets the containers begin."""
        ...

    def metrics(self, line: str) -> dict[str, float]:
        """The metrics, by their names, that a line of the log reports."""
        ...

    def reason(self, number: int) -> str:
        """Why the container with this number, from 0, failed."""
        ...

    def uploads(self, whole: bool) -> dict[str, Path]:
        """S3 address and file of all that is to be uploaded; raises JobFailure.

        Args:
            whole: Whether the algorithm came to its end, or was stopped.
        """
        ...

    def results(self, uploaded: Collection[str]) -> Document:
        """Members of the job's document at its end, however it ended.

        Args:
            uploaded: The S3 addresses where something is now.
        """
        ...


def artifact_uri(document: Document, name: str) -> str:
    """Where a file that a training job leaves goes."""
    base = document["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    return f"{base}/{document['TrainingJobName']}/output/{name}"


def model_artifacts(document: Document, uploaded: Collection[str]) -> Document:
    """The `ModelArtifacts` of a training job, once there is a model."""
    uri = artifact_uri(document, MODEL)
    return {"ModelArtifacts": {"S3ModelArtifacts": uri}} if uri in uploaded else {}


def exit_reason(text: str, code: int | None) -> str:
    """AWS's words for a container that failed, with the text that it left."""
    # Shells and containers show a signal as 128 and its number.
    shown = 128 - code if code is not None and code < 0 else code
    return f"AlgorithmError: {text}, exit code: {shown}"
