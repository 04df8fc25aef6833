"""The models of `SageMakerModel`: what they are trained on, how they are judged and served."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from formats import s3_uri
from platform_assets.checks import Verdict
from platform_assets.errors import PlatformError
from platform_assets.models.copies import Copies
from platform_assets.models.decisions import Decisions
from platform_assets.models.endpoint import Jobs
from platform_assets.models.lines import Line
from platform_assets.models.margin import Margin, is_within
from platform_assets.models.published import ARTIFACT, PublishedModel
from resources.s3 import Folder, NotPublishedError, ObjectChangedError, ObjectStore, Publication
from resources.sagemaker import Invoke, ModelContainer, SmokeTest

CODE_VERSION = "1"
GATE = "good_enough"


class MetricMissingError(PlatformError):
    """A training job did not measure what its gate asks for."""


class EmptyAnswerError(PlatformError):
    """An endpoint answered its probe with nothing."""


@dataclass(frozen=True)
class Limits:
    """What a model has to reach.

    Attributes:
        metric: Of the training job, `test:msd` for instance.
        at_least: The least value; None where it has to be small.
        at_most: The largest value; None where it has to be large.
        max_drop: By how much it may be worse than the live model's; None for by anything.
    """

    metric: str
    at_least: float | None
    at_most: float | None
    max_drop: float | None

    def describe(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What a model's manifest says of its gate.

        Args:
            job: A training job's metadata.

        Raises:
            MetricMissingError: The job did not measure the metric.
        """
        value = job.get(f"metric/{self.metric}")
        if not isinstance(value, (int, float)):
            known = sorted(
                name.removeprefix("metric/") for name in job if name.startswith("metric/")
            )
            raise MetricMissingError(
                f"The training job measured no {self.metric}, only {', '.join(known) or 'nothing'}:"
                " name one of these as the gate's metric, or give the channel that it is measured "
                "on (test, for k-means)."
            )
        passed = value <= self.at_most if self.at_most is not None else value >= self._least
        return {"value": value, "passed": passed}

    def drop(self, own: float, live: float) -> float:
        """By how much a value is worse than another."""
        return own - live if self.at_most is not None else live - own

    def say(self) -> str:
        """What is asked for."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self._least:g}"

    @property
    def _least(self) -> float:
        return self.at_least if self.at_least is not None else float("-inf")


class TrainedModel(PublishedModel):
    """A model as its training job left it: a date points to it, an endpoint has a copy."""

    @property
    def sha256(self) -> str:
        """Of its artifact: its data version."""
        return self.files.manifest.extra["sha256"]

    @property
    def value(self) -> float:
        """What its training job measured for its gate."""
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


class ValueMargin(Margin[TrainedModel]):
    """Compares what the training jobs measured, each on its own channels."""

    def __init__(self, live: TrainedModel | None, limits: Limits) -> None:
        super().__init__(live)
        self._limits = limits

    def compare(self, candidate: TrainedModel, live: TrainedModel) -> Verdict:
        """By the values in their manifests."""
        limits = self._limits
        if limits.max_drop is None:
            return Verdict(True, "It is not compared with the live one.")
        return Verdict(
            is_within(limits.drop(candidate.value, live.value), limits.max_drop),
            f"The live one of {live.date} has {live.value:.4g} and this one {candidate.value:.4g}; "
            f"at most {limits.max_drop:g} worse is allowed.",
            {"live_value": live.value, "live_date": live.date, "max_drop": limits.max_drop},
        )


@dataclass(frozen=True)
class Reference:
    """Where a date's input is: `s3://bucket/prefix`, in which {date} stands for the date, or what
    an asset of a pipeline has published, `shapes/images:train` for instance.

    Attributes:
        text: As it is written.
    """

    text: str

    @property
    def asset(self) -> dg.AssetKey | None:
        """The asset that makes it; None where somebody else does."""
        if self.text.startswith("s3://"):
            return None
        return dg.AssetKey(self.text.partition(":")[0].split("/"))

    def find(
        self, store: ObjectStore, date: str, folder: Callable[[dg.AssetKey], Folder]
    ) -> tuple[str, dict[str, str]]:
        """Where it is on a date, and what is there: name below that → digest or ETag.

        Raises:
            NotPublishedError: Nothing is there.
        """
        if self.asset is not None:
            published = folder(self.asset).require(self.asset.to_user_string())
            path = self.text.partition(":")[2]
            files = [file for file in published.manifest.files if file.name.startswith(path)]
            uri = published.folder.file_uri(path)
            contents = {file.name.removeprefix(path): file.sha256 for file in files}
        else:
            uri = self.text.replace("{date}", date)
            bucket, prefix = s3_uri.parse(uri)
            infos = store.sibling(bucket).list(prefix)
            contents = {info.key.removeprefix(prefix): info.etag for info in infos}
        if not contents:
            raise NotPublishedError(
                f"There is nothing under {uri}, which the model of {date} is to be made of: put it "
                "there, or correct the channel."
            )
        return uri, contents


class TrainedModels(Line[TrainedModel]):
    """The models of one component."""

    gate = GATE

    def __init__(
        self,
        store: ObjectStore,
        *,
        pipeline: str,
        key: dg.AssetKey,
        served: dg.AssetKey,
        prefix: str,
        jobs: Jobs,
        limits: Limits,
        image: Callable[[str], str],
        probe: Callable[[str], tuple[bytes, str]] | None,
    ) -> None:
        """Where and what they are.

        Args:
            store: Where everything is.
            pipeline: Its name.
            key: Of the asset of the models.
            served: Of the asset of the endpoint.
            prefix: Where the models are.
            jobs: What a person presses.
            limits: Of the gate.
            image: From a region to the image that serves.
            probe: From a date to a request that the endpoint has to answer, and its type.
        """
        self.store, self.pipeline, self.judged, self.served = store, pipeline, key, served
        self.dates, self.models = f"{prefix}/date=", prefix
        self.copies = Copies(store, f"{prefix}/endpoint=", "version", jobs, TrainedModel)
        self.decisions = Decisions(store, f"{prefix}/decisions")
        self._limits, self._image, self._probe = limits, image, probe

    def is_current(self, model: TrainedModel) -> bool:
        """Whether it was judged by the gate as it is now: its metric at least."""
        return model.files.manifest.extra.get("metric") == self._limits.metric

    def margin(self, live: TrainedModel | None) -> ValueMargin:
        """By what the training jobs measured."""
        return ValueMargin(live, self._limits)

    def container(self, region: str, model: TrainedModel) -> ModelContainer:
        """The image that trained it serves it."""
        return ModelContainer(image=self._image(region), model_data_url=model.artifact_uri)

    def proof(self, model: TrainedModel) -> SmokeTest | None:
        """It has to answer the probe."""
        if self._probe is None:
            return None
        body, content_type = self._probe(model.date)

        def require(invoke: Invoke) -> None:
            if not invoke(body, content_type=content_type).body.strip():
                raise EmptyAnswerError("The endpoint answered its probe with nothing.")

        return require

    def describe(self, model: TrainedModel) -> dict[str, Any]:
        """Its date and value."""
        return {
            "dagster/row_count": model.files.manifest.rows,
            "model_date": model.date,
            self._limits.metric: model.value,
        }

    def judge(self, date: str, live: Callable[[], TrainedModel | None]) -> Verdict:
        """The gate: its limit, as it was measured, and the margin to what is live now.

        A person may have overridden the gate for this very version.

        Args:
            date: Of the model.
            live: Asks what is live; what it raises is raised here.
        """
        published = Folder(self.store, f"{self.dates}{date}").require(self.judged.to_user_string())
        model = TrainedModel(published)
        compared = self.margin(live()).judge(model)
        verdict = Verdict(
            model.passed and compared.passed,
            f"{self._limits.metric} is {model.value:.4g}; the gate asks for {self._limits.say()}. "
            f"{compared.description}",
            {"value": model.value, **compared.metadata},
        )
        return self.decisions.overrule(verdict, model)
