"""The endpoint: serves the newest classifier that passed its gate.

It is no partition but a reconciliation: a backfill of an old date never puts an old model live.
How a version is put into service, proved and rolled back stands in `resources.sagemaker`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from platform_assets.errors import EXPECTED, PlatformError
from platform_assets.lineage import place
from platform_assets.mnist import centroids, classifier, dataset, deployed, retention
from platform_assets.mnist.deployed import Endpoint
from platform_assets.mnist.digit_sheets import answer_sheet
from platform_assets.mnist.gate import Margin
from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.partitions import DUE_DAILY, ONE_RUN
from platform_assets.pictures import attempt_to_show
from platform_assets.reports import to_failure
from platform_assets.retries import retry_call
from resources.s3 import DATE, NotPublishedError, ObjectStore, list_published
from resources.sagemaker import (
    EndpointSpec,
    EndpointState,
    EndpointVersion,
    Instances,
    Invoke,
    Log,
    ModelContainer,
    SageMakerResource,
    Variant,
    builtin_image_uri,
)

CODE_VERSION = "1"
# Of all that changes the endpoint: one at a time.
POOL = "mnist_endpoint"
# Few enough for one request, enough that each digit is likely among them.
_SMOKE_DIGITS = 100


@dg.asset(
    key=["mnist", "endpoint"],
    deps=[classifier.mnist_classifier],
    group_name="mnist",
    kinds={"sagemaker"},
    owners=["team:machine-learning"],
    tags=place("digits", "served"),
    description=(
        "The SageMaker endpoint, serving the newest classifier that passes its gate and was not "
        "rolled back. Its answer's closest_cluster mod 10 is the digit."
    ),
    code_version=CODE_VERSION,
    backfill_policy=ONE_RUN,
    freshness_policy=DUE_DAILY,
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
        NotPublishedError: No classifier has passed its gate.
        LiveUnknownError: What is live is not ours, so that nothing can be compared with it.
        SageMakerError: It could not be deployed; what was live before still is.
    """
    versions = sagemaker.list_versions(endpoint.name, log=context.log)
    live = deployed.find_live(store, sagemaker, endpoint.name)
    wanted = find_wanted(endpoint, store, versions, live, log=context.log)
    wanted_version = endpoint.version(wanted.sha256)
    state = sagemaker.describe_endpoint(endpoint.name, log=context.log)
    # The same classifier is in the folder of every date that made it: which one is served is known
    # by its version, not by its folder.
    if state and served_versions(state, versions) == [wanted_version]:
        outcome = {
            "status": state.status,
            "endpoint_config": state.config_name,
            "outcome": "unchanged",
        }
    else:
        # The copy that is live is left as it is, down to its manifest.
        copy = live if live and live.sha256 == wanted.sha256 else None
        copy = copy or deployed.copy_for_endpoint(wanted, endpoint.name)
        # Read beforehand: a version that could not be proved does not go live in the first place.
        proof = Proof.read(copy)
        deployment = sagemaker.deploy(
            describe(endpoint, sagemaker.region, copy),
            smoke=proof.require,
            log=context.log,
            tags={"pipeline": "mnist", "partition": wanted.date, "run_id": context.run.run_id},
        )
        removed = retention.clean_up(
            store, sagemaker, endpoint.name, keep=endpoint.keep_versions, log=context.log
        )
        outcome = {**deployment.metadata(), **removed}
    return dg.MaterializeResult(
        metadata={
            "endpoint": endpoint.name,
            "version": wanted_version,
            **outcome,
            **describe_served(wanted),
            **attempt_to_show(lambda: show_answers(endpoint, sagemaker, wanted)),
        },
        data_version=dg.DataVersion(wanted_version),
    )


def describe_served(served: PublishedClassifier) -> dict[str, Any]:
    """What a materialisation says of the classifier that the endpoint serves."""
    manifest = served.files.manifest
    return {
        # Of centroids that it answers with.
        "dagster/row_count": manifest.rows,
        "classifier_date": served.date,
        "accuracy": manifest.extra["accuracy"],
    }


def show_answers(
    endpoint: Endpoint, sagemaker: SageMakerResource, served: PublishedClassifier
) -> dict[str, Any]:
    """Test digits with what the endpoint answers now, and what it should: its proof."""
    proof = Proof.read(served)
    answers = ask(partial(sagemaker.invoke, endpoint.name), proof.images)
    return {"proof": answer_sheet(proof.images, answers, proof.digits)}


def find_wanted(
    endpoint: Endpoint,
    store: ObjectStore,
    versions: Sequence[EndpointVersion],
    live: PublishedClassifier | None,
    *,
    log: Log,
) -> PublishedClassifier:
    """The newest classifier that passes its gate and was not rolled back.

    Raises:
        NotPublishedError: No classifier has passed its gate.
    """
    rolled_back = {version.version for version in versions if version.rolled_back_at}
    candidates = (
        candidate
        for candidate in approved(store, log=log)
        if endpoint.version(candidate.sha256) not in rolled_back
    )
    wanted = choose(candidates, Margin(live), live, log=log)
    if wanted is None:
        raise NotPublishedError(
            f"No classifier under {store.uri(classifier.DATES)} has passed its gate: materialise "
            "mnist/classifier for a recent date, or look at why its check fails."
        )
    return wanted


def served_versions(state: EndpointState, versions: Sequence[EndpointVersion]) -> list[str]:
    """The version that is in service and was proved, if one is."""
    return [
        version.version
        for version in versions
        if state.in_service and version.config_name == state.config_name and version.verified_at
    ]


def approved(store: ObjectStore, *, log: Log) -> Iterator[PublishedClassifier]:
    """The classifiers of today's features that are above their gate's floor, newest date first."""
    folders = [
        folder for folder, _ in list_published(store, classifier.DATES, DATE, warn=log.warning)
    ]
    for folder in sorted(folders, key=lambda folder: folder.prefix, reverse=True):
        files = folder.published()
        if files is not None and files.manifest.extra.get("passed"):
            candidate = PublishedClassifier(files)
            if is_current(candidate):
                yield candidate


def is_current(published: PublishedClassifier) -> bool:
    """Whether a classifier reads the features that are sent today, by its code version."""
    return published.files.manifest.code_version == classifier.CODE_VERSION


def choose(
    candidates: Iterable[PublishedClassifier],
    margin: Margin,
    live: PublishedClassifier | None,
    *,
    log: Log,
) -> PublishedClassifier | None:
    """The first candidate that keeps its margin to the live classifier, or else the live one.

    Args:
        candidates: Newest first. One that is older than the live one does not replace it.
        margin: To the live classifier.
        live: None where nothing is live.
        log: Gets a warning of every candidate that does not keep its margin.
    """
    for candidate in candidates:
        if live and candidate.date < live.date:
            break
        verdict = margin.judge(candidate)
        if verdict.passed:
            return candidate
        log.warning(f"The classifier of {candidate.date} is not deployed. {verdict.description}")
    return live


def describe(endpoint: Endpoint, region: str, wanted: PublishedClassifier) -> EndpointSpec:
    """The endpoint that serves a classifier."""
    return EndpointSpec(
        endpoint_name=endpoint.name,
        version=endpoint.version(wanted.sha256),
        container=ModelContainer(
            image=builtin_image_uri("kmeans", region), model_data_url=wanted.artifact_uri
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
    def read(cls, served: PublishedClassifier) -> "Proof":
        """The test digits of a classifier's date, and its own answers.

        Raises:
            NotPublishedError: The date has no digits any more.
            WrongAnswersError: It was made for other features than are sent today.
        """
        if not is_current(served):
            raise WrongAnswersError(
                f"The classifier of {served.date} was made by an earlier version of the code, for "
                "other features of digits than the API sends: materialise this date anew, or roll "
                "back to a later version."
            )
        store = served.files.folder.store
        channels = dataset.folder(store, served.date).require("mnist/dataset")
        images, _ = dataset.read_channel(channels, "test")
        images = images[:_SMOKE_DIGITS]
        return cls(served.date, images, centroids.digits_of(images, served.read_centroids()))

    def require(self, invoke: Invoke) -> None:
        """Ask the endpoint for the digits.

        Raises:
            WrongAnswersError: It answered something else than the classifier.
        """
        answers = ask(invoke, self.images)
        if len(answers) != len(self.digits):
            raise WrongAnswersError(
                f"The endpoint gave {len(answers)} answers to {len(self.digits)} test digits."
            )
        wrong = int(np.count_nonzero(answers != self.digits))
        if wrong:
            raise WrongAnswersError(
                f"{wrong} of {len(self.images)} test digits are classified otherwise by the "
                f"endpoint than by the classifier of {self.date}."
            )


def ask(invoke: Invoke, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """The digits that the endpoint reads in images (n, 784): (n,) int64.

    Raises:
        WrongAnswersError: It did not answer as k-means does.
    """
    rows = (",".join(f"{value:.9g}" for value in image) for image in images.tolist())
    answer = invoke("\n".join(rows).encode(), content_type="text/csv")
    try:
        predictions = json.loads(answer.body)["predictions"]
        clusters = np.array([item["closest_cluster"] for item in predictions], np.int64)
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise WrongAnswersError(
            f"The endpoint did not answer as k-means does, but began with {answer.body[:100]!r}."
        ) from error
    return clusters % centroids.DIGITS
