"""The endpoint: serves the newest classifier that passed its gate.

It is no partition but a reconciliation: a backfill of an old date never puts an old model live.
How a version is put into service, proved and rolled back stands in `resources.sagemaker`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from platform_assets.mnist import centroids, classifier, dataset
from platform_assets.outcomes import failure
from platform_assets.partitions import ONE_RUN, RETRIES
from platform_assets.upstream import UpstreamMissingError, require_manifest
from resources.errors import ResourceError
from resources.s3 import ObjectStore
from resources.s3_manifest import MANIFEST_NAME, Manifest, file_key, read_file, read_manifest
from resources.s3_publication import Publication
from resources.sagemaker import (
    EndpointSpec,
    Instances,
    Invoke,
    ModelContainer,
    SageMakerError,
    SageMakerResource,
    Variant,
    builtin_image_uri,
    deterministic_name,
)

CODE_VERSION = "1"
_CLASSIFIERS = "mnist/classifiers/date="
_FROZEN = "mnist/classifiers/sha256="
# Few enough for one request, enough that each digit is likely among them.
_SMOKE_DIGITS = 100


class Endpoint(dg.ConfigurableResource):
    """Which endpoint serves the digits, and on what."""

    name: str = Field(description="Name of the SageMaker endpoint.")
    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, ge=1, description="Number of instances.")
    keep_versions: int = Field(
        default=3, ge=1, description="How many versions stay for a rollback, the live one included."
    )

    def version(self, artifact_sha256: str) -> str:
        """The version that serves an artifact on these instances."""
        configuration = [self.instance_type, self.instance_count]
        return deterministic_name(artifact_sha256[:12], digest_of=configuration)


@dataclass(frozen=True)
class Approved:
    """A classifier that passed its gate."""

    date: str
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """Of its artifact."""
        return self.manifest.file(classifier.ARTIFACT).sha256


@dg.asset(
    key=["mnist", "endpoint"],
    deps=[classifier.mnist_classifier],
    group_name="mnist",
    kinds={"sagemaker"},
    owners=["team:machine-learning"],
    description=(
        "The SageMaker endpoint, serving the newest classifier that passed its gate and was not "
        "rolled back. Its answer's closest_cluster mod 10 is the digit."
    ),
    code_version=CODE_VERSION,
    backfill_policy=ONE_RUN,
    retry_policy=RETRIES,
    pool="mnist_endpoint",
)
def mnist_endpoint(
    context: dg.AssetExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.MaterializeResult:
    try:
        return reconcile(context, endpoint, digits_store, sagemaker)
    except (ResourceError, SageMakerError, UpstreamMissingError) as error:
        raise failure({(context.asset_key, endpoint.name): error}) from error


def reconcile(
    context: dg.AssetExecutionContext,
    endpoint: Endpoint,
    store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.MaterializeResult:
    """Put the newest approved classifier into service where it is not there yet, and prove it.

    Raises:
        UpstreamMissingError: No classifier has passed its gate.
        SageMakerError: It could not be deployed; what was live before still is.
    """
    versions = sagemaker.list_versions(endpoint.name, log=context.log)
    rolled_back = {each.version for each in versions if each.rolled_back_at}
    wanted = next(
        (each for each in approved(store) if endpoint.version(each.sha256) not in rolled_back), None
    )
    if wanted is None:
        raise UpstreamMissingError(
            f"No classifier under {store.uri(_CLASSIFIERS)} has passed its gate: materialise "
            "mnist/classifier for a recent date, or look at why its check fails."
        )
    version = endpoint.version(wanted.sha256)
    live = sagemaker.describe_endpoint(endpoint.name, log=context.log)
    serves = [
        each
        for each in versions
        if live and live.in_service and each.config_name == live.config_name and each.verified_at
    ]
    shown = {
        "endpoint": endpoint.name,
        "version": version,
        "classifier_date": wanted.date,
        "accuracy": wanted.manifest.extra["accuracy"],
    }
    # The same classifier stands under every date that made it: the version tells, not the place.
    if live and [each.version for each in serves] == [version]:
        told = {"status": live.status, "endpoint_config": live.config_name, "outcome": "unchanged"}
    else:
        deployment = sagemaker.deploy(
            describe(endpoint, sagemaker.region, wanted, freeze(store, wanted)),
            smoke=lambda invoke: prove(invoke, store, wanted),
            log=context.log,
            tags={"pipeline": "mnist", "partition": wanted.date, "run_id": context.run_id},
        )
        pruned = sagemaker.prune(endpoint.name, keep=endpoint.keep_versions, log=context.log)
        told = {**deployment.metadata(), **pruned.metadata(), "status": deployment.status}
    return dg.MaterializeResult(metadata={**shown, **told}, data_version=dg.DataVersion(version))


def approved(store: ObjectStore) -> Iterator[Approved]:
    """The classifiers that passed their gate, newest date first."""
    dates = [
        each.key.removeprefix(_CLASSIFIERS).removesuffix(f"/{MANIFEST_NAME}")
        for each in store.list(_CLASSIFIERS)
        if each.key.endswith(f"/{MANIFEST_NAME}")
    ]
    for date in sorted(dates, reverse=True):
        manifest = read_manifest(store, classifier.prefix(date))
        if manifest is not None and manifest.extra.get("passed"):
            yield Approved(date, manifest)


def freeze(store: ObjectStore, wanted: Approved) -> str:
    """Copy a classifier to where nothing is ever overwritten, and return its artifact's URI.

    A date's own place changes when the date is made again, gate passed or not; what SageMaker
    loads, at any later restart, must not.

    Raises:
        ObjectChangedError: The date was made again meanwhile.
    """
    at = f"{_FROZEN}{wanted.sha256}"
    source = classifier.prefix(wanted.date)
    if read_manifest(store, at) is None:
        with Publication(store, at) as publication:
            for file in wanted.manifest.files:
                data = read_file(store, source, file, max_bytes=classifier.MAX_ARTIFACT_BYTES)
                publication.put(file.name, data)
            publication.commit(
                partition=wanted.date,
                rows=wanted.manifest.rows,
                code_version=wanted.manifest.code_version,
                inputs=wanted.manifest.inputs,
                extra=wanted.manifest.extra,
            )
    return store.uri(file_key(at, classifier.ARTIFACT))


def describe(endpoint: Endpoint, region: str, wanted: Approved, artifact_uri: str) -> EndpointSpec:
    """The endpoint that serves a classifier."""
    return EndpointSpec(
        endpoint_name=endpoint.name,
        version=endpoint.version(wanted.sha256),
        container=ModelContainer(
            image=builtin_image_uri("kmeans", region), model_data_url=artifact_uri
        ),
        variants=[
            Variant(
                instances=Instances(
                    instance_type=endpoint.instance_type, instance_count=endpoint.instance_count
                )
            )
        ],
    )


class WrongAnswersError(Exception):
    """The endpoint's answers are not those of the classifier that it is said to serve."""


def prove(invoke: Invoke, store: ObjectStore, wanted: Approved) -> None:
    """Ask the endpoint for some test digits and compare with the classifier's own answers.

    Raises:
        WrongAnswersError: It answered something else.
    """
    channels = require_manifest(store, dataset.prefix(wanted.date), "mnist/dataset")
    images, _ = classifier.read_channel(store, wanted.date, channels, "test")
    images = images[:_SMOKE_DIGITS]
    own = classifier.read_centroids(store, wanted.date, wanted.manifest)
    expected = centroids.nearest(images, own) % centroids.DIGITS
    answered = ask(invoke, images)
    if not np.array_equal(answered, expected):
        wrong = int(np.count_nonzero(answered != expected))
        raise WrongAnswersError(
            f"{wrong} of {len(images)} test digits are classified otherwise by the endpoint than "
            f"by the classifier of {wanted.date}."
        )


def ask(invoke: Invoke, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digits that the endpoint reads in images (n, 784): (n,) int64."""
    rows = (",".join(f"{value:.9g}" for value in image) for image in images.tolist())
    answer = invoke("\n".join(rows).encode(), content_type="text/csv")
    predictions = json.loads(answer.body)["predictions"]
    clusters = np.array([each["closest_cluster"] for each in predictions], np.int64)
    return clusters % centroids.DIGITS
