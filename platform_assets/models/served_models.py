"""What is special about a pipeline of models of which an endpoint serves the newest good one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic

import dagster as dg

from platform_assets.models.decisions import Decisions
from platform_assets.models.deployed_models import DeployedModels, M
from platform_assets.models.endpoint import Endpoint, EndpointJobs
from platform_assets.models.margin import Margin
from resources.s3 import DATE, ObjectStore, list_published
from resources.sagemaker import Log, ModelContainer, SageMakerResource, SmokeTest


class ServedModels(ABC, Generic[M]):
    """The models that one asset makes, and the endpoint that serves one of them.

    Attributes:
        store: Where everything is.
        pipeline: Its name: a tag of what is made in SageMaker.
        judged: The asset of the models, which its gate judges.
        check: The name of the gate's check.
        served: The asset of the endpoint.
        dates: What the prefixes of all dates' models begin with.
        trained_prefix: Where trained models are, as `training.Training` publishes them.
        deployed: The copies that the endpoint serves, or can be rolled back to.
        decisions: Of people.
    """

    store: ObjectStore
    pipeline: str
    judged: dg.AssetKey
    check: str
    served: dg.AssetKey
    dates: str
    trained_prefix: str
    deployed: DeployedModels[M]
    decisions: Decisions

    @property
    def jobs(self) -> EndpointJobs:
        """What a person presses."""
        return self.deployed.jobs

    @abstractmethod
    def is_current(self, model: M) -> bool:
        """Whether a model takes what is sent to it today."""

    def passes(self, model: M) -> bool:
        """Whether a model is above its gate's floor."""
        return model.passed

    @abstractmethod
    def margin(self, live: M | None) -> Margin[M]:
        """The comparison with what is live."""

    @abstractmethod
    def container(self, region: str, model: M) -> ModelContainer:
        """What SageMaker serves it with."""

    @abstractmethod
    def proof(self, model: M) -> SmokeTest | None:
        """What the endpoint has to answer before a version counts as deployed; None for nothing."""

    @abstractmethod
    def describe(self, model: M) -> dict[str, Any]:
        """What a materialisation of the endpoint says of the model that it serves."""

    def show(self, endpoint: Endpoint, sagemaker: SageMakerResource, model: M) -> dict[str, Any]:
        """Something to look at, on a materialisation of the endpoint."""
        del endpoint, sagemaker, model
        return {}

    def candidates(self, *, log: Log) -> Iterator[M]:
        """The models that take what is sent today, newest date first, be they good or not."""
        folders = [
            folder for folder, _ in list_published(self.store, self.dates, DATE, warn=log.warning)
        ]
        for folder in sorted(folders, key=lambda folder: folder.prefix, reverse=True):
            files = folder.published()
            if files is not None and self.is_current(model := self.deployed.read(files)):
                yield model
