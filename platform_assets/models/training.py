"""Models that are trained once: an artifact by the digest of its work, and dates that point to it.

How a job is started, found, awaited and stopped stands in `resources.sagemaker`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from platform_assets.reports import Materialization
from resources.s3 import Folder, ObjectStore, Publication, Published
from resources.sagemaker import (
    Log,
    S3Channel,
    SageMakerResource,
    TrainedJob,
    TrainingCompute,
    TrainingError,
    TrainingJobSpec,
    deterministic_name,
)


def date_folder(store: ObjectStore, prefix: str, date: str) -> Folder:
    """Where a manifest without files says which model is a date's."""
    return Folder(store, f"{prefix}/date={date}")


def work_folder(store: ObjectStore, prefix: str, digest: str) -> Folder:
    """Where the artifact of equal inputs and configuration is, whatever the date."""
    return Folder(store, f"{prefix}/work={digest}")


@dataclass(frozen=True)
class Work:
    """A date's training.

    Attributes:
        identity: Everything that determines the model, the contents of its channels among it;
            equal values reuse one model.
        inputs: Of the date's manifest: what is read → its digest.
        rows: Of the model, centroids for instance.
        channels: From the digest of the work to what the job reads, for as long as it needs it.
        extra_request: Further fields of CreateTrainingJob by AWS's names.
    """

    date: str
    identity: Mapping[str, str]
    inputs: Mapping[str, str]
    rows: int
    image: str
    hyperparameters: Mapping[str, str]
    channels: Callable[[str], AbstractContextManager[Sequence[S3Channel]]]
    extra_request: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def digest(self) -> str:
        """Names the work: 16 hexadecimal digits."""
        return hashlib.sha256(repr(sorted(self.identity.items())).encode()).hexdigest()[:16]


@dataclass
class Training:
    """Finds or trains the models of the dates of one run.

    Attributes:
        prefix: Where in it: `mnist/models` for instance.
        pipeline: Its name: a tag of the jobs, and what their names begin with.
        run_id: Of the run; a tag of the jobs that it starts.
        describe: From a job's metadata to what the date's manifest says beside the artifact.
    """

    sagemaker: SageMakerResource
    store: ObjectStore
    prefix: str
    pipeline: str
    code_version: str
    compute: TrainingCompute
    log: Log
    run_id: str
    describe: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    # By the digest of the work: what failed for good is not paid for again by another date.
    _failed: dict[str, TrainingError] = field(default_factory=dict[str, TrainingError], init=False)

    def make_model(self, work: Work) -> Materialization:
        """Points the date to the model of its work; trains it where none is.

        Raises:
            resources.sagemaker.SageMakerError: The model could not be trained.
        """
        target = work_folder(self.store, self.prefix, work.digest)
        earlier = target.published_if_current(work.identity, self.code_version)
        trained = (earlier or self._train(work, target)).manifest
        (artifact,) = trained.files
        job = dict(trained.extra["metadata"])
        gate_figures = self.describe(job)
        with Publication(date_folder(self.store, self.prefix, work.date)) as publication:
            published = publication.commit(
                partition=work.date,
                rows=trained.rows,
                code_version=self.code_version,
                inputs=work.inputs,
                extra={
                    "artifact": target.key(artifact.name),
                    "sha256": artifact.sha256,
                    "job": trained.extra["job"],
                    **gate_figures,
                },
            )
        url = job.pop("training_job_url", "")
        return Materialization(
            metadata={
                "dagster/uri": target.file_uri(artifact.name),
                "dagster/partition_row_count": trained.rows,
                **(without_cost(job) if earlier else job),
                **({"training_job_url": dg.MetadataValue.url(url)} if url else {}),
                "training_job": trained.extra["job"],
                "bytes": artifact.bytes,
                "reused": earlier is not None,
                "unchanged": not published.changed,
                **gate_figures,
            },
            data_version=artifact.sha256,
        )

    def _train(self, work: Work, target: Folder) -> Published:
        """Has SageMaker train, and publishes the artifact in the folder of the work."""
        if work.digest in self._failed:
            raise self._failed[work.digest]
        try:
            with work.channels(work.digest) as channels:
                job = self.sagemaker.train(
                    self._job_spec(work, target, channels),
                    log=self.log,
                    tags={
                        "pipeline": self.pipeline,
                        "partition": work.date,
                        "run_id": self.run_id,
                        "version": work.digest,
                    },
                    usable=self._has_artifact,
                )
        except TrainingError as error:
            if not error.transient:
                self._failed[work.digest] = error
            raise
        with Publication(target) as publication:
            publication.adopt(job.artifact_uri.removeprefix(target.file_uri("")))
            return publication.commit(
                partition=work.date,
                rows=work.rows,
                code_version=self.code_version,
                inputs=work.identity,
                extra={"job": job.name, "metadata": job.metadata()},
            )

    def _has_artifact(self, done: TrainedJob) -> bool:
        """A finished job whose artifact somebody has removed is of no use."""
        return self.store.exists(done.artifact_uri.removeprefix(self.store.uri("")))

    def _job_spec(
        self, work: Work, target: Folder, channels: Sequence[S3Channel]
    ) -> TrainingJobSpec:
        return TrainingJobSpec(
            name=deterministic_name(self.pipeline, work.date, digest_of=work.digest),
            image=work.image,
            output_s3_uri=target.uri,
            hyperparameters=dict(work.hyperparameters),
            channels=list(channels),
            compute=self.compute,
            extra_request=dict(work.extra_request),
        )


def without_cost(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's metadata for a date that reuses its model: what was paid is shown with one date only.

    Summed over the dates, the costs are what was paid. What is not known (None) stays so.
    """
    billable_seconds = None if job["billable_seconds"] is None else 0
    estimated_cost = None if job["estimated_cost"] is None else 0.0
    return {**job, "billable_seconds": billable_seconds, "estimated_cost": estimated_cost}
