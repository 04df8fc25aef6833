"""Classifiers as endpoints serve them: copied to where nothing is ever overwritten.

A date's own place changes when the date is made again, gate passed or not; what SageMaker loads, at
any later restart, must not. Each endpoint has copies of its own, so that they can go with it.
"""

from platform_assets.errors import PlatformError
from platform_assets.mnist import classifier
from platform_assets.mnist.classifier import Judged
from resources.s3 import Folder, ObjectStore, Publication, file_key, read_file, read_manifest
from resources.sagemaker import NotFoundError, SageMakerResource

_ADVICE = (
    "Nobody can tell whether another classifier is worse. Roll the endpoint back (job "
    "rollback_endpoint) or tear it down (job teardown_endpoint), then run again."
)


class LiveUnknownError(PlatformError):
    """The endpoint serves something that is no classifier of ours, as far as one can tell."""


def root(endpoint_name: str) -> str:
    """What the places of an endpoint's classifiers begin with."""
    return f"mnist/classifiers/endpoint={endpoint_name}/"


def prefix(endpoint_name: str, sha256: str) -> str:
    """Where an endpoint's classifier with that artifact stands."""
    return f"{root(endpoint_name)}sha256={sha256}"


def artifact_uri(store: ObjectStore, frozen: Judged) -> str:
    """What SageMaker loads."""
    return store.uri(file_key(frozen.prefix, classifier.ARTIFACT))


def freeze(store: ObjectStore, endpoint_name: str, judged: Judged) -> Judged:
    """Copy a classifier to its place for an endpoint; nothing to do where it stands there.

    Where an earlier date had the same artifact, the date and its marks are brought up to date.

    Raises:
        ObjectChangedError: The date was made again meanwhile.
    """
    at = prefix(endpoint_name, judged.sha256)
    manifest = read_manifest(store, at)
    if manifest is None or manifest.partition != judged.date:
        with Publication(Folder(store, at)) as publication:
            for file in judged.manifest.files:
                data = read_file(
                    store, judged.prefix, file, max_bytes=classifier.MAX_ARTIFACT_BYTES
                )
                publication.put(file.name, data)
            manifest = publication.commit(
                partition=judged.date,
                rows=judged.manifest.rows,
                code_version=judged.manifest.code_version,
                inputs=judged.manifest.inputs,
                extra=judged.manifest.extra,
            ).manifest
    return Judged(at, manifest)


def find_live(
    store: ObjectStore, sagemaker: SageMakerResource, endpoint_name: str
) -> Judged | None:
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
    at = uris[0].removeprefix(store.uri("")).removesuffix(f"/{classifier.ARTIFACT}")
    ours = len(uris) == 1 and at.startswith(root(endpoint_name))
    manifest = read_manifest(store, at) if ours else None
    if manifest is None:
        raise LiveUnknownError(
            f"Endpoint {endpoint_name} serves {', '.join(uris)}, which is no classifier under "
            f"{store.uri(root(endpoint_name))}. {_ADVICE}"
        )
    return Judged(at, manifest)
