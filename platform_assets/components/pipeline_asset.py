"""What all components share: a name, an owner, a schedule, and one step for those of a file."""

import importlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
from pydantic import BaseModel, Field, PrivateAttr

from platform_assets.chain import ChainAsset, build_chain
from platform_assets.components.fields import AssetName, Cron
from platform_assets.errors import PlatformError
from platform_assets.lineage import Tier, place, specs_of
from platform_assets.repairs import build_repair_job
from resources.s3 import Folder, ObjectStore

SCHEDULE = "pipeline/schedule"
"""Metadata of a pipeline's assets: when it is made, as cron; empty where it has no schedule."""


_LATE_AFTER_HOURS = 6
OWN_FOLDERS = {
    "airbnb/snapshot": "airbnb/listings",
    "airbnb/price_changes": "airbnb/price_changes",
    "airbnb/neighbourhood_summary": "airbnb/neighbourhood_summary",
}
"""The platform's own assets that pipelines can be made of, with where their dates stand."""


class PipelineError(PlatformError):
    """A file of a pipeline cannot be loaded; the message begins with the file and the line."""


class ExampleScaffolder(dg.Scaffolder):
    """`dg scaffold defs` writes a filled-in example, to be changed."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Dagster's hook: write the file."""
        module, _, name = request.type_name.rpartition(".")
        component = getattr(importlib.import_module(module), name)
        dg.scaffold_component(request, component.example(request.target_path.name))


@dg.scaffold_with(ExampleScaffolder)
class PipelineAsset(dg.Component, dg.Model):
    """An asset that a file `pipelines/NAME/defs.yaml` describes; NAME is the pipeline.

    A subclass has further fields, `chain_asset`, which says how a date of it is made, and
    `example`. The class is its own model, so that a wrong field is reported with file and line.
    """

    kinds: ClassVar[frozenset[str]] = frozenset()
    tier: ClassVar[Tier] = "derived"

    asset: AssetName = Field(
        description="The asset's key; its files stand under pipelines/KEY/date=YYYY-MM-DD.",
        examples=["lisbon/snapshot"],
    )
    description: str = Field(default="", description="What it is, for whoever looks at it.")
    owner: str = Field(
        default="team:data-engineering",
        pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+)$",
        description="Whose it is: team:NAME, or a mail address.",
    )
    schedule: Cron | None = Field(
        default=None,
        description="When the day that has ended is made, with all of the file: cron, in UTC.",
        examples=["30 1 * * *"],
    )

    _folder: Path | None = PrivateAttr(default=None)
    _lines: Any = PrivateAttr(default=None)

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Dagster's hook: the component's fields."""
        return cls

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Dagster's hook: the component with its fields, which remembers where it stands.

        Raises:
            PipelineError: Nothing is filled in.
        """
        lines = context.resolution_context.source_position_tree
        if not isinstance(attributes, cls):
            raise PipelineError(
                f"{lines.position if lines else context.path}: {cls.__name__} has no attributes: "
                f"fill in {', '.join(n for n, f in cls.model_fields.items() if f.is_required())}."
            )
        attributes._folder, attributes._lines = context.path, lines
        return attributes

    @classmethod
    @abstractmethod
    def example(cls, pipeline: str) -> dict[str, Any]:
        """Filled-in fields, for `dg scaffold`."""

    @property
    def asset_key(self) -> dg.AssetKey:
        """The asset's key."""
        return dg.AssetKey.from_user_string(self.asset)

    @property
    def pipeline(self) -> str:
        """The name of the pipeline: of the folder that the file is in."""
        return self._folder.name if self._folder else self.asset_key.path[0]

    @property
    def source_key(self) -> dg.AssetKey:
        """The key of what is outside, where it is made of such."""
        *folders, name = self.asset_key.path
        return dg.AssetKey([*folders, f"{name}_source"])

    def folder(self, store: ObjectStore, date: str) -> Folder:
        """Where a date of it is published."""
        return dated_folder(store, self.asset, date)

    def where(self, field: str = "asset") -> str:
        """`FILE:LINE` of a field, or of what is nearest to it."""
        if self._lines is None:
            return self.pipeline
        position, _ = self._lines.lookup_closest_and_path(["attributes", field], None)
        return str(position)

    def upstream(self) -> Sequence[dg.AssetKey]:
        """The keys of what it is made of."""
        return ()

    def sources(self) -> Sequence[dg.AssetSpec | dg.AssetsDefinition]:
        """What it is made of that somebody else fills."""
        return ()

    def s3_source(self, uri: str, description: str) -> dg.AssetSpec:
        """What somebody else puts into S3, as an asset of the pipeline."""
        return dg.AssetSpec(
            self.source_key,
            group_name=self.pipeline,
            kinds={"s3"},
            owners=[self.owner],
            tags=place(self.pipeline, "source"),
            description=description,
            metadata={"dagster/uri": uri},
        )

    def resources(self) -> dict[str, Any]:
        """Resources of its own, by their keys."""
        return {}

    @abstractmethod
    def chain_asset(self) -> ChainAsset:
        """How it is made and checked."""

    def endpoint_definitions(self, schedule: str) -> dg.Definitions:  # noqa: ARG002 (a hook)
        """The endpoint that serves it, and the jobs that change this: what is of no partition.

        Args:
            schedule: Of the pipeline: `SCHEDULE` among the metadata of its assets.
        """
        return dg.Definitions()

    def spec(self, *, description: str, code_version: str, **more: Any) -> dg.AssetSpec:
        """The asset's spec, with all that is the same in each component."""
        return dg.AssetSpec(
            self.asset_key,
            deps=[*self.sources(), *self.upstream()],
            group_name=self.pipeline,
            kinds=set(self.kinds),
            owners=[self.owner],
            tags=place(self.pipeline, self.tier),
            description=self.description or description,
            code_version=code_version,
            **more,
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Dagster's hook: the first component of a file gives the step of all of it.

        One step, so that a date that is refused drops out alone.

        Raises:
            PipelineError: The components of the file do not fit together.
        """
        all_components = context.component_tree.get_all_components(of_type=PipelineAsset)
        components = [
            component for component in all_components if component._folder == self._folder
        ] or [self]
        if components[0] is not self:
            return dg.Definitions()
        return build_pipeline(components)


def asset_prefix(asset: str) -> str:
    """Where an asset is published: pipelines' apart from the platform's own chains."""
    return OWN_FOLDERS.get(asset, f"pipelines/{asset}")


def dated_folder(store: ObjectStore, asset: str, date: str) -> Folder:
    """Where a date of an asset is published."""
    return Folder(store, f"{asset_prefix(asset)}/date={date}")


def build_pipeline(components: Sequence[PipelineAsset]) -> dg.Definitions:
    """The step of a pipeline, its sources and its resources.

    Raises:
        PipelineError: They do not fit together.
    """
    name, schedule = components[0].pipeline, schedule_of(components)
    pool = f"pipeline_{name}"
    assets = [component.chain_asset() for component in in_order(components)]
    in_pipeline = [
        replace(
            asset,
            spec=asset.spec.replace_attributes(
                freshness_policy=due_after(schedule) if schedule else None
            ).merge_attributes(metadata={SCHEDULE: schedule}),
        )
        for asset in assets
    ]
    with_endpoints = [component.endpoint_definitions(schedule) for component in components]
    endpoints = [spec.key for defs in with_endpoints for spec in specs_of(defs.assets or [])]
    chain = dg.Definitions(
        assets=[
            build_chain(f"{name}_pipeline", in_pipeline, pool=pool),
            *(source for component in components for source in component.sources()),
        ],
        jobs=[
            build_repair_job(
                repair_of(name),
                in_pipeline,
                of_what=f"the pipeline {name}",
                served_by=endpoints,
                pool=pool,
            )
        ],
        resources={
            key: value for component in components for key, value in component.resources().items()
        },
    )
    return dg.Definitions.merge(chain, *with_endpoints)


def repair_of(pipeline: str) -> str:
    """The name of the job that repairs a pipeline's dates."""
    return f"repair_{pipeline}"


def schedule_of(components: Sequence[PipelineAsset]) -> str:
    """The one schedule of a pipeline; empty where it has none.

    Raises:
        PipelineError: There are two.
    """
    scheduled = [(component.schedule, component) for component in components if component.schedule]
    if not scheduled:
        return ""
    (schedule, first), *others = scheduled
    for another, component in others:
        if another != schedule:
            raise PipelineError(
                f"{component.where('schedule')}: the pipeline is made at {schedule!r} already "
                f"({first.where('schedule')}): leave one of the schedules out, or put this asset "
                "into a file of its own."
            )
    return schedule


def time_of(schedule: str) -> tuple[int, int]:
    """Hour and minute of a schedule."""
    minute, hour, *_ = schedule.split()
    return int(hour), int(minute)


def due_after(schedule: str) -> dg.FreshnessPolicy:
    """Late in the UI six hours after the schedule, where nothing was made since."""
    hour, minute = time_of(schedule)
    return dg.FreshnessPolicy.cron(
        deadline_cron=f"{minute} {(hour + _LATE_AFTER_HOURS) % 24} * * *",
        lower_bound_delta=timedelta(hours=_LATE_AFTER_HOURS),
        timezone="UTC",
    )


def in_order(components: Sequence[PipelineAsset]) -> list[PipelineAsset]:
    """Each component after those of the same file that it is made of.

    Raises:
        PipelineError: They are made of each other.
    """
    by_key = {component.asset_key: component for component in components}
    sorter = TopologicalSorter(
        {key: [k for k in component.upstream() if k in by_key] for key, component in by_key.items()}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        circle = [component for key, component in by_key.items() if key in error.args[1]]
        names = " and ".join(component.asset for component in circle)
        raise PipelineError(
            f"{circle[0].where('inputs')}: {names} are made of each other: take one of the inputs "
            "out."
        ) from None
    ordered: list[PipelineAsset] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        # In the order of the file, where nothing else decides.
        ordered += [component for key, component in by_key.items() if key in ready]
        sorter.done(*ready)
    return ordered
