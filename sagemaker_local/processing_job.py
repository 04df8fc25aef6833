"""A custom image as a processing job runs it, under AWS's contract with containers.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from sagemaker_local import archives, opt_ml
from sagemaker_local.algorithm import exit_reason
from sagemaker_local.aws_errors import JobFailure
from sagemaker_local.custom_job import CustomJob
from sagemaker_local.downloads import Downloads
from sagemaker_local.images import Image
from sagemaker_local.job_kinds import Job
from sagemaker_local.store import Document


class ProcessingJob(CustomJob):
    """An `Algorithm`."""

    def __init__(self, job: Job, image: Image) -> None:
        """Takes what runs the job's image."""
        document = job.document
        instances = int(document["ProcessingResources"]["ClusterConfig"]["InstanceCount"])
        isolated = document.get("NetworkConfig", {}).get("EnableNetworkIsolation", False)
        super().__init__(job, image, document["AppSpecification"], instances, isolated=isolated)
        outputs = document.get("ProcessingOutputConfig", {}).get("Outputs", [])
        self._inputs = list(_managed(document.get("ProcessingInputs", []), "S3Input"))
        self._outputs = list(_managed(outputs, "S3Output"))

    def prepare(self) -> None:
        """Makes the folders."""
        for base, host in zip(self._bases, self._hosts, strict=True):
            opt_ml.lay_out_processing(base, self._document, host, self._hosts)
            for output in self._outputs:
                (base / opt_ml.relative_to_opt_ml(output["LocalPath"])).mkdir(
                    parents=True, exist_ok=True
                )

    def download(self, downloads: Downloads) -> None:
        """Brings the inputs."""
        for source in self._inputs:
            place = opt_ml.relative_to_opt_ml(source["LocalPath"])
            downloads.download(source, [base / place for base in self._bases])

    def metrics(self, line: str) -> dict[str, float]:
        """None: a processing job has no metrics."""
        del line
        return {}

    def reason(self, number: int) -> str:
        """AWS's words: the exit code alone. The code's own words are the job's `ExitMessage`.

        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-python-sdk-troubleshooting.html
        """
        return exit_reason("", self.containers[number].poll())

    def uploads(self, whole: bool) -> dict[str, Path]:
        """What lies in the folders of the outputs; a stopped job keeps nothing.

        Of files of one name the last instance's counts.
        """
        uploads: dict[str, Path] = {}
        for output in self._outputs if whole else []:
            for base in self._bases:
                folder = base / opt_ml.relative_to_opt_ml(output["LocalPath"])
                try:
                    paths = archives.files(folder)
                except archives.ArchiveError as error:
                    raise JobFailure(
                        f"ClientError: Unable to upload {output['LocalPath']}: {error}"
                    ) from error
                for path in paths:
                    if path.is_file():
                        name = path.relative_to(folder).as_posix()
                        uploads[f"{output['S3Uri'].rstrip('/')}/{name}"] = path
        return uploads

    def results(self, uploaded: Collection[str]) -> Document:
        """The `ExitMessage`, of the first instance that left one."""
        del uploaded
        messages = map(opt_ml.exit_message, self._bases)
        message = next(filter(None, messages), "")
        return {"ExitMessage": message} if message else {}

    def _collect(self) -> tuple[str, ...]:
        paths = (opt_ml.relative_to_opt_ml(output["LocalPath"]) for output in self._outputs)
        return "output", *map(str, paths)

    def _command(self, base: Path) -> tuple[str, ...]:
        """A container's arguments; a process has its base folder in the place of /opt/ml."""
        if self._image.container:
            return tuple(self._arguments)
        # The entry point begins with a Python, for which the table has another.
        asked = [*self._entrypoint[1:], *self._arguments]
        return (*self._image.process, *opt_ml.replace_opt_ml(asked, base))


def _managed(items: Iterable[Document], member: str) -> Iterator[Document]:
    """The inputs or outputs that the server moves, not the application."""
    return (item[member] for item in items if not item.get("AppManaged"))
