"""What is wrong with a pipeline's file is said with the file, the line and what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from platform_assets import components
from platform_assets.components.pipeline_asset import PipelineError
from platform_assets.definitions import build_defs
from tests.conftest import CHECKOUT, clean_environ
from tests.platform_assets.pipelines_rig import example, write

SNAPSHOT = """\
type: platform_assets.components.PostgresSnapshot
attributes:
  asset: lisbon/snapshot
  table: anuncios
  columns: {id_anuncio: id, preco: price}
  contract:
    id: int64
    price: double
  key: id
  date_column: dia
  measure: price
  format: parquet
  schedule: "30 1 * * *"
"""
TRANSFORM = """\
---
type: platform_assets.components.ContainerTransform
attributes:
  asset: lisbon/levels
  inputs: lisbon/snapshot
  module: levels
  outputs: levels.csv
"""
COPY = """\
type: platform_assets.components.S3ObjectCopy
attributes:
  asset: trams/copy
  source: s3://open-data/trams.csv.gz
"""
# What is replaced by what, the line that is named, and what is said.
CASES = {
    "unknown field": (
        "table: anuncios",
        "tabel: anuncios",
        4,
        "did you mean table?",
    ),
    "wrong type": (
        "  columns: {id_anuncio: id, preco: price}",
        "  columns: [id]",
        5,
        "object: The table's",
    ),
    "missing field": ("  key: id\n", "", 2, "key has to be filled in: The column"),
    "bad cron": ('"30 1 * * *"', '"every night"', 13, "write 'MINUTE HOUR * * *', in UTC"),
    "more than once a day": ('"30 1 * * *"', '"*/5 * * * *"', 13, "is not once a day"),
    "injected table": ("anuncios", '"a; drop table b"', 4, "write its name, or schema.name"),
    "table with many dots": ("anuncios", "a.b.c", 4, "write a SELECT as the query instead"),
    "query with a semicolon": ("table: anuncios", "query: select 1; delete", 4, "one SELECT"),
    "neither table nor query": ("  table: anuncios\n", "", 2, "fill in either table or query"),
    "unknown format": ("parquet", "xlsx", 12, "'csv', 'csv.gz' or 'parquet'"),
    "unknown type of a column": ("double", "decimal", 8, "'int64', 'double', 'string' or 'date32'"),
    "key outside the contract": ("key: id", "key: nummer", 9, "nummer is not in the contract: add"),
    "measure that is no number": ("double", "string", 11, "no number: name another column"),
    "the day in the contract": ("price: double", "dia: date32", 10, "take it out of the contract"),
    "unknown limit": (
        "  format: parquet",
        "  checks: {drift: 2}",
        12,
        "has no field drift: did you",
    ),
    "unknown asset": ("inputs: lisbon/snapshot", "inputs: lisbon/snapshots", 18, "did you mean"),
    "a key without a slash": ("asset: lisbon/levels", "asset: levels", 17, "write it as lisbon/"),
    "made of itself": (
        "inputs: lisbon/snapshot",
        "inputs: lisbon/levels",
        18,
        "made of each other",
    ),
    "no module": ("module: levels", "module: levels.py; ls", 19, "write it as for python -m"),
    "file with a path": ("outputs: levels.csv", "outputs: ../levels.csv", 20, "no name of a file"),
    "too little memory": ("outputs: levels.csv", "memory_mb: 1", 20, "greater than or equal to 64"),
    "container without image": ("outputs: levels.csv", "engine: docker", 20, "name it, or leave"),
    "two schedules": ("module: levels", 'schedule: "0 2 * * *"\n  module: levels', 19, "leave one"),
    "unknown component": ("ContainerTransform", "ContainerTransfrom", 15, "mean ContainerT"),
    "not YAML": ("  table: anuncios", "  table: [anuncios", 5, "this is no YAML"),
}


def load_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PLATFORM_PIPELINES", str(folder))
    with pytest.raises(PipelineError) as caught:
        build_defs()
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_file_is_refused_with_its_line_and_what_to_do(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, line, remedy = CASES[case]
    text = SNAPSHOT + TRANSFORM
    assert before in text
    folder = write(tmp_path, {"lisbon": text.replace(before, after, 1)})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/lisbon/defs.yaml:{line}: " in message
    assert remedy in message


def test_two_pipelines_cannot_be_made_of_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = TRANSFORM.removeprefix("---\n").replace("inputs: lisbon/snapshot", "inputs: a/two")
    other = one.replace("inputs: a/two", "inputs: lisbon/levels").replace(
        "asset: lisbon/levels", "asset: a/two"
    )
    # What is made of them is no part of the circle.
    behind = one.replace("lisbon/levels", "a/three")
    folder = write(tmp_path, {"behind": behind, "one": one, "other": other})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/one/defs.yaml:4: lisbon/levels and a/two are made of each other" in message


def test_two_pipelines_cannot_have_the_same_asset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, {"trams": COPY, "buses": COPY})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/trams/defs.yaml:3: " in message
    assert f"{folder}/buses/defs.yaml:3" in message
    assert "give one of them another name" in message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("listings", COPY, "listings is a job or a group of the platform's own"),
        ("airbnb", COPY, "airbnb is a job or a group of the platform's own"),
        ("lisbon-2", COPY, "rename 'lisbon-2'"),
        ("trams", COPY.replace("trams/copy", "mnist/raw"), "there is an asset mnist/raw already"),
        ("trams", COPY.replace("s3://open-data/", "https://"), "write it as s3://bucket/key"),
        ("trams", COPY.replace("trams.csv.gz", "manifest.json"), "manifest.json is the platform"),
        ("trams", "# type:", "nothing is in it"),
        ("city/trams", COPY, "move it to"),
        ("trams", COPY.partition("\n")[0], "has no attributes: fill in asset, source"),
    ],
)
def test_what_the_platform_has_already_and_other_names_are_refused(
    name: str, content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, {name: content})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/{name}/defs.yaml:" in message
    assert said in message


MODEL = """\
type: platform_assets.components.SageMakerModel
attributes:
  asset: ASSET
  algorithm: kmeans
  channels: {train: "s3://my-bucket/train/"}
  gate: {metric: test:msd, at_most: 900}
  endpoint: ENDPOINT
"""
# What each asset of two pipelines is, and what both have.
CLASHES = {
    "jobs": (
        MODEL.replace("ASSET", "a/b_c").replace("ENDPOINT", "one"),
        MODEL.replace("ASSET", "a_b/c").replace("ENDPOINT", "other"),
        "a job approve_a_b_c",
    ),
    "endpoint": (
        MODEL.replace("ASSET", "a/m").replace("ENDPOINT", "one"),
        COPY.replace("trams/copy", "a/m_endpoint"),
        "an asset a/m_endpoint",
    ),
    "resources": (
        SNAPSHOT.replace("lisbon/snapshot", "a__b/c"),
        SNAPSHOT.replace("lisbon/snapshot", "a/b/c"),
        "a resource a__b__c_table",
    ),
}


@pytest.mark.parametrize("case", CLASHES)
def test_names_that_are_made_of_keys_do_not_clash(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, name = CLASHES[case]
    folder = write(tmp_path, {"one": one, "other": other})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/other/defs.yaml:3: there is {name} already, in {folder}/one/defs" in message


@pytest.mark.parametrize(
    ("algorithm", "remedy"),
    [
        ("kmeans", "a built-in algorithm has its own metrics: leave this out"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/m:1", "asks for test:msd, which metrics does not have"),
    ],
)
def test_a_gate_asks_for_what_an_image_measures(
    algorithm: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODEL.replace("ASSET", "a/m").replace("ENDPOINT", "one").replace("kmeans", algorithm)
    folder = write(tmp_path, {"one": f"{model}  metrics: {{mse: 'mse=(.+)'}}\n"})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/one/defs.yaml:" in message
    assert remedy in message


@pytest.mark.parametrize("job", ["approve_a_m", "repair_one"])
def test_a_folder_is_not_called_as_a_job_of_a_pipeline(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODEL.replace("ASSET", "a/m").replace("ENDPOINT", "one")
    folder = write(tmp_path, {"one": model, job: COPY})
    message = load_error(folder, monkeypatch)
    assert f"{folder}/one/defs.yaml:3: there is a job {job} already, in {folder}/{job}" in message


@pytest.mark.parametrize(
    ("content", "line", "remedy"),
    [
        (COPY.replace("copy", "co\x07py").encode(), 3, "YAML has no character 0x7: take it out"),
        (COPY.replace("trams.csv", "trÃms.csv").encode("latin-1"), 4, "save it as such"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(
    content: bytes, line: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, {"trams": ""}) / "trams" / "defs.yaml"
    file.write_bytes(content)
    message = load_error(tmp_path, monkeypatch)
    assert f"{file}:{line}: " in message
    assert remedy in message


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("common.py", "put it beside the defs.yaml"),
        ("shared/deep/common.py", "put it beside the defs.yaml"),
        ("other/component.yaml", "call it defs.yaml"),
    ],
)
def test_nothing_is_run_or_loaded_that_is_no_pipeline(
    name: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, {"trams": COPY})
    (folder / "trams" / "beside.py").write_text("raise SystemExit('is not to be run')")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("raise SystemExit('is not to be run')")
    message = load_error(folder, monkeypatch)
    assert f"{folder}/{name}:1: " in message
    assert remedy in message
    (folder / name).unlink()
    build_defs()


@pytest.fixture
def dg(tmp_path: Path) -> Callable[..., str]:
    """Runs `dg` in a checkout whose pipelines are its own: what it prints, after its exit code."""
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "pipelines").mkdir()
    env = clean_environ(
        PYTHONPATH=str(CHECKOUT),
        PLATFORM_PIPELINES=str(tmp_path / "pipelines"),
        DAGSTER_DISABLE_TELEMETRY="yes",
    )

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("dg"), *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return f"{done.returncode} {done.stdout}{done.stderr}"

    return run


def test_dg_lists_scaffolds_and_checks_pipelines(dg: Callable[..., str], tmp_path: Path) -> None:
    code, _, listed = dg("list", "components", "--json").partition(" ")
    assert code == "0"
    names = {item["key"] for item in json.loads(listed)["items"]}
    assert names >= {f"platform_assets.components.{name}" for name in components.__all__}
    for name in components.__all__:
        scaffolded = dg(
            "scaffold", "defs", f"platform_assets.components.{name}", f"my_{name.lower()}"
        )
        assert scaffolded.startswith("0 "), scaffolded
    write(tmp_path / "pipelines", {"lisbon": example("README.md", "yaml")})
    checked = dg("check", "defs")  # of the YAML, too
    assert checked.startswith("0 "), checked
    file = tmp_path / "pipelines" / "lisbon" / "defs.yaml"
    file.write_text(file.read_text().replace("outputs", "output"))
    refused = dg("check", "yaml", str(file.parent))
    assert refused.startswith("1 ")
    assert f"{file}:14 " in refused
    assert "'output' was unexpected" in refused
