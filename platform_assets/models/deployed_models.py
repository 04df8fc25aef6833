"""The models that an endpoint serves or can be rolled back to.

An endpoint serves copies of models, in folders that are never overwritten: the folder of a date
changes when the date is made again, whether or not it passes its gate, and SageMaker loads the
artifact again at any later restart. Each endpoint has copies of its own, removed with its versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from platform_assets.errors import PlatformError
from platform_assets.models.endpoint import EndpointJobs
from platform_assets.models.published import ARTIFACT, PublishedModel
from resources.s3 import Folder, ObjectStore, Publication, Published
from resources.sagemaker import NotFoundError, SageMakerResource

M = TypeVar("M", bound=PublishedModel)


class LiveUnknownError(PlatformError):
    """The endpoint serves something that is not one of the platform's models."""


@dataclass(frozen=True)
class DeployedModels(Generic[M]):
    """Where the copies of a pipeline's models are.

    Attributes:
        root: What their prefixes begin with, `mnist/classifiers/endpoint=` for instance.
        noun: What such a model is called: "classifier".
        read: From what is published to a model.
        add_proof: Puts beside a copy what its endpoint is to be proved with, where a rollback needs
            it after the date is gone.
    """

    store: ObjectStore
    root: str
    noun: str
    jobs: EndpointJobs
    read: Callable[[Published], M]
    add_proof: Callable[[M, Publication], None] = lambda _model, _publication: None

    def root_of(self, endpoint_name: str) -> str:
        """What the prefixes of an endpoint's copies begin with."""
        return f"{self.root}{endpoint_name}/"

    def folder(self, endpoint_name: str, sha256: str) -> Folder:
        """Where an endpoint's copy of the model with that artifact is."""
        return Folder(self.store, f"{self.root_of(endpoint_name)}sha256={sha256}")

    def copy(self, model: M, endpoint_name: str) -> M:
        """Copies a model to its folder of an endpoint; nothing to do where it is there.

        Where an earlier date had the same artifact, the copy gets the later date and its figures.

        Raises:
            ObjectChangedError: The date was made again meanwhile.
            NotPublishedError: The date has nothing that it could be proved with.
        """
        source = model.files.manifest
        target = self.folder(endpoint_name, model.sha256)
        copy = target.published()
        if copy is None or copy.manifest.partition != model.date:
            with Publication(target) as publication:
                model.add_to(publication)
                self.add_proof(model, publication)
                copy = publication.commit(
                    partition=source.partition,
                    rows=source.rows,
                    code_version=source.code_version,
                    inputs=source.inputs,
                    extra=source.extra,
                )
        return self.read(copy)

    def find_live(self, sagemaker: SageMakerResource, endpoint_name: str) -> M | None:
        """The model that the endpoint serves now; None where it serves nothing.

        Raises:
            LiveUnknownError: It serves something else, or nobody can tell what.
            SageMakerError: SageMaker could not be asked.
        """
        try:
            uris = sorted(sagemaker.live_artifacts(endpoint_name))
        except NotFoundError as error:
            raise LiveUnknownError(
                f"The endpoint config of {endpoint_name}, or a model of it, was deleted while it "
                f"serves. {self._advice}"
            ) from error
        if not uris:
            return None
        copy = Folder(
            self.store, uris[0].removeprefix(self.store.uri("")).removesuffix(f"/{ARTIFACT}")
        )
        root = self.root_of(endpoint_name)
        ours = len(uris) == 1 and copy.prefix.startswith(root)
        published = copy.published() if ours else None
        if published is None:
            raise LiveUnknownError(
                f"Endpoint {endpoint_name} serves {', '.join(uris)}, which is no {self.noun} under "
                f"{self.store.uri(root)}. {self._advice}"
            )
        return self.read(published)

    @property
    def _advice(self) -> str:
        return (
            f"Nobody can tell whether another {self.noun} is worse. Roll the endpoint back (job "
            f"{self.jobs.roll_back}) or tear it down (job {self.jobs.tear_down}), then run again."
        )
