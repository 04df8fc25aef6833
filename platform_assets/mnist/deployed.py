"""The classifiers that an endpoint serves or can be rolled back to, and what people decided."""

from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.models.decisions import Decisions
from platform_assets.models.deployed_models import DeployedModels
from platform_assets.models.endpoint import EndpointJobs
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource

JOBS = EndpointJobs(
    approve="approve_classifier",
    reject="reject_classifier",
    override="override_gate",
    roll_back="rollback_endpoint",
    tear_down="teardown_endpoint",
)


def classifiers(store: ObjectStore) -> DeployedModels[PublishedClassifier]:
    """The copies of classifiers, by endpoint."""
    return DeployedModels(
        store,
        root="mnist/classifiers/endpoint=",
        noun="classifier",
        jobs=JOBS,
        read=PublishedClassifier,
    )


def find_live(
    store: ObjectStore, sagemaker: SageMakerResource, endpoint_name: str
) -> PublishedClassifier | None:
    """The classifier that the endpoint serves now, as `DeployedModels.find_live`."""
    return classifiers(store).find_live(sagemaker, endpoint_name)


def decisions(store: ObjectStore) -> Decisions:
    """What people decided over classifiers."""
    return Decisions(store, "mnist/decisions")
