"""The k-means model, with its hyperparameters: a training job's artifact, reused where it can be.

How a model is trained once for equal work stands in `platform_assets.models.training`.
"""

from typing import Any, Literal

import dagster as dg
import numpy as np
from pydantic import Field

from formats import ndarray_file
from formats.digit_features import FEATURES
from platform_assets.checks import Verdict, check_each
from platform_assets.lineage import place
from platform_assets.mnist import centroids, dataset, shards
from platform_assets.mnist.centroids import DIGITS
from platform_assets.mnist.digit_sheets import confusion_picture
from platform_assets.mnist.gate import Gate
from platform_assets.models.published import MAX_ARTIFACT_BYTES
from platform_assets.models.training import Training, Work, date_folder
from platform_assets.partitions import DAILY, DUE_DAILY, ONE_RUN
from platform_assets.reports import make_each
from resources.s3 import Folder, ObjectStore
from resources.sagemaker import SageMakerResource, TrainingCompute, builtin_image_uri

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
    return date_folder(store, PREFIX, date)


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
    training = Training(
        sagemaker,
        digits_store,
        prefix=PREFIX,
        pipeline="mnist",
        code_version=CODE_VERSION,
        compute=config.compute or sagemaker.compute,
        log=context.log,
        run_id=context.run.run_id,
    )
    return make_each(
        context,
        lambda date: training.make_model(describe_work(digits_store, date, config, training)),
    )


def describe_work(store: ObjectStore, date: str, config: KMeans, training: Training) -> Work:
    """The training of a date's digits.

    Raises:
        NotPublishedError: The date has no digits.
    """
    channels = dataset.folder(store, date).require("mnist/dataset")
    instances = training.compute.instance_count
    hyperparameters = config.to_hyperparameters()
    return Work(
        date=date,
        identity={
            "code_version": CODE_VERSION,
            dataset.MARKED: channels.manifest.file(dataset.channel_file(dataset.MARKED)).sha256,
            "instance_count": str(instances),
            **({"distribution": "shares"} if instances > 1 else {}),
            **hyperparameters,
        },
        inputs={channels.folder.prefix: channels.manifest.content_sha256},
        rows=config.clusters,
        image=builtin_image_uri("kmeans", training.sagemaker.region),
        hyperparameters=hyperparameters,
        channels=lambda digest: shards.training_channels(channels, digest, instances),
        extra_request=config.extra_request,
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
        evidence["confusion"] = confusion_picture(centroids.confusion(labels, answers))
    none_of = f" No centroid is of {', '.join(map(str, lacking))}." if lacking else ""
    return Verdict(
        passed,
        f"It reads {accuracy:.1%} of {len(labels)} validation digits rightly; {floor:.1%} are "
        f"asked for.{none_of}",
        evidence,
        severity="warn",
    )
