"""The component `ContainerTransform`: files made of other assets by a module in a container."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator

from formats.columns import Column
from platform_assets.chain import ChainAsset, ChainCheck, ChainRun, make_together
from platform_assets.checks import Verdict
from platform_assets.components.fields import AssetNames, FileName, ModuleName, OneOrMore
from platform_assets.components.pipeline_asset import PipelineAsset, dated_folder
from platform_assets.module_runs import NotMadeError, NotMadeNowError, refusal_of, run_module
from platform_assets.reports import Materialization, Outcome, table_schema
from platform_assets.retries import attempt
from resources.docker import DockerResource
from resources.s3 import Folder, ObjectStore, Publication, Published, StoreError


class ContainerTransform(PipelineAsset):
    """Files of a day, made of other assets' of that day by a Python module of your own.

    It runs in a container of its image where Docker is there, and as a child process where it is
    not or there is no image: once for all dates of a run that are not there already. What it gets
    and reports is in pipelines/README.md. Its files are published, with a manifest, once it has
    reported the date.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"docker", "s3"})

    inputs: Annotated[AssetNames, OneOrMore] = Field(
        description="Keys of what it is made of.", examples=[["lisbon/snapshot"]]
    )
    module: ModuleName = Field(
        description="What is run, as by python -m: it is in the image, or can be imported here."
    )
    outputs: Annotated[list[FileName], Field(min_length=1), OneOrMore] = Field(
        description="Names of the files that it writes for each date.", examples=[["levels.csv"]]
    )
    image: str = Field(
        default="", description="The image whose Python has the module; or leave it out."
    )
    engine: Literal["auto", "docker", "process"] = Field(
        default="auto",
        description="docker: in a container, or fail. process: as a child process. auto: in a "
        "container where there is an image, and an engine that answers and has it.",
    )
    memory_mb: int = Field(default=1024, ge=64, description="Its memory limit in MiB.")
    cpus: float = Field(default=2, gt=0, description="Its limit of processors.")
    deadline_seconds: float = Field(default=3600, gt=0, description="Its time limit.")
    code_version: str = Field(
        default="1", description="Another one has every date made anew: change it with the module."
    )

    @field_validator("engine")
    @classmethod
    def _has_an_image(cls, engine: str, info: ValidationInfo) -> str:
        if engine == "docker" and not info.data.get("image"):
            raise ValueError("a container needs an image: name it, or leave engine out")
        return engine

    @classmethod
    def example(cls, pipeline: str) -> dict[str, Any]:
        return {
            "asset": f"{pipeline}/summary",
            "inputs": ["airbnb/snapshot"],
            "module": f"{pipeline}_summary",
            "outputs": ["summary.csv"],
            "schedule": "30 1 * * *",
        }

    def upstream(self) -> Sequence[dg.AssetKey]:
        return [dg.AssetKey.from_user_string(name) for name in self.inputs]

    def chain_asset(self) -> ChainAsset:
        return ChainAsset(
            spec=self.spec(
                description=f"Made of {' and '.join(self.inputs)} by the module {self.module}.",
                code_version=self.code_version,
            ),
            make=make_together(self.make_dates),
            resources=frozenset({"docker", "listings_store"}),
            checks=[
                ChainCheck(
                    "intact",
                    "The files have the bytes that the manifest names.",
                    lambda resources, date: judge_files(
                        self.folder(resources.listings_store, date), self.asset
                    ),
                )
            ],
        )

    def make_dates(self, run: ChainRun, dates: Sequence[str]) -> dict[str, Outcome]:
        """Run the module once for the dates that are not made of their inputs already."""
        store: ObjectStore = run.resources.listings_store
        inputs = {date: attempt(self._inputs, store, date) for date in dates}
        outcomes: dict[str, Outcome] = {}
        wanted: dict[str, Mapping[str, Published]] = {}
        for date, published in inputs.items():
            if isinstance(published, Exception):
                outcomes[date] = published
                continue
            earlier = self.folder(store, date).published_if_current(
                versions_of(published), self.code_version
            )
            if earlier and {file.name for file in earlier.manifest.files} == set(self.outputs):
                outcomes[date] = self._report(earlier, {}, unchanged=True)
            else:
                wanted[date] = published
        return outcomes | (self._run(run, store, wanted) if wanted else {})

    def _inputs(self, store: ObjectStore, date: str) -> dict[str, Published]:
        return {name: dated_folder(store, name, date).require(name) for name in self.inputs}

    def _run(
        self, run: ChainRun, store: ObjectStore, wanted: Mapping[str, Mapping[str, Published]]
    ) -> dict[str, Outcome]:
        run_id = run.context.run.run_id
        request = {
            "bucket": store.bucket,
            "kms_key_id": store.kms_key_id or "",
            "dates": [
                {
                    "date": date,
                    "inputs": {name: _describe(published) for name, published in inputs.items()},
                    "outputs": {name: self._staged(run_id, date, name) for name in self.outputs},
                }
                for date, inputs in wanted.items()
            ],
        }
        self._remove_staged(run, store)
        try:
            docker = self._within_limits(run.resources.docker)
            report = run_module(
                run,
                lambda: docker.run(run.context, self.module, extras=request),
                name=self.module,
            )
            return {
                date: attempt(
                    self._publish,
                    store,
                    run_id,
                    date,
                    inputs,
                    report.by_date[date],
                    report.run_metadata,
                )
                if date in report.by_date
                else report.unreported
                for date, inputs in wanted.items()
            }
        finally:
            self._remove_staged(run, store)

    def _staged(self, *names: str) -> str:
        """The key of a file before it is published: where no asset's files are.

        By its run: a container that outlived an earlier one may still write its own.
        """
        return "/".join(["pipelines/.staged", ".".join(self.asset_key.path), *names])

    def _remove_staged(self, run: ChainRun, store: ObjectStore) -> None:
        """Remove what this and earlier runs have left; the next run does it where this fails."""
        prefix = self._staged("")
        try:
            store.delete_prefix(prefix)
        except StoreError as error:
            run.context.log.warning(f"What is under {store.uri(prefix)} could not go: {error}")

    def _within_limits(self, docker: DockerResource) -> DockerResource:
        """The platform's resource with the image and the limits of this."""
        engine = docker.mode if self.image else "process"
        return docker.model_copy(
            update={
                "mode": engine if self.engine == "auto" else self.engine,
                "image": self.image,
                "memory_mb": self.memory_mb,
                "cpus": self.cpus,
                "deadline_seconds": self.deadline_seconds,
            }
        )

    def _publish(
        self,
        store: ObjectStore,
        run_id: str,
        date: str,
        inputs: Mapping[str, Published],
        message: Mapping[str, Any],
        run_metadata: Mapping[str, Any],
    ) -> Materialization:
        """Publish what the module has written for a date.

        Raises:
            NotMadeError: The module refused the date, or did not say how many rows there are.
            NotMadeNowError: An input was published anew while the module read it.
            resources.s3.ObjectMissingError: It has not written all of its files.
        """
        if refusal := refusal_of(message):
            raise refusal
        rows = message.get("rows")
        if not isinstance(rows, int):
            raise NotMadeError(
                f"{self.module} reported {date} without its number of rows: report "
                '{"date": …, "rows": …} or {"date": …, "error": …}.'
            )
        if versions_of(self._inputs(store, date)) != versions_of(inputs):
            raise NotMadeNowError(
                f"An input of {date} was published anew while {self.module} was making it."
            )
        with Publication(self.folder(store, date)) as publication:
            for name in self.outputs:
                key = self._staged(run_id, date, name)
                publication.copy(name, store, key, etag=store.head(key).etag)
            published = publication.commit(
                partition=date,
                rows=rows,
                columns=[
                    Column(name=str(name), type=str(type_))
                    for name, type_ in dict(message.get("columns") or {}).items()
                ],
                code_version=self.code_version,
                inputs=versions_of(inputs),
            )
        metadata = {**dict(message.get("metadata") or {}), **run_metadata}
        return self._report(published, metadata, unchanged=not published.changed)

    def _report(
        self, published: Published, more: Mapping[str, Any], *, unchanged: bool
    ) -> Materialization:
        manifest = published.manifest
        return Materialization(
            {
                **more,
                "dagster/uri": published.folder.file_uri(self.outputs[0]),
                "dagster/partition_row_count": manifest.rows,
                "dagster/column_schema": table_schema(manifest.columns, {}),
                "bytes": manifest.size,
                "unchanged": unchanged,
            },
            manifest.content_sha256,
        )


def versions_of(inputs: Mapping[str, Published]) -> dict[str, str]:
    """Each input's digest, by its name."""
    return {name: published.manifest.content_sha256 for name, published in inputs.items()}


def judge_files(folder: Folder, asset: str) -> Verdict:
    """Read all files, and compare them with the manifest."""
    published = folder.require(asset)
    problems = published.verify()
    size = {"bytes": published.manifest.size, "rows": published.manifest.rows}
    return Verdict(not problems, " ".join(problems) or "Whole.", size)


def _describe(published: Published) -> dict[str, Any]:
    manifest = published.manifest
    return {
        "rows": manifest.rows,
        "columns": {column.name: column.type for column in manifest.columns},
        "files": {file.name: published.folder.key(file.name) for file in manifest.files},
    }
