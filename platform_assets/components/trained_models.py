"""The models of `SageMakerModel`: how they are judged, served and proved."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from platform_assets.checks import Verdict
from platform_assets.components.model_gate import Gate
from platform_assets.components.model_inputs import MAX_REQUEST_BYTES
from platform_assets.errors import PlatformError
from platform_assets.models.decisions import Decisions
from platform_assets.models.deployed_models import DeployedModels
from platform_assets.models.endpoint import EndpointJobs
from platform_assets.models.margin import Margin, is_within
from platform_assets.models.published import ARTIFACT, PublishedModel
from platform_assets.models.served_models import ServedModels
from resources.s3 import Folder, ObjectChangedError, ObjectStore, Publication
from resources.sagemaker import Invoke, ModelContainer, SmokeTest

CODE_VERSION = "1"
GATE = "good_enough"
# Of a copy: a request that its endpoint has to answer, and the request's content type.
_PROBE, _PROBE_TYPE = "probe", "probe-type"


class EmptyAnswerError(PlatformError):
    """An endpoint answered its probe with nothing."""


class TrainedModel(PublishedModel):
    """A model as its training job left it: a date points to it, an endpoint has a copy."""

    @property
    def sha256(self) -> str:
        """Of its artifact: its data version."""
        return self.files.manifest.extra["sha256"]

    @property
    def metric(self) -> str:
        """What its value is of: its gate's metric when it was made."""
        return self.files.manifest.extra["metric"]

    @property
    def value(self) -> float:
        """What its training job measured of its metric."""
        return self.files.manifest.extra["value"]

    def add_to(self, publication: Publication) -> None:
        """Have the store copy its artifact into another folder.

        Raises:
            ObjectChangedError: It was replaced meanwhile.
        """
        store, key = self.files.folder.store, self.files.manifest.extra["artifact"]
        stored = store.fingerprint(key)
        if stored.sha256 != self.sha256:
            raise ObjectChangedError(
                f"{store.uri(key)} is not the artifact that the model of {self.date} has: "
                "materialise this date again."
            )
        publication.copy(ARTIFACT, store, key, etag=stored.etag)


@dataclass
class ValueMargin(Margin[TrainedModel]):
    """Compares what the training jobs measured, each on its own channels."""

    gate: Gate

    def compare(self, candidate: TrainedModel, live: TrainedModel) -> Verdict:
        """By the values in their manifests, where both are of the gate's metric.

        Another metric in the gate is a decision of whoever changed it: the gate's limit alone
        holds until a model is live that has it, or else none would ever replace the live one.
        """
        gate = self.gate
        if gate.max_drop is None:
            return Verdict(True, "It is not compared with the live one.")
        if live.metric != gate.metric:
            return Verdict(
                True,
                f"It is not compared with the live one of {live.date}, which has {live.metric}.",
            )
        return Verdict(
            is_within(gate.drop(candidate.value, live.value), gate.max_drop),
            f"The live one of {live.date} has {live.value:.4g} and this one {candidate.value:.4g}; "
            f"at most {gate.max_drop:g} worse is allowed.",
            {"live_value": live.value, "live_date": live.date, "max_drop": gate.max_drop},
        )


@dataclass
class TrainedModels(ServedModels[TrainedModel]):
    """The models of one component.

    Attributes:
        prefix: Where they are.
        names: Of the jobs that a person presses.
        image: From a region to the image that serves.
        probe: From a date to a request that the endpoint has to answer, and its type.
    """

    store: ObjectStore
    pipeline: str
    judged: dg.AssetKey
    served: dg.AssetKey
    prefix: str
    names: EndpointJobs
    gate: Gate
    image: Callable[[str], str]
    probe: Callable[[str], tuple[bytes, str]] | None
    check = GATE

    def __post_init__(self) -> None:
        """What follows from where they are."""
        root = f"{self.prefix}/endpoint="
        self.dates, self.trained_prefix = f"{self.prefix}/date=", self.prefix
        self.deployed = DeployedModels(
            self.store, root, "version", self.names, TrainedModel, self._keep_probe
        )
        self.decisions = Decisions(self.store, f"{self.prefix}/decisions")

    def is_current(self, model: TrainedModel) -> bool:
        """Whether its value is of the metric that the gate asks for now."""
        return model.metric == self.gate.metric

    def passes(self, model: TrainedModel) -> bool:
        """Whether its value is good enough for the gate as it is now."""
        return self.gate.passes(model.value)

    def margin(self, live: TrainedModel | None) -> ValueMargin:
        """By what the training jobs measured."""
        return ValueMargin(live, self.gate)

    def container(self, region: str, model: TrainedModel) -> ModelContainer:
        """The pipeline's image serves it, be it a later one than the image that trained it."""
        return ModelContainer(image=self.image(region), model_data_url=model.artifact_uri)

    def proof(self, model: TrainedModel) -> SmokeTest | None:
        """It has to answer the probe that its copy was made with, or its date's."""
        if self.probe is None:
            return None
        files = model.files
        if any(file.name == _PROBE for file in files.manifest.files):
            body = files.read(_PROBE, max_bytes=MAX_REQUEST_BYTES)
            content_type = files.read(_PROBE_TYPE, max_bytes=MAX_REQUEST_BYTES).decode()
        else:
            body, content_type = self.probe(model.date)

        def require(invoke: Invoke) -> None:
            if not invoke(body, content_type=content_type).body.strip():
                raise EmptyAnswerError("The endpoint answered its probe with nothing.")

        return require

    def _keep_probe(self, model: TrainedModel, publication: Publication) -> None:
        if self.probe is not None:
            body, content_type = self.probe(model.date)
            publication.put(_PROBE, body)
            publication.put(_PROBE_TYPE, content_type.encode())

    def describe(self, model: TrainedModel) -> dict[str, Any]:
        """Its date and value."""
        return {
            "dagster/row_count": model.files.manifest.rows,
            "model_date": model.date,
            model.metric: model.value,
        }

    def judge(self, date: str, live: Callable[[], TrainedModel | None]) -> Verdict:
        """The gate as it is now: its limit, and the margin to what is live now.

        A person may have overridden the gate for this very version.

        Args:
            live: Asks what is live; what it raises is raised here.
        """
        published = Folder(self.store, f"{self.dates}{date}").require(self.judged.to_user_string())
        model = TrainedModel(published)
        if not self.is_current(model):
            return Verdict(
                False,
                f"It was measured by {model.metric}, and the gate asks for {self.gate.metric} "
                f"now: materialise {self.judged.to_user_string()} for {date} again.",
            )
        compared = self.margin(live()).judge(model)
        verdict = Verdict(
            self.passes(model) and compared.passed,
            f"{self.gate.metric} is {model.value:.4g}; the gate asks for {self.gate.say()}. "
            f"{compared.description}",
            {"value": model.value, **compared.metadata},
        )
        return self.decisions.overrule(verdict, model)
