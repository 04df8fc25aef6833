"""The component SageMakerModel: by YAML alone, from channels in S3 to an endpoint that is asked."""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from formats import ndarray_file, recordio
from monitoring.approvals import approval_findings
from monitoring.findings import Finding, Problem, Resolved
from platform_assets.alert_settings import AlertSettings
from platform_assets.components.model_gate import Gate, MetricMissingError
from platform_assets.components.model_inputs import DatedInput
from platform_assets.components.pipeline_asset import PipelineError, dated_folder
from platform_assets.components.trained_models import EmptyAnswerError, TrainedModel, TrainedModels
from platform_assets.definitions import build_defs
from platform_assets.models.deciding import DecisionForm
from platform_assets.models.endpoint import DECIDED_BY, Endpoint, EndpointJobs
from platform_assets.models.serving import Serving
from platform_assets.models.training import date_folder
from platform_assets.pipelines import ReservedNames, load_pipelines
from resources.s3 import NotPublishedError, ObjectStore, Publication
from resources.sagemaker import EndpointVersion, Invocation, SageMakerResource
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.mnist_rig import live_config
from tests.platform_assets.pipelines_rig import example, write

FIRST, SAME, THIRD, BAD, LAST = [f"2026-02-0{day}" for day in range(1, 6)]
MODEL, ENDPOINT = "shapes/model", "shapes/model_endpoint"
# Fifteen lines at most: that is the promise.
FORM = example("pipelines/README.md", "yaml")


@cache
def shapes() -> NDArray[np.float32]:
    """1,797 real digits of 8 × 8, (n, 64) in 0..16."""
    images, _ = load_digits(return_X_y=True)
    return np.asarray(images, np.float32)


def to_csv(rows: NDArray[np.float32]) -> str:
    return "\n".join(",".join(f"{value:g}" for value in row) for row in rows.tolist())


class Shapes:
    """The pipeline, and what a test puts into its place in S3."""

    def __init__(
        self, platform: Platform, folder: Path, endpoint: str, patch: pytest.MonkeyPatch
    ) -> None:
        self.platform, self.folder, self.endpoint = platform, folder, endpoint
        self._patch = patch
        self.write()

    def write(self, *, approval: str = "none") -> None:
        text = FORM.replace("my-bucket", self.platform.store.bucket)
        text = text.replace("endpoint: shapes", f"endpoint: {self.endpoint}")
        text = text.replace("approval: required", f"approval: {approval}")
        # A folder of its own, since what is loaded is the same for the same environment.
        folder = write(self.folder / approval, {"shapes": text})
        self._patch.setenv("PLATFORM_PIPELINES", str(folder))

    def put(self, date: str, rows: NDArray[np.float32]) -> None:
        """A date's channels: most rows to train on, the others to test, some of them to ask."""
        files = {
            "train/part.rec": b"".join(recordio.encode(rows[100:])),
            "test/part.rec": b"".join(recordio.encode(rows[:100])),
            "probe.csv": to_csv(rows[:5]).encode(),
        }
        for name, data in files.items():
            self.platform.store.put_bytes(f"shapes/date={date}/{name}", data)

    def run(self, first: str, last: str, assets: Sequence[str] = (MODEL, ENDPOINT)) -> Any:
        return self.platform.run("shapes", first, last, assets=list(assets))

    def artifact(self, date: str) -> NDArray[np.float32]:
        """The centroids that a date's manifest points to."""
        store = self.platform.store
        data = store.get_bytes(f"pipelines/{MODEL}/date={date}/manifest.json", max_bytes=2**20)
        key = json.loads(data)["extra"]["artifact"]
        return ndarray_file.unpack_model(store.get_bytes(key, max_bytes=2**24))

    def ask(self, rows: NDArray[np.float32]) -> list[int]:
        """The clusters that the endpoint says."""
        answer = boto3.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.endpoint, ContentType="text/csv", Body=to_csv(rows)
        )
        predictions = json.loads(answer["Body"].read())["predictions"]
        return [int(prediction["closest_cluster"]) for prediction in predictions]

    def serves(self, date: str) -> bool:
        """Whether it answers as the model of a date does, by plain distances."""
        rows = shapes()[:40]
        distances = ((rows[:, None] - self.artifact(date)[None]) ** 2).sum(axis=2)
        return self.ask(rows) == distances.argmin(axis=1).tolist()

    def trainings(self) -> int:
        jobs = self.platform.store.list(f"pipelines/{MODEL}/work=")
        return sum(item.key.endswith("model.tar.gz") for item in jobs)


@pytest.fixture
def pipeline(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shapes]:
    name = f"shapes-{secrets.token_hex(4)}"
    yield Shapes(platform, tmp_path, name, monkeypatch)
    role = platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"]
    SageMakerResource(role_arn=role, poll_seconds=0.1).teardown(name, versions_too=True)


def test_a_form_is_a_pipeline_from_channels_to_an_endpoint_that_answers(
    pipeline: Shapes,
) -> None:
    assert len(FORM.splitlines()) <= 15
    platform, rows = pipeline.platform, shapes()
    assert build_defs().resolve_schedule_def("shapes_daily").cron_schedule == "0 2 * * *"
    pipeline.put(FIRST, rows[:700])
    pipeline.put(SAME, rows[:700])
    pipeline.put(THIRD, rows[700:1400])
    assert pipeline.run(FIRST, THIRD).success
    assert platform.materialized(MODEL) == {FIRST, SAME, THIRD}
    assert pipeline.trainings() == 2  # equal days have one model
    assert pipeline.serves(THIRD)
    assert not pipeline.serves(FIRST)

    # A day that is made anew of other data has another model, which is served.
    before = live_config(pipeline.endpoint)
    pipeline.put(THIRD, rows[1000:1700])
    assert pipeline.run(THIRD, THIRD).success
    assert live_config(pipeline.endpoint) != before
    assert pipeline.serves(THIRD)

    # A bad day stays out, with and without the check before the endpoint.
    live = live_config(pipeline.endpoint)
    noise = np.random.default_rng(0).uniform(0, 16, (400, 64)).astype(np.float32)
    pipeline.put(BAD, noise)
    bad = pipeline.run(BAD, BAD)
    assert "the gate asks for at most 900" in reason_of(bad)
    assert list(failed_checks(bad)) == ["good_enough"]
    assert pipeline.run(BAD, BAD, [ENDPOINT]).success
    assert live_config(pipeline.endpoint) == live

    # Where a person has to approve, the next good day waits for one.
    pipeline.write(approval="required")
    pipeline.put(LAST, rows[300:1000])
    assert pipeline.run(LAST, LAST).success
    assert live_config(pipeline.endpoint) == live
    (waiting,) = approval_findings(
        platform.instance,
        build_defs().resolve_all_asset_specs(),
        AlertSettings(ui_url="", late_after_hours=1, stuck_after_minutes=1, spend_limit=0),
        datetime.now(UTC),
    )
    assert isinstance(waiting, Problem)
    assert waiting.title == "A version of shapes/model waits for approval"
    form = DecisionForm(version=waiting.key.split()[-1], by="Ada", why="As good as yesterday's.")
    job = "approve_shapes_model"
    config = {"ops": {f"{job}_form": {"config": form.model_dump()}}}
    assert platform.run(job, LAST, config=config).success
    assert pipeline.serves(LAST)


def models_of(
    store: ObjectStore, gate: Gate, probe: Callable[[str], tuple[bytes, str]] | None = None
) -> TrainedModels:
    return TrainedModels(
        store,
        pipeline="shapes",
        judged=dg.AssetKey(MODEL.split("/")),
        served=dg.AssetKey(ENDPOINT.split("/")),
        prefix=f"pipelines/{MODEL}",
        names=EndpointJobs("approve", "reject", "override", "roll_back", "tear_down"),
        gate=gate,
        image=lambda region: f"kmeans-in-{region}",
        probe=probe,
    )


def put_model(store: ObjectStore, date: str, metric: str, value: float) -> TrainedModel:
    """A date's model, as its training publishes it, which passed the gate of that time."""
    artifact = f"pipelines/{MODEL}/work={date}/model.tar.gz"
    store.put_bytes(artifact, date.encode())
    extra = {"metric": metric, "value": value, "passed": True, "artifact": artifact}
    extra |= {"sha256": store.fingerprint(artifact).sha256}
    with Publication(date_folder(store, f"pipelines/{MODEL}", date)) as publication:
        published = publication.commit(partition=date, rows=1, code_version="1", extra=extra)
    return TrainedModel(published)


def test_models_are_judged_by_the_gate_as_it_is_now(platform: Platform) -> None:
    store, log = platform.store, dg.get_dagster_logger()
    sagemaker, endpoint = SageMakerResource(role_arn="not asked"), Endpoint(name="not-asked")
    old = put_model(store, FIRST, "test:msd", 700)

    def wanted(models: TrainedModels) -> str | None:
        choice = Serving(models, endpoint, sagemaker, log).choose([], None)
        return choice.wanted.date if choice.wanted else None

    loose = models_of(store, Gate(metric="test:msd", at_most=900))
    assert loose.judge(FIRST, lambda: None).passed
    assert wanted(loose) == FIRST
    tightened = models_of(store, Gate(metric="test:msd", at_most=500))
    assert not tightened.judge(FIRST, lambda: None).passed
    with pytest.raises(NotPublishedError, match="has passed its gate"):
        wanted(tightened)

    # Values of two metrics cannot be compared: 0.9 is not 699 better than 700, nor worse.
    other = models_of(store, Gate(metric="test:accuracy", at_least=0.5, max_drop=0.1))
    verdict = other.judge(FIRST, lambda: None)
    assert not verdict.passed
    assert "materialise shapes/model for 2026-02-01 again" in verdict.description
    put_model(store, THIRD, "test:accuracy", 0.9)
    verdict = other.judge(THIRD, lambda: old)
    assert verdict.passed
    assert "not compared with the live one" in verdict.description
    assert other.describe(old)["test:msd"] == 700
    assert wanted(other) == THIRD


def test_a_model_that_was_rolled_back_does_not_come_back_on_other_instances(
    platform: Platform,
) -> None:
    for date, value in ((FIRST, 700), (THIRD, 600)):
        put_model(platform.store, date, "test:msd", value)
    models = models_of(platform.store, Gate(metric="test:msd", at_most=900))
    newest, older = models.candidates(log=dg.get_dagster_logger())
    small, large = [
        Endpoint(name="e", instance_type=f"ml.m5.{size}") for size in ("large", "xlarge")
    ]
    now, name = datetime.now(UTC), small.version(newest.sha256)
    versions = [EndpointVersion(name, name, f"arn:{name}", (name,), now, now, now)]
    for endpoint in (small, large):
        sagemaker = SageMakerResource(role_arn="not asked")
        serving = Serving(models, endpoint, sagemaker, dg.get_dagster_logger())
        assert serving.choose([], None).wanted == newest
        assert serving.choose(versions, None).wanted == older


def test_a_copy_is_proved_with_what_it_was_deployed_with(platform: Platform) -> None:
    store, gate, asked = platform.store, Gate(metric="test:msd", at_most=900), list[Any]()
    model = put_model(store, FIRST, "test:msd", 700)
    models = models_of(store, gate, lambda date: (date.encode(), "text/plain"))
    copy = models.deployed.copy(model, "shapes")
    assert copy.artifact_uri.endswith("/model.tar.gz")

    def is_gone(date: str) -> tuple[bytes, str]:
        raise NotPublishedError(f"There is nothing of {date}.")

    def invoke(body: bytes, **options: Any) -> Invocation:
        asked.append((body, options))
        return Invocation(b" " if len(asked) > 1 else b"1", "text/csv", "")

    later = models_of(store, gate, is_gone)
    prove = later.proof(copy)
    assert prove is not None
    prove(invoke)
    assert asked == [(FIRST.encode(), {"content_type": "text/plain"})]
    with pytest.raises(EmptyAnswerError):
        prove(invoke)
    # What has no copy yet is not deployed without what would prove it.
    with pytest.raises(NotPublishedError):
        later.deployed.copy(model, "others")
    assert later.deployed.folder("others", model.sha256).published() is None


def test_a_version_that_cannot_be_approved_any_more_does_not_wait(platform: Platform) -> None:
    store, instance = platform.store, platform.instance
    version = put_model(store, FIRST, "test:msd", 700).sha256
    endpoint = Endpoint(name=platform.env["PLATFORM_ENDPOINT_NAME"], approval="required")
    sagemaker = SageMakerResource(role_arn=platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"])
    spec = dg.AssetSpec(dg.AssetKey(MODEL.split("/")), metadata={DECIDED_BY: "approve"})
    settings = AlertSettings(ui_url="", late_after_hours=1, stuck_after_minutes=1, spend_limit=0)

    def look(at_most: float) -> list[Finding]:
        """After a run of the endpoint with that gate."""
        models = models_of(store, Gate(metric="test:msd", at_most=at_most))

        @dg.op
        def reconcile(context: dg.OpExecutionContext) -> None:
            Serving(models, endpoint, sagemaker, context.log).reconcile(context)

        @dg.job
        def job() -> None:
            reconcile()

        job.execute_in_process(instance=instance, raise_on_error=False)
        return list(approval_findings(instance, [spec], settings, datetime.now(UTC)))

    (waits,) = look(at_most=900)
    assert isinstance(waits, Problem)
    assert version in waits.key
    assert look(at_most=500) == [Resolved(waits.key)]
    assert look(at_most=500) == [Resolved(waits.key)]
    assert len(instance.fetch_observations(spec.key, limit=9).records) == 2


def test_a_channel_is_what_an_asset_of_a_pipeline_has_published(platform: Platform) -> None:
    store = platform.store
    folder = dated_folder(store, "shapes/images", FIRST)
    with Publication(folder) as publication:
        publication.put("train.rec", b"one")
        publication.put("test.rec", b"two")
        publication.commit(partition=FIRST, rows=1, code_version="1")
    train = DatedInput.find("shapes/images:train.rec", store, FIRST)
    assert train.uri == folder.file_uri("train.rec")
    assert len(train.contents) == 1
    # The same bytes on another day are the same work.
    store.put_bytes("a/1/part.rec", b"one")
    store.put_bytes("a/2/part.rec", b"one")
    outside = [DatedInput.find(f"s3://{store.bucket}/a/{n}/", store, FIRST) for n in (1, 2)]
    assert outside[0].digest == outside[1].digest
    assert DatedInput.find("shapes/images:test.rec", store, FIRST).read(store) == b"two"
    with pytest.raises(NotPublishedError, match="put it there, or correct the channel"):
        DatedInput.find("shapes/images:validation.rec", store, FIRST)


@pytest.mark.parametrize(
    ("limit", "value", "passed"),
    [
        ({"at_most": 2}, 2.0, True),
        ({"at_most": 2}, 2.1, False),
        ({"at_least": 0.9}, 0.9, True),
        ({"at_least": 0.9}, 0.8, False),
    ],
)
def test_a_gate_knows_which_values_are_good(
    limit: dict[str, float], value: float, passed: bool
) -> None:
    gate = Gate.model_validate({"metric": "m", **limit})
    assert gate.judge({"metric/m": value})["passed"] is passed
    assert (gate.drop(1, 2) > 0) == ("at_least" in limit)
    with pytest.raises(MetricMissingError, match="measured no m, only other"):
        gate.judge({"metric/other": value})


def test_an_endpoint_serves_the_models_of_one_asset(tmp_path: Path) -> None:
    other = FORM.replace("shapes/model", "signs/model").replace(": shapes", ": Shapes")
    folder = write(tmp_path, {"shapes": FORM})
    with pytest.raises(PipelineError) as told:
        load_pipelines(folder, ReservedNames.of([], [], "SHAPES"))
    place = f"{folder}/shapes/defs.yaml:10"
    assert f"{place}: the endpoint shapes serves other models already, of the" in str(told.value)
    with pytest.raises(PipelineError) as told:
        load_pipelines(write(folder, {"signs": other}), ReservedNames())
    assert f"{folder}/signs/defs.yaml:10: the endpoint Shapes serves" in str(told.value)
    assert f"of {place}: give one of them another name" in str(told.value)


def test_the_repair_of_models_trains_none_again_unasked_and_names_the_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "pipelines", {"shapes": FORM})
    monkeypatch.setenv("PLATFORM_PIPELINES", str(folder))
    unused = dg.ResourceDefinition.none_resource()
    defs = build_defs(resource_overrides={"listings_store": unused, "sagemaker": unused})
    job = defs.resolve_job_def("repair_shapes")
    assert "materialise shapes/model_endpoint afterwards" in (job.description or "")
    outdated = {"ops": {"repair_shapes_dates": {"config": {"which": "outdated"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(run_config=outdated, instance=instance, raise_on_error=False)
        assert "shapes/model is left out" in reason_of(run)


@pytest.mark.parametrize(
    ("before", "after", "line", "remedy"),
    [
        ("  channels:", "  chanels:", 5, "did you mean channels?"),
        ("algorithm: kmeans", "algorithm: kmean", 4, "Known are: factorization-machines"),
        ("at_most: 900", "at_most: 900, at_least: 1", 9, "a gate has one limit"),
        ("s3://my-bucket/shapes/date={date}/test/", "Test", 7, "write it as s3://bucket/prefix/"),
        ("s3://my-bucket/shapes/date={date}/test/", "a/b", 7, "a colon a file of it: shapes/"),
        ("  endpoint: shapes\n", "", 2, "a probe and an approval are for an endpoint"),
        ("  gate:", "  metrics: {a: a=(.*)}\n  gate:", 9, "algorithm has its own metrics"),
        ("kmeans", "my/image:1\n  metrics: {a: a=.*}", 5, "one group, around the value"),
        ("kmeans", "my/image:1\n  metrics: {a: a=(.*}", 5, "is no regular expression"),
    ],
)
def test_what_is_wrong_in_a_form_is_told_with_its_line_and_what_to_do(
    before: str, after: str, line: int, remedy: str, tmp_path: Path
) -> None:
    file = write(tmp_path, {"shapes": FORM.replace(before, after)}) / "shapes" / "defs.yaml"
    with pytest.raises(PipelineError) as told:
        load_pipelines(tmp_path, ReservedNames())
    assert f"{file}:{line}: " in str(told.value)
    assert remedy in str(told.value)
