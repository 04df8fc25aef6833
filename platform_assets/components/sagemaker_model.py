"""The component `SageMakerModel`: a model a day by a training job, a gate, and an endpoint.

How a model is trained once, judged, approved and served is in `platform_assets.models`, as for the
digits; what is special about these models, in `trained_models.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator, model_validator

from platform_assets.chain import ChainAsset, ChainCheck, ChainRun, make_together
from platform_assets.checks import check_now
from platform_assets.components.model_gate import Gate
from platform_assets.components.model_inputs import Algorithm, DatedInput, Finder, Input, asset_of
from platform_assets.components.pipeline_asset import SCHEDULE, PipelineAsset, asset_prefix
from platform_assets.components.trained_models import (
    CODE_VERSION,
    GATE,
    TrainedModel,
    TrainedModels,
)
from platform_assets.lineage import place
from platform_assets.models.deciding import build_endpoint_jobs
from platform_assets.models.endpoint import Approval, Endpoint, EndpointJobs
from platform_assets.models.serving import Serving
from platform_assets.models.training import Training, Work
from platform_assets.models.version_check import judge_version
from platform_assets.partitions import ONE_RUN
from platform_assets.reports import Materialization, Outcomes
from platform_assets.retries import attempt
from resources.s3 import ObjectStore
from resources.sagemaker import S3Channel, SageMakerResource, builtin_image_uri


class SageMakerModel(PipelineAsset):
    """A model a day, trained by SageMaker on that day's channels, and an endpoint that serves it.

    Equal channels and hyperparameters have one model, trained once. A model below its gate is never
    served. The endpoint serves the newest good one; it is proved by its probe before it counts as
    deployed, and what was live before comes back where it fails.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"sagemaker", "s3"})

    algorithm: Algorithm = Field(
        description="A built-in algorithm, or an image in ECR.", examples=["kmeans"]
    )
    channels: dict[str, Input] = Field(
        min_length=1,
        description="Channel → s3://bucket/prefix/ with {date}, or KEY:FILE of an asset.",
        examples=[{"train": "s3://my-bucket/shapes/{date}/train/"}],
    )
    content_type: str = Field(
        default="application/x-recordio-protobuf", description="Of all channels."
    )
    hyperparameters: dict[str, str | int | float | bool] = Field(
        default={}, description="Of the algorithm, by its own names."
    )
    instance_type: str = Field(default="ml.m5.large", description="What trains, and what serves.")
    metrics: dict[str, Finder] = Field(
        default={},
        description="Of an image: metric → the regular expression whose group is its value in the "
        "log. A built-in algorithm has its own.",
        examples=[{"accuracy": "accuracy=([0-9.]+)"}],
    )
    gate: Gate = Field(description="What a model has to reach: a metric, and at_least or at_most.")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,50}$",
        description="Name of the endpoint that serves it; none if left out.",
    )
    probe: Input | None = Field(
        default=None,
        description="A file with a request that the endpoint has to answer, named as a channel.",
    )
    probe_type: str = Field(default="text/csv", description="Content type of the probe.")
    approval: Approval = Field(
        default="none",
        description="required: a person approves each version before it goes live.",
    )

    @model_validator(mode="after")
    def _has_something_to_prove(self) -> "SageMakerModel":
        if self.endpoint is None and (self.probe or self.approval == "required"):
            raise ValueError(
                "a probe and an approval are for an endpoint: name one, or leave them out"
            )
        if self.metrics and self.gate.metric not in self.metrics:
            raise ValueError(f"the gate asks for {self.gate.metric}, which metrics does not have")
        return self

    @field_validator("metrics")
    @classmethod
    def _are_of_an_image(cls, metrics: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        # AWS refuses them of a built-in algorithm.
        if metrics and "/" not in info.data.get("algorithm", "/"):
            raise ValueError("a built-in algorithm has its own metrics: leave this out")
        return metrics

    @classmethod
    def example(cls, pipeline: str) -> dict[str, Any]:
        where = f"s3://my-bucket/{pipeline}/date={{date}}"
        return {
            "asset": f"{pipeline}/model",
            "algorithm": "kmeans",
            "channels": {"train": f"{where}/train/", "test": f"{where}/test/"},
            "hyperparameters": {"k": 10, "feature_dim": 64},
            "gate": {"metric": "test:msd", "at_most": 20, "max_drop": 2},
            "endpoint": pipeline.replace("_", "-"),
            "probe": f"{where}/probe.csv",
            "approval": "required",
            "schedule": "0 2 * * *",
        }

    def upstream(self) -> Sequence[dg.AssetKey]:
        """The assets that its channels are of."""
        names = sorted({name for text in self._inputs if (name := asset_of(text))})
        return [dg.AssetKey.from_user_string(name) for name in names]

    def sources(self) -> list[dg.AssetSpec]:
        """The channels that somebody else fills, as one source."""
        outside = [text for text in self._inputs if asset_of(text) is None]
        if not outside:
            return []
        description = "What the model is trained on, as somebody else puts it there."
        return [self.s3_source(", ".join(outside), description)]

    def chain_asset(self) -> ChainAsset:
        def judge(resources: Any, date: str) -> Any:
            models = self._models(resources.listings_store)

            def live() -> TrainedModel | None:
                name = self.endpoint
                return models.deployed.find_live(resources.sagemaker, name) if name else None

            return models.judge(date, live)

        return ChainAsset(
            spec=self.spec(
                description="A model a day, trained by SageMaker on that day's channels.",
                code_version=CODE_VERSION,
                metadata=self._jobs.metadata() if self.endpoint else {},
            ),
            make=make_together(self._train),
            resources=frozenset({"listings_store", "sagemaker"}),
            is_trained=True,
            checks=[
                ChainCheck(
                    GATE,
                    f"{self.gate.metric} is {self.gate.say()}, and no worse than the live model's "
                    "by more than max_drop; or a person has overridden the gate for it.",
                    judge,
                )
            ],
        )

    def endpoint_definitions(self, schedule: str) -> dg.Definitions:
        """The endpoint, its check, and the jobs by which people change it."""
        if self.endpoint is None:
            return dg.Definitions()
        pool = f"{self.endpoint.replace('-', '_')}_endpoint"
        resource_keys = {"listings_store", "sagemaker"}

        @dg.asset(
            key=self._served,
            deps=[self.asset_key],
            group_name=self.pipeline,
            kinds={"sagemaker"},
            owners=[self.owner],
            tags=place(self.pipeline, "served"),
            description=f"The SageMaker endpoint {self.endpoint}: serves the newest good model.",
            code_version=CODE_VERSION,
            metadata={SCHEDULE: schedule},
            backfill_policy=ONE_RUN,
            pool=pool,
            # As long as nothing was ever approved, there is none.
            output_required=False,
            required_resource_keys=resource_keys,
        )
        def endpoint(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            yield from self._serve(context).materialize(context)

        @dg.asset_check(
            asset=self._served,
            name="is_the_wanted_one",
            description="In service is the newest good model, and its version was proved.",
            required_resource_keys=resource_keys,
        )
        def is_the_wanted_one(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            return check_now(lambda: judge_version(self._serve(context)))

        jobs = build_endpoint_jobs(self._jobs, self._serve, resource_keys=resource_keys, pool=pool)
        return dg.Definitions(assets=[endpoint], asset_checks=[is_the_wanted_one], jobs=jobs)

    def _train(self, run: ChainRun, dates: Sequence[str]) -> Outcomes:
        """Have the models of dates, trained where there is none of the same."""
        store, sagemaker = run.resources.listings_store, run.resources.sagemaker
        training = Training(
            sagemaker,
            store,
            prefix=asset_prefix(self.asset),
            pipeline=self._slug.replace("_", "-"),
            code_version=CODE_VERSION,
            compute=sagemaker.compute.model_copy(update={"instance_type": self.instance_type}),
            log=run.context.log,
            run_id=run.context.run.run_id,
            describe=self.gate.judge,
        )

        def make(date: str) -> Materialization:
            return training.make_model(self._work(store, sagemaker, date))

        return {date: attempt(make, date) for date in dates}

    def _work(self, store: ObjectStore, sagemaker: SageMakerResource, date: str) -> Work:
        """The training of a date's channels."""
        inputs = {n: DatedInput.find(text, store, date) for n, text in self.channels.items()}
        hyperparameters = {name: str(value) for name, value in self.hyperparameters.items()}
        channels = [
            S3Channel(name=name, s3_uri=dated.uri, content_type=self.content_type)
            for name, dated in inputs.items()
        ]
        metrics = [{"Name": name, "Regex": regex} for name, regex in self.metrics.items()]
        return Work(
            date=date,
            identity={
                "code_version": CODE_VERSION,
                "algorithm": self.algorithm,
                "content_type": self.content_type,
                "instance_count": str(sagemaker.compute.instance_count),
                **{f"channel {name}": dated.digest for name, dated in inputs.items()},
                **{f"hyperparameter {name}": value for name, value in hyperparameters.items()},
                # What a job has not measured, no later look at it finds.
                **{f"metric {name}": regex for name, regex in self.metrics.items()},
            },
            inputs={dated.uri: dated.digest for dated in inputs.values()},
            # Of the artifact: what is in it, its algorithm alone knows.
            rows=1,
            image=self._image(sagemaker.region),
            hyperparameters=hyperparameters,
            channels=lambda _: nullcontext(channels),
            extra_request={"AlgorithmSpecification": {"MetricDefinitions": metrics}}
            if metrics
            else {},
        )

    def _serve(self, context: Any) -> Serving[TrainedModel]:
        store, sagemaker = context.resources.listings_store, context.resources.sagemaker
        endpoint = Endpoint(
            name=self.endpoint or "",
            instance_type=self.instance_type,
            approval=self.approval,
            security=sagemaker.security,
            image=self.algorithm if "/" in self.algorithm else "",
        )
        return Serving(self._models(store), endpoint, sagemaker, context.log)

    def _models(self, store: ObjectStore) -> TrainedModels:
        return TrainedModels(
            store,
            pipeline=self.pipeline,
            judged=self.asset_key,
            served=self._served,
            prefix=asset_prefix(self.asset),
            names=self._jobs,
            gate=self.gate,
            image=self._image,
            probe=partial(self._read_probe, store) if self.probe else None,
        )

    def _read_probe(self, store: ObjectStore, date: str) -> tuple[bytes, str]:
        return DatedInput.find(self.probe or "", store, date).read(store), self.probe_type

    def _image(self, region: str) -> str:
        """The image, which a built-in algorithm has in each region."""
        algorithm = self.algorithm
        return algorithm if "/" in algorithm else builtin_image_uri(algorithm, region)

    @property
    def _inputs(self) -> list[str]:
        return [*self.channels.values(), *filter(None, [self.probe])]

    @property
    def _served(self) -> dg.AssetKey:
        *folders, name = self.asset_key.path
        return dg.AssetKey([*folders, f"{name}_endpoint"])

    @property
    def _slug(self) -> str:
        return "_".join(self.asset_key.path)

    @property
    def _jobs(self) -> EndpointJobs:
        return EndpointJobs.of(self._slug)
