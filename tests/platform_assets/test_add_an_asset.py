"""docs/add-an-asset.md: its two modules, as they stand there, are made, checked and refused."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
from psycopg2.extensions import connection

from platform_assets import settings
from platform_assets.airbnb import listings_chain
from platform_assets.airbnb.snapshots import SNAPSHOT
from platform_assets.chain import build_chain
from resources.s3 import Publication
from tests.platform_assets import airbnb_rig, mnist_rig
from tests.platform_assets.conftest import Platform, failed_checks
from tests.platform_assets.pipelines_rig import examples

MODULES = examples("docs/add-an-asset.md", "python")


def load(folder: Path, content: str) -> ModuleType:
    path = folder / "added.py"
    path.write_text(content)
    spec = importlib.util.spec_from_file_location("added", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(
    platform: Platform, definitions: dg.Definitions, selection: dg.AssetSelection, date: str
) -> dg.ExecuteInProcessResult:
    job: Any = dg.define_asset_job("added", selection)
    resources = settings.resources(settings.Settings())
    defs = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job], resources=resources))
    return defs.resolve_job_def("added").execute_in_process(
        instance=platform.instance, tags={"dagster/partition": date}, raise_on_error=False
    )


def put(module: ModuleType, platform: Platform, date: str, content: bytes) -> None:
    with Publication(module.folder(platform.store, date)) as publication:
        publication.put(module.FILE, content)
        publication.commit(partition=date, rows=10, code_version="1", inputs={})


def test_an_asset_of_the_digits(platform: Platform, tmp_path: Path) -> None:
    date = "2026-03-01"
    mnist_rig.put_digits(platform, date)
    module = load(tmp_path, MODULES[0])
    defs = dg.load_definitions_from_module(module)
    own = dg.AssetSelection.assets(module.digit_counts)
    assert run(platform, defs, own, date).success
    assert platform.materialized(module.NAME) == {date}
    put(module, platform, date, b"[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]")
    checks = dg.AssetSelection.checks_for_assets(module.digit_counts)
    assert list(failed_checks(run(platform, defs, checks, date))) == ["counts_every_digit"]


def test_an_asset_of_the_listings(platform: Platform, table: connection, tmp_path: Path) -> None:
    date = airbnb_rig.FIRST
    module = load(tmp_path, MODULES[1])
    own = module.BUSIEST_HOSTS
    defs = dg.Definitions(assets=[build_chain("chain", [*listings_chain.ASSETS, own])])
    assert run(platform, defs, dg.AssetSelection.assets(SNAPSHOT.key, own.key), date).success
    rows = airbnb_rig.ask(
        table,
        "select count(*) from listings where download_date = %(day)s and host_id is not null "
        "group by host_id order by 1 desc limit 10",
        day=date,
    )
    published = module.folder(platform.store, date).require(module.NAME)
    hosts = json.loads(published.read(module.FILE, max_bytes=10_000))
    assert [listings for _, listings in hosts] == [count for (count,) in rows]
    put(module, platform, date, b"[[1, 1000]]")
    checks = dg.AssetSelection.checks(own.check_key("hosts_are_busiest"))
    assert list(failed_checks(run(platform, defs, checks, date))) == ["hosts_are_busiest"]
