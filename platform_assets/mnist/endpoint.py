"""The endpoint: serves the newest classifier that passed its gate.

It is no partition but a reconciliation: a backfill of an old date never puts an old model live.
How a version is put into service, proved and rolled back stands in `resources.sagemaker`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import dagster as dg
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from platform_assets.errors import EXPECTED, PlatformError
from platform_assets.mnist import centroids, classifier, dataset, frozen, gate, retention
from platform_assets.mnist.classifier import Judged
from platform_assets.partitions import ONE_RUN
from platform_assets.reports import to_failure
from platform_assets.retries import retry_call
from platform_assets.upstream import UpstreamMissingError, require_manifest
from resources.s3 import DATE, Manifest, ObjectStore, list_published, read_manifest
from resources.sagemaker import (
    EndpointSpec,
    Instances,
    Invoke,
    Log,
    ModelContainer,
    SageMakerResource,
    Variant,
    builtin_image_uri,
    deterministic_name,
)

CODE_VERSION = "1"
# Of all that changes the endpoint: one at a time.
POOL = "mnist_endpoint"
_CLASSIFIERS = "mnist/classifiers/date="
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


@dg.asset(
    key=["mnist", "endpoint"],
    deps=[classifier.mnist_classifier],
    group_name="mnist",
    kinds={"sagemaker"},
    owners=["team:machine-learning"],
    description=(
        "The SageMaker endpoint, serving the newest classifier that passes its gate and was not "
        "rolled back. Its answer's closest_cluster mod 10 is the digit."
    ),
    code_version=CODE_VERSION,
    backfill_policy=ONE_RUN,
    pool=POOL,
)
def mnist_endpoint(
    context: dg.AssetExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.MaterializeResult:
    try:
        return retry_call(
            f"Endpoint {endpoint.name}",
            lambda: reconcile(context, endpoint, digits_store, sagemaker),
        )
    except EXPECTED as error:
        raise to_failure(error) from error


def reconcile(
    context: dg.AssetExecutionContext,
    endpoint: Endpoint,
    store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.MaterializeResult:
    """Put the newest approved classifier into service where it is not there yet, and prove it.

    Raises:
        UpstreamMissingError: No classifier has passed its gate.
        LiveUnknownError: What is live is not ours, so that nothing can be compared with it.
        SageMakerError: It could not be deployed; what was live before still is.
    """
    versions = sagemaker.list_versions(endpoint.name, log=context.log)
    live = frozen.find_live(store, sagemaker, endpoint.name)
    rolled_back = {each.version for each in versions if each.rolled_back_at}
    candidates = (
        each
        for each in approved(store, log=context.log)
        if endpoint.version(each.sha256) not in rolled_back
    )
    wanted = choose(candidates, gate.Margin(store, live), live, log=context.log)
    if wanted is None:
        raise UpstreamMissingError(
            f"No classifier under {store.uri(_CLASSIFIERS)} has passed its gate: materialise "
            "mnist/classifier for a recent date, or look at why its check fails."
        )
    version = endpoint.version(wanted.sha256)
    shown = {
        "endpoint": endpoint.name,
        "version": version,
        "classifier_date": wanted.date,
        "accuracy": wanted.manifest.extra["accuracy"],
    }
    state = sagemaker.describe_endpoint(endpoint.name, log=context.log)
    serves = [
        each.version
        for each in versions
        if state and state.in_service and each.config_name == state.config_name and each.verified_at
    ]
    # The same classifier stands under every date that made it: the version tells, not the place.
    if state and serves == [version]:
        told = {
            "status": state.status,
            "endpoint_config": state.config_name,
            "outcome": "unchanged",
        }
    else:
        # What is live is left as it stands, down to its manifest.
        kept = live if live and live.sha256 == wanted.sha256 else None
        kept = kept or frozen.freeze(store, endpoint.name, wanted)
        # Read beforehand: a version that nobody could prove does not go live in the first place.
        proof = Proof.read(store, kept)
        deployment = sagemaker.deploy(
            describe(endpoint, sagemaker.region, kept, frozen.artifact_uri(store, kept)),
            smoke=proof.require,
            log=context.log,
            tags={"pipeline": "mnist", "partition": wanted.date, "run_id": context.run.run_id},
        )
        removed = retention.clean_up(
            store, sagemaker, endpoint.name, keep=endpoint.keep_versions, log=context.log
        )
        told = {**deployment.metadata(), **removed, "status": deployment.status}
    return dg.MaterializeResult(metadata={**shown, **told}, data_version=dg.DataVersion(version))


def approved(store: ObjectStore, *, log: Log) -> Iterator[Judged]:
    """The classifiers of today's features that are above their gate's floor, newest date first."""
    published = list_published(store, _CLASSIFIERS, DATE, warn=log.warning)
    for folder, _ in sorted(published, reverse=True, key=lambda item: item[0].prefix):
        prefix = folder.prefix
        manifest = read_manifest(store, prefix)
        if manifest is not None and manifest.extra.get("passed") and is_current(manifest):
            yield Judged(prefix, manifest)


def is_current(manifest: Manifest) -> bool:
    """Whether a classifier reads the features that are sent today: its code version tells."""
    return manifest.code_version == classifier.CODE_VERSION


def choose(
    candidates: Iterable[Judged], margin: gate.Margin, live: Judged | None, *, log: Log
) -> Judged | None:
    """The first that keeps its margin to what is live, and what is live where none does.

    Args:
        candidates: Newest first. What is older than what is live does not take its place.
        margin: To what is live.
        live: None where nothing is.
        log: Is told of those that do not.
    """
    for each in candidates:
        if live and each.date < live.date:
            break
        verdict = margin.judge(each)
        if verdict.passed:
            return each
        log.warning(f"The classifier of {each.date} is not deployed. {verdict.description}")
    return live


def describe(endpoint: Endpoint, region: str, wanted: Judged, artifact_uri: str) -> EndpointSpec:
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


class WrongAnswersError(PlatformError):
    """The endpoint's answers are not those of the classifier that it is said to serve."""


@dataclass(frozen=True)
class Proof:
    """Some test digits, and what a classifier reads in them.

    Attributes:
        date: Of the classifier.
        images: (n, 784) float32.
        digits: (n,) int64.
    """

    date: str
    images: NDArray[np.float32]
    digits: NDArray[np.int64]

    @classmethod
    def read(cls, store: ObjectStore, served: Judged) -> "Proof":
        """The test digits of a classifier's date, and its own answers.

        Raises:
            UpstreamMissingError: The date has no digits any more.
            WrongAnswersError: It was made for other features than are sent today.
        """
        if not is_current(served.manifest):
            raise WrongAnswersError(
                f"The classifier of {served.date} was made by an earlier version of the code, for "
                "other features of digits than the API sends: materialise this date anew, or roll "
                "back to a later version."
            )
        channels = require_manifest(store, dataset.prefix(served.date), "mnist/dataset")
        images, _ = classifier.read_channel(store, served.date, channels, "test")
        images = images[:_SMOKE_DIGITS]
        return cls(served.date, images, centroids.digits_of(images, served.read_centroids(store)))

    def require(self, invoke: Invoke) -> None:
        """Ask the endpoint for the digits.

        Raises:
            WrongAnswersError: It answered something else than the classifier.
        """
        answered = ask(invoke, self.images)
        if len(answered) != len(self.digits):
            raise WrongAnswersError(
                f"The endpoint gave {len(answered)} answers to {len(self.digits)} test digits."
            )
        wrong = int(np.count_nonzero(answered != self.digits))
        if wrong:
            raise WrongAnswersError(
                f"{wrong} of {len(self.images)} test digits are classified otherwise by the "
                f"endpoint than by the classifier of {self.date}."
            )


def ask(invoke: Invoke, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digits that the endpoint reads in images (n, 784): (n,) int64."""
    rows = (",".join(f"{value:.9g}" for value in image) for image in images.tolist())
    answer = invoke("\n".join(rows).encode(), content_type="text/csv")
    predictions = json.loads(answer.body)["predictions"]
    clusters = np.array([each["closest_cluster"] for each in predictions], np.int64)
    return clusters % centroids.DIGITS
