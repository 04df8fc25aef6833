"""By YAML alone: a model by an image of one's own, of channels that assets make, on an endpoint.

The jobs by which people change such an endpoint are pressed on the way.
"""

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from resources.sagemaker import SageMakerResource
from tests.platform_assets import pipelines_rig
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.mnist_rig import live_config
from tests.platform_assets.test_approval import press

FIRST, SAME, THIRD, BAD, LAST = [f"2026-02-0{day}" for day in range(1, 6)]
SNAPSHOT, CHANNELS, MODEL = "signs/snapshot", "signs/channels", "signs/model"
ENDPOINT = "signs/model_endpoint"
TESTED = 60
YAML = """\
type: platform_assets.components.PostgresSnapshot
attributes:
  asset: signs/snapshot
  table: signs
  contract: {id: int64, label: int64, pixels: string}
  key: id
  date_column: day
---
type: platform_assets.components.ContainerTransform
attributes:
  asset: signs/channels
  inputs: signs/snapshot
  module: pipelines.signs.channels
  outputs: [train.csv, test.csv, probe.csv]
---
type: platform_assets.components.SageMakerModel
attributes:
  asset: signs/model
  algorithm: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/nearest-mean:1
  channels: {train: "signs/channels:train.csv", test: "signs/channels:test.csv"}
  content_type: text/csv
  metrics: {accuracy: "accuracy=([0-9.]+)"}
  gate: {metric: accuracy, at_least: 0.7}
  endpoint: ENDPOINT
  probe: signs/channels:probe.csv
  approval: required
"""
MODULE = f"""
import io

import boto3
import pandas as pd
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    s3, bucket = boto3.client("s3"), pipes.extras["bucket"]
    for day in pipes.extras["dates"]:
        key = day["inputs"]["signs/snapshot"]["files"]["snapshot.parquet"]
        rows = pd.read_parquet(io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))
        labelled = [f"{{row.label}},{{row.pixels}}" for row in rows.itertuples()]
        parts = {{
            "train.csv": labelled[{TESTED}:],
            "test.csv": labelled[:{TESTED}],
            "probe.csv": rows.pixels[:3],
        }}
        for name, lines in parts.items():
            body = "\\n".join(lines).encode()
            s3.put_object(Bucket=bucket, Key=day["outputs"][name], Body=body)
        pipes.report_custom_message({{"date": day["date"], "rows": len(rows)}})
"""


@dataclass(frozen=True)
class Signs:
    """The pipeline, its table and its endpoint."""

    platform: Platform
    yaml: Path
    endpoint: str
    images: NDArray[np.float64]
    labels: NDArray[np.int64]

    def put(self, date: str, rows: slice) -> None:
        """A date's rows of the table."""
        values = ",".join(
            f"({number}, '{date}', {label}, '{','.join(f'{pixel:g}' for pixel in image)}')"
            for number, (image, label) in enumerate(
                zip(self.images[rows].tolist(), self.labels[rows].tolist(), strict=True)
            )
        )
        self.execute(f"insert into signs values {values}")

    def execute(self, statements: str) -> None:
        pipelines_rig.execute(self.platform.env["PLATFORM_POSTGRES_DSN"], statements)

    def run(self, first: str, last: str, *assets: str) -> dg.ExecuteInProcessResult:
        return self.platform.run("signs", first, last, assets=list(assets) or None)

    def press(self, job: str, date: str) -> dg.ExecuteInProcessResult:
        """Decide over a date's version."""
        return press(self.platform, f"{job}_signs_model", self.manifest(date)["sha256"])

    def change(self, job: str) -> None:
        """Roll back, or tear down."""
        assert self.platform.run(f"{job}_signs_model", LAST).success

    def set_tag(self, old: str, new: str) -> None:
        """Have its YAML name another image."""
        text = self.yaml.read_text()
        assert f"nearest-mean:{old}" in text
        self.yaml.write_text(text.replace(f"nearest-mean:{old}", f"nearest-mean:{new}"))

    def manifest(self, date: str) -> dict[str, Any]:
        """What the manifest of a date's model says of it."""
        key = f"pipelines/{MODEL}/date={date}/manifest.json"
        return json.loads(self.platform.store.get_bytes(key, max_bytes=2**20))["extra"]

    def decisions(self) -> list[tuple[str, str]]:
        """Date and outcome of what is kept."""
        manifests = [
            json.loads(self.platform.store.get_bytes(item.key, max_bytes=2**20))["extra"]
            for item in self.platform.store.list(f"pipelines/{MODEL}/decisions/")
        ]
        kept = sorted(manifests, key=lambda one: one["at"])
        return [(one["date"], one["outcome"]) for one in kept]

    def serves(self, rows: slice) -> bool:
        """Whether it answers as the means of these rows do."""
        images, labels = self.images[rows][TESTED:], self.labels[rows][TESTED:]
        known = np.unique(labels)
        means = np.stack([images[labels == label].mean(axis=0) for label in known])
        asked = self.images[:50]
        distances = ((asked[:, None] - means[None]) ** 2).sum(axis=2)
        answer = boto3.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.endpoint,
            ContentType="text/csv",
            Body="\n".join(",".join(f"{pixel:g}" for pixel in image) for image in asked.tolist()),
        )
        answered = [int(label) for label in answer["Body"].read().split()]
        return answered == known[distances.argmin(axis=1)].tolist()


@pytest.fixture
def signs(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signs]:
    name = f"signs-{secrets.token_hex(4)}"
    yaml = YAML.replace("ENDPOINT", name)
    folder = pipelines_rig.write(tmp_path / "pipelines", {"signs": yaml})
    (folder / "signs" / "channels.py").write_text(MODULE)
    monkeypatch.setenv("PLATFORM_PIPELINES", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    images, labels = load_digits(return_X_y=True)
    signs = Signs(
        platform,
        folder / "signs" / "defs.yaml",
        name,
        np.asarray(images, np.float64),
        np.asarray(labels, np.int64),
    )
    signs.execute("create table signs (id bigint, day date, label bigint, pixels text)")
    yield signs
    role = platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"]
    SageMakerResource(role_arn=role, poll_seconds=0.1).teardown(name, versions_too=True)


def test_an_image_of_ones_own_is_trained_judged_and_served_of_what_assets_make(
    signs: Signs,
) -> None:
    early, late = slice(0, 500), slice(500, 1000)
    signs.put(FIRST, early)
    signs.put(SAME, early)
    signs.put(THIRD, late)
    assert signs.run(FIRST, THIRD).success
    for asset in (SNAPSHOT, CHANNELS, MODEL):
        assert signs.platform.materialized(asset) == {FIRST, SAME, THIRD}
    assert signs.manifest(FIRST)["artifact"] == signs.manifest(SAME)["artifact"]
    assert signs.manifest(THIRD)["value"] > 0.8
    sagemaker: Any = boto3.client("sagemaker")
    assert not sagemaker.list_endpoints(NameContains=signs.endpoint)["Endpoints"]

    assert signs.press("approve", FIRST).success
    assert signs.serves(early)
    assert signs.press("approve", THIRD).success
    good = live_config(signs.endpoint)
    assert signs.serves(late)

    # Labels that have nothing to do with the pictures: its gate refuses them, a person may not.
    wrong = slice(1000, 1500)
    signs.labels[wrong] = np.random.default_rng(0).permutation(signs.labels[wrong])
    signs.put(BAD, wrong)
    assert list(failed_checks(signs.run(BAD, BAD))) == ["good_enough"]
    assert live_config(signs.endpoint) == good
    assert "override_signs_model" in reason_of(signs.press("approve", BAD))
    assert signs.press("override", BAD).success
    assert signs.serves(wrong)

    # It is taken back, and does not return by itself.
    signs.change("roll_back")
    assert live_config(signs.endpoint) == good
    assert signs.serves(late)
    assert signs.run(BAD, BAD, ENDPOINT).success
    assert live_config(signs.endpoint) == good

    signs.put(LAST, slice(100, 600))
    assert signs.run(LAST, LAST).success
    assert "roll_back_signs_model" in reason_of(signs.press("reject", THIRD))
    assert signs.press("reject", LAST).success
    signs.change("tear_down")
    assert not sagemaker.list_endpoints(NameContains=signs.endpoint)["Endpoints"]
    # What comes back is the newest that was approved.
    assert signs.run(LAST, LAST, ENDPOINT).success
    assert signs.serves(late)
    before = live_config(signs.endpoint)
    signs.set_tag("1", "2")
    assert signs.run(LAST, LAST, ENDPOINT).success
    assert live_config(signs.endpoint) != before
    config = sagemaker.describe_endpoint_config(EndpointConfigName=live_config(signs.endpoint))
    (variant,) = config["ProductionVariants"]
    image = sagemaker.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]["Image"]
    assert image.endswith("/nearest-mean:2")
    assert signs.serves(late)
    assert signs.decisions() == [
        (SAME, "approved"),  # the newest date that has it
        (THIRD, "approved"),
        (BAD, "overridden"),
        (LAST, "rejected"),
    ]
