"""The k-means model: a SageMaker training job's artifact, found again instead of trained again.

How a job is started, found, awaited and stopped stands in `resources.sagemaker`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from formats.digit_features import FEATURES
from platform_assets.mnist import dataset
from platform_assets.mnist.centroids import DIGITS
from platform_assets.partitions import DAILY, ONE_RUN
from platform_assets.reports import Materialization, make_each, report
from platform_assets.upstream import already_made, require_manifest
from resources.s3 import Folder, Manifest, ObjectStore, Publication
from resources.sagemaker import (
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
    compute: TrainingCompute = Field(
        default_factory=TrainingCompute, description="What the job runs on, and for how long."
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
            **self.hyperparameters,
        }


def prefix(date: str) -> str:
    """Where it is said which model is a date's."""
    return f"{PREFIX}/date={date}"


def prefix_of_work(digest: str) -> str:
    """Where the artifact of equal inputs and configuration stands, whatever the date."""
    return f"{PREFIX}/work={digest}"


@dg.asset(
    key=["mnist", "model"],
    deps=[dataset.mnist_dataset],
    group_name="mnist",
    kinds={"sagemaker", "s3"},
    owners=["team:machine-learning"],
    description=(
        "Centroids by SageMaker's k-means over the train digits, which are marked so that each "
        "cluster is of one digit. A date with the same digits and configuration as an earlier one "
        "has that one's model."
    ),
    code_version=CODE_VERSION,
    partitions_def=DAILY,
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
    failed: dict[str, TrainingError] = {}

    def train(date: str) -> Materialization:
        tags = {"pipeline": "mnist", "partition": date, "run_id": context.run.run_id}
        return ensure_model(
            sagemaker, digits_store, date, config, log=context.log, tags=tags, failed=failed
        )

    return report(context, make_each(context.partition_keys, train))


def ensure_model(
    sagemaker: SageMakerResource,
    store: ObjectStore,
    date: str,
    config: KMeans,
    *,
    log: Any,
    tags: Mapping[str, str],
    failed: dict[str, TrainingError],
) -> Materialization:
    """Point the date to the model of its digits and configuration; train it where there is none.

    Args:
        sagemaker: Trains.
        store: Where digits and models stand.
        date: Whose model it is to be.
        config: How to train.
        log: Of the run.
        tags: Of a job that is started.
        failed: What a training came to that would fail or be stopped again, by the digest of its
            work: another date of the run does not pay for it again. Added to here.

    Raises:
        resources.sagemaker.errors.SageMakerError: It could not be trained.
    """
    channels = require_manifest(store, dataset.prefix(date), "mnist/dataset")
    work = describe_work(channels, config)
    digest = hashlib.sha256(repr(sorted(work.items())).encode()).hexdigest()[:16]
    trained = already_made(store, prefix_of_work(digest), inputs=work, code_version=CODE_VERSION)
    reused = trained is not None
    if trained is None and digest in failed:
        raise failed[digest]
    if trained is None:
        try:
            trained = train(sagemaker, store, date, config, work, digest, log=log, tags=tags)
        except TrainingError as error:
            if not error.transient:
                failed[digest] = error
            raise
    (artifact,) = trained.files
    key = f"{prefix_of_work(digest)}/{artifact.name}"
    with Publication(Folder(store, prefix(date))) as publication:
        publication.commit(
            partition=date,
            rows=trained.rows,
            code_version=CODE_VERSION,
            inputs={dataset.prefix(date): channels.content_sha256},
            extra={"artifact": key, "sha256": artifact.sha256, "job": trained.extra["job"]},
        )
    told = trained.extra["metadata"]
    # Paid for once: summed over the dates, it is what was paid.
    paid = {name: told[name] for name in ("billable_seconds", "estimated_cost")}
    if reused:
        paid = {name: None if value is None else value * 0 for name, value in paid.items()}
    return Materialization(
        metadata={
            **told,
            **paid,
            "training_job_url": dg.MetadataValue.url(told["training_job_url"]),
            "dagster/uri": store.uri(key),
            "training_job": trained.extra["job"],
            "clusters": trained.rows,
            "bytes": artifact.bytes,
            "reused": reused,
        },
        data_version=artifact.sha256,
    )


def describe_work(channels: Manifest, config: KMeans) -> dict[str, str]:
    """What makes a model what it is: the digits and the configuration."""
    return {
        "code_version": CODE_VERSION,
        dataset.MARKED: channels.file(dataset.channel_file(dataset.MARKED)).sha256,
        "instance_count": str(config.compute.instance_count),
        **config.to_hyperparameters(),
    }


def train(
    sagemaker: SageMakerResource,
    store: ObjectStore,
    date: str,
    config: KMeans,
    work: Mapping[str, str],
    digest: str,
    *,
    log: Any,
    tags: Mapping[str, str],
) -> Manifest:
    """Have SageMaker train, and publish what came of it under the digest of the work."""
    job = sagemaker.train(
        TrainingJobSpec(
            name=deterministic_name("mnist", date, digest_of=digest),
            image=builtin_image_uri("kmeans", sagemaker.region),
            output_s3_uri=store.uri(prefix_of_work(digest)),
            hyperparameters=config.to_hyperparameters(),
            channels=[
                S3Channel(
                    name="train",
                    s3_uri=store.uri(f"{dataset.prefix(date)}/{dataset.MARKED}/"),
                    content_type="application/x-recordio-protobuf",
                )
            ],
            compute=config.compute,
            extra_request=config.extra_request,
        ),
        log=log,
        tags={**tags, "version": digest},
        # A finished job whose artifact somebody has removed is of no use.
        usable=lambda done: store.exists(done.artifact_uri.removeprefix(store.uri(""))),
    )
    at = store.uri(prefix_of_work(digest)) + "/"
    with Publication(Folder(store, prefix_of_work(digest))) as publication:
        publication.adopt(job.artifact_uri.removeprefix(at))
        return publication.commit(
            partition=date,
            rows=config.clusters,
            code_version=CODE_VERSION,
            inputs=dict(work),
            extra={"job": job.name, "metadata": job.metadata()},
        ).manifest
