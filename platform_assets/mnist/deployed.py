"""The endpoint by its settings, and the classifiers that it serves or can be rolled back to.

An endpoint serves copies of classifiers, in folders that are never overwritten: the folder of a
date changes when the date is made again, whether or not it passes its gate, and SageMaker loads the
artifact again at any later restart. Each endpoint has copies of its own, removed with its versions.
"""

import dagster as dg
from pydantic import Field

from platform_assets.errors import PlatformError
from platform_assets.mnist.published_classifier import (
    ARTIFACT,
    MAX_ARTIFACT_BYTES,
    PublishedClassifier,
)
from resources.s3 import Folder, ObjectStore, Publication
from resources.sagemaker import NotFoundError, SageMakerResource, Security, deterministic_name

_ADVICE = (
    "Nobody can tell whether another classifier is worse. Roll the endpoint back (job "
    "rollback_endpoint) or tear it down (job teardown_endpoint), then run again."
)


class LiveUnknownError(PlatformError):
    """The endpoint serves something that is not one of the platform's classifiers."""


class Endpoint(dg.ConfigurableResource):
    """Which endpoint serves the digits, and on what."""

    name: str = Field(description="Name of the SageMaker endpoint.")
    instance_type: str = Field(default="ml.m5.large", description="ML instance type.")
    instance_count: int = Field(default=1, ge=1, description="Number of instances.")
    keep_versions: int = Field(
        default=3, ge=1, description="How many versions stay for a rollback, the live one included."
    )

    security: Security = Field(
        default_factory=Security, description="What SageMaker runs it with: a part of its version."
    )

    def version(self, artifact_sha256: str) -> str:
        """The version that serves an artifact on these instances, with this security."""
        configuration: list[object] = [self.instance_type, self.instance_count]
        if self.security != Security():
            configuration.append(self.security.model_dump())
        return deterministic_name(artifact_sha256[:12], digest_of=configuration)


def root(endpoint_name: str) -> str:
    """What the prefixes of an endpoint's copies begin with."""
    return f"mnist/classifiers/endpoint={endpoint_name}/"


def folder(store: ObjectStore, endpoint_name: str, sha256: str) -> Folder:
    """Where an endpoint's copy of the classifier with that artifact is."""
    return Folder(store, f"{root(endpoint_name)}sha256={sha256}")


def copy_for_endpoint(classifier: PublishedClassifier, endpoint_name: str) -> PublishedClassifier:
    """Copies a classifier to its folder of an endpoint; nothing to do where it is there.

    Where an earlier date had the same artifact, the copy gets the later date and its evaluation.

    Raises:
        ObjectChangedError: The date was made again meanwhile.
    """
    source = classifier.files.manifest
    target = folder(classifier.files.folder.store, endpoint_name, classifier.sha256)
    copy = target.published()
    if copy is None or copy.manifest.partition != classifier.date:
        with Publication(target) as publication:
            for file in source.files:
                data = classifier.files.read(file.name, max_bytes=MAX_ARTIFACT_BYTES)
                publication.put(file.name, data)
            copy = publication.commit(
                partition=source.partition,
                rows=source.rows,
                code_version=source.code_version,
                inputs=source.inputs,
                extra=source.extra,
            )
    return PublishedClassifier(copy)


def find_live(
    store: ObjectStore, sagemaker: SageMakerResource, endpoint_name: str
) -> PublishedClassifier | None:
    """The classifier that the endpoint serves now; None where it serves nothing.

    Raises:
        LiveUnknownError: It serves something else, or nobody can tell what.
        SageMakerError: SageMaker could not be asked.
    """
    try:
        uris = sorted(sagemaker.live_artifacts(endpoint_name))
    except NotFoundError as error:
        raise LiveUnknownError(
            f"The endpoint config of {endpoint_name}, or a model of it, was deleted while it "
            f"serves. {_ADVICE}"
        ) from error
    if not uris:
        return None
    copy = Folder(store, uris[0].removeprefix(store.uri("")).removesuffix(f"/{ARTIFACT}"))
    ours = len(uris) == 1 and copy.prefix.startswith(root(endpoint_name))
    published = copy.published() if ours else None
    if published is None:
        raise LiveUnknownError(
            f"Endpoint {endpoint_name} serves {', '.join(uris)}, which is no classifier under "
            f"{store.uri(root(endpoint_name))}. {_ADVICE}"
        )
    return PublishedClassifier(published)
