"""The k-means model, with its hyperparameters: a training job's artifact, reused where it can be.

How a job is started, found, awaited and stopped stands in `resources.sagemaker`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
import numpy as np
from pydantic import Field

from formats import ndarray_file
from formats.digit_features import FEATURES
from formats.manifest import Manifest
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.mnist import centroids, dataset, shards
from platform_assets.mnist.centroids import DIGITS
from platform_assets.mnist.digit_sheets import confusion_picture
from platform_assets.mnist.gate import Gate
from platform_assets.mnist.published_classifier import MAX_ARTIFACT_BYTES
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report
from resources.s3 import Folder, ObjectStore, Publication, Published
from resources.sagemaker import (
    Log,
    S3Channel,
    SageMakerResource,
    TrainingCompute,
    TrainingError,
    TrainingJobSpec,
    builtin_image_uri,
    deterministic_name,
)

CODE_VERSION = "2"
PREFIX = "mnist/models"


class KMeans(dg.Config):
    """How the marked digits are clustered, by SageMaker's own k-means.

    By the defaults 0.985 of MNIST's 10,000 test digits are read rightly with 3,000 train digits,
    and 0.988 with 50,000.
    """

    clusters: int = Field(default=256, ge=10, description="k: how many clusters are looked for.")
    epochs: int = Field(default=3, ge=1, description="How often training goes over the digits.")
    mini_batch_size: int = Field(default=5000, ge=1, description="Digits in one mini-batch.")
    init_method: Literal["random", "kmeans++"] = Field(
        default="random", description="How the first centres are chosen."
    )
    extra_center_factor: int = Field(
        default=4, ge=1, description="How many times k centres the stream is followed with."
    )
    local_lloyd_num_trials: int = Field(
        default=3, ge=1, description="How many searches for k of these centres are made."
    )
    hyperparameters: dict[str, str] = Field(
        default={}, description="Further hyperparameters of the algorithm, by AWS's names."
    )
    compute: TrainingCompute | None = Field(
        default=None,
        description="What the job runs on, and for how long; by the settings where left out.",
    )
    extra_request: dict[str, Any] = Field(
        default={},
        description="Further fields of CreateTrainingJob by AWS's names, such as VpcConfig.",
    )

    def to_hyperparameters(self) -> dict[str, str]:
        """As SageMaker takes them: all are text."""
        return {
            "k": str(self.clusters),
            "feature_dim": str(FEATURES + DIGITS),
            "epochs": str(self.epochs),
            "mini_batch_size": str(self.mini_batch_size),
            "init_method": self.init_method,
            "extra_center_factor": str(self.extra_center_factor),
            "local_lloyd_num_trials": str(self.local_lloyd_num_trials),
            # AWS's SDK sends it with each k-means job, spelt so: records are taken as dense rows.
            "force_dense": "True",
            **self.hyperparameters,
        }


def folder(store: ObjectStore, date: str) -> Folder:
    """Where a manifest without files says which model is a date's."""
    return Folder(store, f"{PREFIX}/date={date}")


def work_folder(store: ObjectStore, digest: str) -> Folder:
    """Where the artifact of equal inputs and configuration is, whatever the date."""
    return Folder(store, f"{PREFIX}/work={digest}")


@dg.asset(
    key=["mnist", "model"],
    deps=[dataset.mnist_dataset],
    group_name="mnist",
    kinds={"sagemaker", "s3"},
    owners=["team:machine-learning"],
    tags=place("digits", "derived"),
    description=(
        "Centroids by SageMaker's k-means over the train digits, which are marked so that each "
        "cluster is of one digit. A date with the same digits and configuration as an earlier one "
        "has that one's model."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
    freshness_policy=DUE_DAILY,
    backfill_policy=ONE_RUN,
    # One at a time: of two equal trainings the second finds the first one's model.
    pool="mnist_training",
)
def mnist_model(
    context: dg.AssetExecutionContext,
    config: KMeans,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.MaterializeResult:
    training = Training(sagemaker, digits_store, config, context.log, context.run.run_id)
    return report(context, make_each(context.partition_keys, training.make_model))


@dataclass
class Training:
    """Finds or trains the models of the dates of one run.

    Attributes:
        sagemaker: Trains.
        store: Where digits and models are.
        config: How to train.
        log: Of the run.
        run_id: Of the run; a tag of the jobs that it starts.
    """

    sagemaker: SageMakerResource
    store: ObjectStore
    config: KMeans
    log: Log
    run_id: str
    # By the digest of the work: what failed for good is not paid for again by another date.
    _failed: dict[str, TrainingError] = field(default_factory=dict, init=False)

    @property
    def _compute(self) -> TrainingCompute:
        return self.config.compute or self.sagemaker.compute

    def make_model(self, date: str) -> Materialization:
        """Points the date to the model of its digits and configuration; trains it where none is.

        Raises:
            NotPublishedError: The date has no digits.
            resources.sagemaker.errors.SageMakerError: The model could not be trained.
        """
        channels = dataset.folder(self.store, date).require("mnist/dataset")
        work = describe_work(channels.manifest, self.config, self._compute.instance_count)
        digest = hashlib.sha256(repr(sorted(work.items())).encode()).hexdigest()[:16]
        target = work_folder(self.store, digest)
        earlier = target.made_of(work, CODE_VERSION)
        trained = (earlier or self._train(channels, work, target, digest)).manifest
        (artifact,) = trained.files
        with Publication(folder(self.store, date)) as publication:
            publication.commit(
                partition=date,
                rows=trained.rows,
                code_version=CODE_VERSION,
                inputs={channels.folder.prefix: channels.manifest.content_sha256},
                extra={
                    "artifact": target.key(artifact.name),
                    "sha256": artifact.sha256,
                    "job": trained.extra["job"],
                },
            )
        job = dict(trained.extra["metadata"])
        url = job.pop("training_job_url", "")
        return Materialization(
            metadata={
                "dagster/uri": target.file_uri(artifact.name),
                # Of centroids.
                "dagster/partition_row_count": trained.rows,
                **(without_cost(job) if earlier else job),
                **({"training_job_url": dg.MetadataValue.url(url)} if url else {}),
                "training_job": trained.extra["job"],
                "bytes": artifact.bytes,
                "reused": earlier is not None,
            },
            data_version=artifact.sha256,
        )

    def _train(
        self, channels: Published, work: Mapping[str, str], target: Folder, digest: str
    ) -> Published:
        """Has SageMaker train, and publishes the artifact in the folder of the work."""
        if digest in self._failed:
            raise self._failed[digest]
        date, instances = channels.manifest.partition, self._compute.instance_count
        try:
            with shards.training_channel(channels, digest, instances) as channel:
                job = self.sagemaker.train(
                    self._job_spec(date, target, digest, channel),
                    log=self.log,
                    tags={
                        "pipeline": "mnist",
                        "partition": date,
                        "run_id": self.run_id,
                        "version": digest,
                    },
                    # A finished job whose artifact somebody has removed is of no use.
                    usable=lambda done: self.store.exists(
                        done.artifact_uri.removeprefix(self.store.uri(""))
                    ),
                )
        except TrainingError as error:
            if not error.transient:
                self._failed[digest] = error
            raise
        with Publication(target) as publication:
            publication.adopt(job.artifact_uri.removeprefix(target.file_uri("")))
            return publication.commit(
                partition=date,
                rows=self.config.clusters,
                code_version=CODE_VERSION,
                inputs=work,
                extra={"job": job.name, "metadata": job.metadata()},
            )

    def _job_spec(
        self, date: str, target: Folder, digest: str, channel: S3Channel
    ) -> TrainingJobSpec:
        return TrainingJobSpec(
            name=deterministic_name("mnist", date, digest_of=digest),
            image=builtin_image_uri("kmeans", self.sagemaker.region),
            output_s3_uri=target.uri,
            hyperparameters=self.config.to_hyperparameters(),
            channels=[channel],
            compute=self._compute,
            extra_request=self.config.extra_request,
        )


@dg.asset_check(
    asset=mnist_model,
    name="accuracy_floor",
    partitions_def=DAILY,
    description=(
        f"Its centroids read at least {Gate().min_accuracy:.0%} of the validation digits rightly, "
        "each by the digit that it is marked with. A warning: what goes live, the classifier's "
        "gate decides."
    ),
)
def model_accuracy_floor(
    context: dg.AssetCheckExecutionContext, digits_store: ObjectStore
) -> dg.AssetCheckResult:
    return check_each(context, lambda date: judge_model(digits_store, date))


def judge_model(store: ObjectStore, date: str) -> Verdict:
    """Reads digits that training has not seen with the artifact as it is."""
    trained = folder(store, date).require("mnist/model").manifest
    channels = dataset.folder(store, date).require("mnist/dataset")
    artifact = store.get_bytes(trained.extra["artifact"], max_bytes=MAX_ARTIFACT_BYTES)
    points = ndarray_file.unpack_model(artifact)
    if points.shape[1:] != (FEATURES + DIGITS,) or not np.isfinite(points).all():
        message = f"The artifact holds {points.shape} numbers, or some that are not finite."
        return Verdict(False, message, severity="warn")
    images, labels = dataset.read_channel(channels, "validation")
    plain, digits = centroids.unmarked(points)
    answers = digits[centroids.nearest(images, plain)]
    accuracy, floor = float(np.mean(answers == labels)), Gate().min_accuracy
    lacking = sorted(set(range(DIGITS)) - set(digits.tolist()))
    evidence: dict[str, Any] = {
        "accuracy": accuracy,
        "min_accuracy": floor,
        "validation_digits": len(labels),
    }
    passed = accuracy >= floor and not lacking
    if not passed:
        evidence["confusion"] = confusion_picture(centroids.confusion(labels, answers).tolist())
    none_of = f" No centroid is of {', '.join(map(str, lacking))}." if lacking else ""
    return Verdict(
        passed,
        f"It reads {accuracy:.1%} of {len(labels)} validation digits rightly; {floor:.1%} are "
        f"asked for.{none_of}",
        evidence,
        severity="warn",
    )


def describe_work(channels: Manifest, config: KMeans, instance_count: int) -> dict[str, str]:
    """What makes a model what it is: the digits and the configuration."""
    return {
        "code_version": CODE_VERSION,
        dataset.MARKED: channels.file(dataset.channel_file(dataset.MARKED)).sha256,
        "instance_count": str(instance_count),
        **({"distribution": "shares"} if instance_count > 1 else {}),
        **config.to_hyperparameters(),
    }


def without_cost(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job's metadata for a date that reuses its model: what was paid is shown with one date only.

    Summed over the dates, the costs are what was paid. What is not known (None) stays so.
    """
    billable_seconds = None if job["billable_seconds"] is None else 0
    estimated_cost = None if job["estimated_cost"] is None else 0.0
    return {**job, "billable_seconds": billable_seconds, "estimated_cost": estimated_cost}
