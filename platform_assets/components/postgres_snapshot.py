"""The component `PostgresSnapshot`: a day's rows of a table as one object in S3."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator

from formats.columns import Column
from platform_assets.chain import ChainAsset, ChainRun, make_together
from platform_assets.components.fields import TableName
from platform_assets.components.pipeline_asset import PipelineAsset, dated_folder
from platform_assets.lineage import Tier, place
from platform_assets.reports import Outcomes, table_schema
from platform_assets.tables.exporter import CODE_VERSION
from platform_assets.tables.limits import Limits
from platform_assets.tables.observed import observed_table
from platform_assets.tables.snapshots import export_dates, snapshot_asset
from platform_assets.tables.source_table import Rules, SourceTable
from resources.postgres import DatabaseRequestError, Query
from resources.s3 import Folder, ObjectStore

ColumnType = Literal["int64", "double", "string", "date32"]


class SnapshotTable(SourceTable):
    """The table of a `PostgresSnapshot`, as a resource: a run may have other limits."""

    snapshot: str = Field(description="The asset that is made of it.")
    defined_in: str = Field(description="The file that says so.")
    key: str = Field(description="The column of which each row has another value, as it leaves.")
    types: dict[str, str] = Field(description="What readers rely on: column → type.")
    required: list[str] = Field(default=[], description="Columns of which few rows lack a value.")
    measure: str | None = Field(default=None, description="The number that is judged.")
    checks: Limits = Field(
        default_factory=Limits, description="The file's own; `limits` are those of a run."
    )

    @property
    def rules(self) -> Rules:
        return Rules(
            key=self.key,
            needed=frozenset(self.types),
            required=frozenset(self.required),
            measure=self.measure,
            resource=resource_key(self.snapshot),
            columns_setting=self.setting("columns"),
            key_remedy=f"Where keys are no numbers, write {self.key}: string in the contract.",
            usual=self.checks,
        )

    @property
    def promised(self) -> tuple[Column, ...]:
        return tuple(Column(name=name, type=type_) for name, type_ in self.types.items())

    @property
    def asset(self) -> str:
        return self.snapshot

    @property
    def file(self) -> str:
        return f"{self.snapshot.rpartition('/')[2]}.{self.format}"

    def folder(self, store: ObjectStore, date: str) -> Folder:
        return dated_folder(store, self.snapshot, date)

    def setting(self, field: str) -> str:
        """The field of the component."""
        return f"{field} in {self.defined_in}"


def resource_key(asset: str) -> str:
    """The key of the resource that is the table of a snapshot."""
    return f"{asset.replace('/', '__')}_table"


class PostgresSnapshot(PipelineAsset):
    """The rows of one day of a table, as they were in one state of it, as one object in S3.

    Rows are cast to the contract's types where nothing is lost, ordered by their key, and judged
    before they are published; a day that a check refuses is not. Columns that are not in the
    contract are taken along as they are. The user of the platform's DSN has to see all rows.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"postgres", "s3"})
    tier: ClassVar[Tier] = "raw"

    table: TableName = Field(
        default="",
        description="The table or view, with or without schema; or leave it out for a query.",
        examples=["anuncios"],
    )
    query: str = Field(
        default="", validate_default=True, description="A SELECT in its place, without semicolon."
    )
    columns: dict[str, str] = Field(
        default={}, description="The table's own names of columns → those with which they leave."
    )
    contract: dict[str, ColumnType] = Field(
        min_length=1, description="What readers rely on, by the names with which columns leave."
    )
    key: str = Field(description="The column of which each row of a day has another value.")
    date_column: str = Field(
        description=(
            "The column with the day of a row (a date, a time or 2026-11-26 as text); empty where "
            "the table holds what is now: then only the newest day can be made."
        )
    )
    observe: bool = Field(
        default=False,
        description=(
            "Whether the job observe_sources notes every night which days have changed. It reads "
            "the whole table for it, or runs the whole query, for all days."
        ),
    )
    measure: str | None = Field(
        default=None, description="A column of numbers from 0 on, whose range and drift are judged."
    )
    required: list[str] = Field(
        default=[], description="Columns of which few rows may lack a value."
    )
    format: Literal["csv", "csv.gz", "parquet"] = Field(
        default="parquet", description="Of the snapshots."
    )
    checks: Limits = Field(
        default_factory=Limits,
        description="From where on a day is odd, or not published; null_prices, negative_prices "
        "and price are of the measure.",
    )
    leave_out: list[str] = Field(default=[], description="Columns that never leave the database.")
    pseudonymise: list[str] = Field(
        default=[], description="Columns of which only a keyed hash leaves it."
    )

    @field_validator("query")
    @classmethod
    def _one_source(cls, query: str, info: ValidationInfo) -> str:
        if "table" in info.data and bool(query) == bool(info.data["table"]):
            raise ValueError("fill in either table or query")
        try:
            if query:
                Query(query)
        except DatabaseRequestError as error:
            raise ValueError(str(error)) from None
        return query

    @field_validator("key", "measure", "required")
    @classmethod
    def _in_contract(cls, value: Any, info: ValidationInfo) -> Any:
        """A column by either of its names; as it leaves, it has to be in the contract."""
        if value is None or not {"columns", "contract"} <= info.data.keys():
            return value
        columns, contract = info.data["columns"], info.data["contract"]
        given_names = value if isinstance(value, list) else [value]
        names = [columns.get(name, name) for name in given_names]
        for name in names:
            if name not in contract:
                raise ValueError(f"{name} is not in the contract: add it there, with its type")
            if info.field_name == "measure" and contract[name] not in ("int64", "double"):
                raise ValueError(f"{name} is {contract[name]}, and no number: name another column")
        return names if isinstance(value, list) else names[0]

    @field_validator("date_column")
    @classmethod
    def _day_is_added(cls, value: str, info: ValidationInfo) -> str:
        day = info.data.get("columns", {}).get(value, value)
        if day in info.data.get("contract", {}):
            raise ValueError(f"{day} leaves as a date32 by itself: take it out of the contract")
        return value

    @classmethod
    def example(cls, pipeline: str) -> dict[str, Any]:
        return {
            "asset": f"{pipeline}/snapshot",
            "table": pipeline,
            "key": "id",
            "date_column": "day",
            "contract": {"id": "int64", "price": "double"},
            "measure": "price",
            "schedule": "30 1 * * *",
        }

    @property
    def source_table(self) -> SnapshotTable:
        """The table as those who export it know it."""
        return SnapshotTable(
            snapshot=self.asset,
            defined_in=f"pipelines/{self.pipeline}/defs.yaml",
            table=self.table,
            query=self.query,
            columns=self.columns,
            types=dict(self.contract),
            key=self.key,
            date_column=self.date_column,
            measure=self.measure,
            required=self.required,
            format=self.format,
            checks=self.checks,
            limits=self.checks,
            leave_out=self.leave_out,
            pseudonymise=self.pseudonymise,
        )

    def resources(self) -> dict[str, Any]:
        """The table."""
        return {resource_key(self.asset): self.source_table}

    def sources(self) -> list[dg.AssetSpec | dg.AssetsDefinition]:
        """The table, which somebody else fills; observed where that is asked for."""
        table = self.source_table
        source = dg.AssetSpec(
            self.source_key,
            group_name=self.pipeline,
            kinds={"postgres", "table"},
            owners=[self.owner],
            tags=place(self.pipeline, "source"),
            description=f"Rows of each day, filled from outside: {self.table or self.query}",
            metadata={
                "dagster/column_schema": table_schema(table.contract, {}),
                **({"dagster/table_name": self.table} if self.table else {}),
            },
        )
        return [observed_table(source, resource_key(self.asset)) if self.observe else source]

    def chain_asset(self) -> ChainAsset:
        @make_together
        def make(run: ChainRun, dates: Sequence[str]) -> Outcomes:
            return export_dates(run, getattr(run.resources, resource_key(self.asset)), dates)

        spec = self.spec(
            description="The rows of one day as they were in one state of the table.",
            code_version=CODE_VERSION,
        )
        return snapshot_asset(spec, self.source_table.rules, make)
