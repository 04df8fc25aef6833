"""Pipelines by YAML alone, on the embedded services."""

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from jobs.alerts import due_daily
from jobs.sources import observe_sources
from platform_assets.airbnb.processed import NEIGHBOURHOOD_SUMMARY, PRICE_CHANGES, result_folder
from platform_assets.airbnb.published_snapshots import snapshot_folder
from platform_assets.components.pipeline_asset import dated_folder
from platform_assets.definitions import build_defs
from resources.s3 import ObjectStore
from tests.containers import engine, image_with_module
from tests.platform_assets import pipelines_rig
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.pipelines_rig import DATES, LEVELS, SNAPSHOT

README = pipelines_rig.example("README.md", "yaml")
MODULE = pipelines_rig.example("pipelines/README.md", "python")
HUNGRY = "hoard = bytes(1) * (400 * 2**20)\n"


@pytest.fixture
def lisbon(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform with the README's pipeline, its module and its table, which is observed."""
    observed = README.replace("  date_column:", "  observe: true\n  date_column:")
    folder = pipelines_rig.write(tmp_path / "pipelines", {"lisbon": observed})
    monkeypatch.setenv("PLATFORM_PIPELINES", str(folder))
    (folder / "lisbon" / "levels.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    pipelines_rig.execute(platform.env["PLATFORM_POSTGRES_DSN"], pipelines_rig.TABLE)
    return platform


def objects(platform: Platform) -> dict[str, str]:
    """Key → sha256 of all that the pipeline has published."""
    return {
        info.key: hashlib.sha256(platform.store.get_bytes(info.key, max_bytes=2**20)).hexdigest()
        for info in platform.store.list("pipelines/")
    }


def changed_days(platform: Platform, before: Mapping[str, str]) -> set[str]:
    """The days of which something is other than it was."""
    after = objects(platform)
    changed = [key for key in after if before.get(key) != after[key]]
    return {day for day in DATES if any(day in key for key in changed)}


def observed_days(platform: Platform) -> set[str]:
    """Look at all sources, though others are not there: the days with other rows than before."""
    seen = platform.run("observe_sources", DATES[0])
    records = platform.instance.fetch_observations(
        dg.AssetKey(["lisbon", "snapshot_source"]), limit=100
    ).records
    return {r.partition_key for r in records if r.run_id == seen.run_id and r.partition_key}


def levels(platform: Platform, day: str) -> str:
    key = f"pipelines/{LEVELS}/date={day}/levels.csv"
    return platform.store.get_bytes(key, max_bytes=2**20).decode()


def levels_by_sql(platform: Platform, day: str) -> str:
    rows = pipelines_rig.execute(
        platform.env["PLATFORM_POSTGRES_DSN"],
        "select bairro, percentile_cont(0.5) within group (order by preco) "
        f"from anuncios where dia = '{day}' group by bairro order by bairro",
    )
    return "neighbourhood,price\n" + "".join(f"{name},{level:.1f}\n" for name, level in rows)


def test_the_readmes_pipeline_is_made_checked_backfilled_and_made_again(
    lisbon: Platform, tmp_path: Path
) -> None:
    dsn = lisbon.env["PLATFORM_POSTGRES_DSN"]
    assert len(README.splitlines()) <= 15
    pipelines_rig.execute(dsn, "insert into anuncios values (1, 'bairro 1', 1, '2026-03-02')")
    broken = lisbon.run("lisbon", DATES[0], DATES[-1])
    good = {day for day in DATES if day != "2026-03-02"}
    assert "1 rows repeat an id" in reason_of(broken)
    assert set(failed_checks(broken)) == {"unique_ids"}
    for asset in (SNAPSHOT, LEVELS):
        assert lisbon.materialized(asset) == good
    assert not any("2026-03-02" in key for key in objects(lisbon))
    for day in good:
        assert levels(lisbon, day) == levels_by_sql(lisbon, day)

    # The button makes the date that failed, and no other.
    assert observed_days(lisbon) == set(DATES)
    pipelines_rig.execute(dsn, "delete from anuncios where preco = 1")
    before = objects(lisbon)
    assert lisbon.run("repair_lisbon", DATES[0]).success
    assert changed_days(lisbon, before) == {DATES[1]}
    assert lisbon.materialized(LEVELS) == set(DATES)

    # Of a day whose rows have changed, what is made of them is outdated.
    before = objects(lisbon)
    pipelines_rig.execute(dsn, "update anuncios set preco = preco + 7 where dia = '2026-03-04'")
    assert observed_days(lisbon) == {DATES[1], DATES[3]}
    assert lisbon.run("lisbon", DATES[0], DATES[-1], assets=[SNAPSHOT]).success
    outdated = {"ops": {"repair_lisbon_dates": {"config": {"which": "outdated"}}}}
    earlier = lisbon.materializations(LEVELS)
    assert lisbon.run("repair_lisbon", DATES[0], config=outdated).success
    assert lisbon.materializations(LEVELS) == earlier + 1
    assert changed_days(lisbon, before) == {DATES[3]}
    after = objects(lisbon)
    for day in DATES:
        assert levels(lisbon, day) == levels_by_sql(lisbon, day)

    # No module is needed for what is there, nor for what cannot be compared.
    (tmp_path / "pipelines/lisbon/levels.py").write_text(
        "raise SystemExit('this is not to be run')"
    )
    lisbon.store.delete_prefix(f"pipelines/{SNAPSHOT}/date={DATES[0]}/")
    assert lisbon.run("repair_lisbon", DATES[0], config=outdated).success
    assert lisbon.materializations(LEVELS) == earlier + 1
    assert lisbon.run("lisbon", DATES[0], DATES[-1]).success
    assert objects(lisbon) == after

    # The same data from the beginning: the same bytes, manifests and all.
    lisbon.store.delete_prefix("pipelines/")
    (tmp_path / "pipelines/lisbon/levels.py").write_text(MODULE)
    assert lisbon.run("lisbon", DATES[0], DATES[-1]).success
    assert objects(lisbon) == after

    (record,) = lisbon.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(["lisbon", "levels"])), limit=1
    ).records
    metadata = record.asset_materialization.metadata if record.asset_materialization else {}
    assert metadata["mode"].value == "process"
    assert metadata["dagster/partition_row_count"].value == 3


def test_a_pipeline_has_a_schedule_is_due_and_knows_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pipelines_rig.write(tmp_path / "pipelines", {"lisbon": README})
    monkeypatch.setenv("PLATFORM_PIPELINES", str(folder))
    defs = build_defs()
    repository = defs.get_repository_def()
    schedule = defs.resolve_schedule_def("lisbon_daily")
    assert schedule.cron_schedule == "30 1 * * *"
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        tick = schedule.evaluate_tick(
            dg.build_schedule_context(
                instance=instance,
                scheduled_execution_time=datetime(2026, 3, 5, 1, 30, tzinfo=UTC),
                repository_def=repository,
            )
        )
    assert [request.partition_key for request in tick.run_requests or []] == ["2026-03-04"]
    (due,) = (due for due in due_daily(repository) if due.job == "lisbon")
    assert due.schedule == "lisbon_daily"
    assert [key.to_user_string() for key in due.assets] == [LEVELS, SNAPSHOT]
    graph = defs.resolve_asset_graph()
    snapshot, made = (graph.get(dg.AssetKey(name.split("/"))) for name in (SNAPSHOT, LEVELS))
    assert {key.to_user_string() for key in made.parent_keys} == {SNAPSHOT}
    assert {key.to_user_string() for key in snapshot.parent_keys} == {"lisbon/snapshot_source"}
    assert made.freshness_policy
    assert made.pools == {"pipeline_lisbon"}
    # Its table is read whole only where that is asked for.
    assert snapshot.parent_keys.isdisjoint(observe_sources.selection.resolve(graph))
    (spec,) = (s for s in defs.resolve_all_asset_specs() if s.key == snapshot.key)
    references = spec.metadata["dagster/code_references"]
    assert isinstance(references, dg.CodeReferencesMetadataValue)
    assert f"{folder}/lisbon/defs.yaml" in [
        reference.file_path
        for reference in references.code_references
        if isinstance(reference, dg.LocalFileCodeReference)
    ]


def test_pipelines_find_the_dates_of_the_platforms_own_assets() -> None:
    store, day = ObjectStore(bucket="any"), DATES[0]
    own = [snapshot_folder(store, day)]
    own += [
        result_folder(store, asset.key, day) for asset in (PRICE_CHANGES, NEIGHBOURHOOD_SUMMARY)
    ]
    names = ("airbnb/snapshot", "airbnb/price_changes", "airbnb/neighbourhood_summary")
    read = [dated_folder(store, name, day) for name in names]
    assert [folder.prefix for folder in read] == [folder.prefix for folder in own]


@pytest.mark.docker
def test_a_module_runs_in_an_image_of_its_own_and_within_its_limits(
    lisbon: Platform, tmp_path: Path
) -> None:
    client = engine()
    image = image_with_module(client, tmp_path / "pipelines/lisbon/levels.py", "test-pipelines")
    folder = tmp_path / "pipelines"
    end = "pipelines.lisbon.levels, outputs: levels.csv}"
    assert README.rstrip().endswith(end)
    limited = README.replace(end, "MODULE, outputs: levels.csv, memory_mb: 300, HOW}")
    in_image = limited.replace("MODULE", "levels").replace("HOW", f"image: {image}, engine: docker")
    try:
        pipelines_rig.write(folder, {"lisbon": in_image})
        done = lisbon.run("lisbon", DATES[0])
        assert done.success
        assert levels(lisbon, DATES[0]) == levels_by_sql(lisbon, DATES[0])
        (made,) = [
            event.materialization.metadata
            for event in done.get_asset_materialization_events()
            if event.asset_key == dg.AssetKey(["lisbon", "levels"])
        ]
        assert (made["mode"].value, made["image"].value) == ("docker", image)

        (folder / "lisbon" / "levels.py").write_text(HUNGRY + MODULE)
        here = limited.replace("MODULE", "pipelines.lisbon.levels").replace(
            "HOW", "engine: process"
        )
        pipelines_rig.write(folder, {"lisbon": here})
        assert "ran out of its 300 MiB" in reason_of(lisbon.run("lisbon", DATES[1]))
        assert lisbon.materialized(SNAPSHOT) == set(DATES[:2])
        assert lisbon.materialized(LEVELS) == set(DATES[:1])
        assert not [key for key in objects(lisbon) if "/.staged/" in key]
    finally:
        client.images.remove(image, force=True)
        client.close()


def test_an_object_is_copied_every_day_and_a_broken_one_is_refused(
    lisbon: Platform, tmp_path: Path
) -> None:
    content = b"\x1f\x8b broken"
    lisbon.store.put_bytes("public/trams.csv.gz", content)
    lisbon.store.put_bytes("public/plan.txt", b"plan")
    copy = "type: platform_assets.components.S3ObjectCopy\nattributes: "
    uri = f"s3://{lisbon.store.bucket}/public"
    pipelines_rig.write(
        tmp_path / "pipelines",
        {
            "trams": f"{copy}{{asset: trams/copy, source: {uri}/trams.csv.gz}}\n"
            f"---\n{copy}{{asset: trams/plan, source: {uri}/plan.txt}}\n"
        },
    )
    result = lisbon.run("trams", DATES[0], DATES[1])
    assert set(failed_checks(result)) == {"intact"}
    assert "is not a whole gzip file" in reason_of(result)
    for day in DATES[:2]:
        key = f"pipelines/trams/plan/date={day}/plan.txt"
        assert lisbon.store.get_bytes(key, max_bytes=100) == b"plan"
