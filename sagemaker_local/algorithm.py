"""What differs between the algorithms that a training job may run; job_run.py does the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sagemaker_local.containers import Container
from sagemaker_local.downloads import Downloads

MODEL = "model.tar.gz"


class Algorithm(Protocol):
    """One training job's algorithm, in the order in which its methods are called."""

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

    def train(self) -> None:
        """Lets the containers begin."""
        ...

    def metrics(self, line: str) -> dict[str, float]:
        """The metrics, by their names, that a line of the log reports."""
        ...

    def reason(self, number: int) -> str:
        """Why the container with this number, from 0, failed."""
        ...

    def artifacts(self, whole: bool) -> dict[str, Path]:
        """Names and files to be uploaded; raises JobFailure.

        Args:
            whole: Whether the algorithm came to its end, or was stopped.
        """
        ...


def exit_reason(text: str, code: int | None) -> str:
    """AWS's words for a container that failed, with the text that it left."""
    # Shells and containers show a signal as 128 and its number.
    shown = 128 - code if code is not None and code < 0 else code
    return f"AlgorithmError: {text}, exit code: {shown}"
