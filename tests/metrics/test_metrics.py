"""The metrics are the platform's numbers; those of a service that is down are left out."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from metrics.collector import load
from tests.conftest import CHECKOUT, free_port_base
from tests.deploy.test_prometheus import FOLDER, metrics_used
from tests.formats.test_http_limits import SLOW_HEAD, Peer
from tests.monitoring.conftest import AlertsRig
from tests.platform_assets.conftest import Platform
from tests.platform_assets.mnist_rig import put_classifier, put_digits

DATE, NEXT = "2026-01-05", "2026-01-06"
Samples = dict[tuple[str, tuple[str, ...]], float]


def read_text(text: str) -> tuple[Samples, set[str]]:
    """(metric, values of its labels) → number; and the names of all metrics, empty ones too."""
    families = list(text_string_to_metric_families(text))
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    return samples, {family.name for family in families}


def scrape() -> tuple[Samples, set[str]]:
    registry = CollectorRegistry()
    registry.register(load())
    return read_text(generate_latest(registry).decode())


def test_the_metrics_are_the_platforms_numbers(
    rig: AlertsRig, digits: Platform, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_PRICE_PER_HOUR", '{"ml.m5.large": 1000000}')
    put_digits(digits, DATE)
    served = put_classifier(digits, DATE, 1000)
    assert digits.run("digits", DATE, assets=["mnist/endpoint"]).success
    for date, rows in ((NEXT, 30), (DATE, 20)):  # the newest day is recorded first
        rig.record("airbnb/snapshot", date, **{"dagster/partition_row_count": rows})
    rig.record("mnist/model", DATE, estimated_cost=2.5)
    rig.record_run("listings", dg.DagsterRunStatus.STARTED)

    samples, names = scrape()
    begin = datetime.fromisoformat(NEXT).replace(tzinfo=UTC).timestamp()
    assert samples["platform_newest_partition_timestamp_seconds", ("airbnb/snapshot",)] == begin
    assert samples["platform_newest_partition_rows", ("airbnb/snapshot",)] == 30
    assert samples["platform_runs", ("SUCCESS",)] == 1
    assert samples["platform_runs", ("STARTED",)] == 1
    assert samples["platform_runs", ("QUEUED",)] == 0
    accuracy = served.files.manifest.extra["accuracy"]
    assert samples["platform_live_model_accuracy", ()] == pytest.approx(accuracy)
    assert samples["platform_endpoint_in_service", ()] == 1
    assert 0 < samples["platform_endpoint_latency_seconds", ()] < 5
    assert samples["platform_estimated_spend", ("training",)] == 2.5
    assert samples["platform_estimated_spend", ("endpoint",)] > 0
    for source in ("dagster", "sagemaker", "s3"):
        assert samples["platform_source_up", (source,)] == 1

    for file in ("rules.yml", "dashboard.json"):
        assert metrics_used(FOLDER / file) <= names


ASSETS = {"adds_up": "neighbourhood_summary", "real_rises_and_falls": "price_changes"}


@pytest.mark.parametrize("level", ["error", "warn"])
def test_a_failed_check_is_1_with_its_level_and_a_passed_one_is_0(
    rig: AlertsRig, platform: Platform, level: str
) -> None:
    for name, passed in (("adds_up", True), ("real_rises_and_falls", False)):
        platform.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(["airbnb", ASSETS[name]]),
                check_name=name,
                passed=passed,
                severity=dg.AssetCheckSeverity[level.upper()],
            )
        )
    samples, _ = scrape()
    checks = {labels: value for (name, labels), value in samples.items() if "check" in name}
    assert checks == {
        ("airbnb/neighbourhood_summary", "adds_up", level): 0,
        ("airbnb/price_changes", "real_rises_and_falls", level): 1,
    }


def test_each_required_daemon_has_a_heartbeat_metric(rig: AlertsRig, platform: Platform) -> None:
    """Also one that has never run; here none has."""
    beats = {
        labels[0]: value for (name, labels), value in scrape()[0].items() if "heartbeat" in name
    }
    assert beats == dict.fromkeys(platform.instance.get_required_daemon_types(), 0)
    assert {"SENSOR", "SCHEDULER"} <= beats.keys()


def test_only_what_a_running_schedule_makes_is_scheduled(
    rig: AlertsRig, platform: Platform
) -> None:
    since = datetime(2026, 1, 5, tzinfo=UTC)
    rig.schedule_since(since)
    samples, _ = scrape()
    since_when = "platform_scheduled_since_timestamp_seconds"
    scheduled = {labels[0]: at for (name, labels), at in samples.items() if name == since_when}
    assert scheduled["airbnb/snapshot"] == since.timestamp()
    assert all(asset.startswith("airbnb/") for asset in scheduled), "digits_daily is stopped"
    # At 00:30.
    assert samples["platform_scheduled_after_seconds", ("airbnb/snapshot",)] == 1800
    for state in platform.instance.all_instigator_state():
        platform.instance.update_instigator_state(state.with_status(type(state.status).STOPPED))
    assert not any("scheduled" in name for name, _ in scrape()[0])


def test_the_time_of_the_last_failed_run_is_a_metric(rig: AlertsRig) -> None:
    assert ("platform_last_failed_run_timestamp_seconds", ()) not in scrape()[0]
    began = datetime.now(UTC).timestamp()
    rig.fail("listings")
    ended = scrape()[0]["platform_last_failed_run_timestamp_seconds", ()]
    assert began <= ended <= datetime.now(UTC).timestamp()


def test_partitions_are_read_again_only_for_assets_that_were_materialised(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    get_materialized_partitions = dg.DagsterInstance.get_materialized_partitions

    def count(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
        read.append(key.to_user_string())
        return get_materialized_partitions(instance, key)

    monkeypatch.setattr(dg.DagsterInstance, "get_materialized_partitions", count)
    monkeypatch.setattr("metrics.collector.CACHE_SECONDS", 0)
    registry = CollectorRegistry()
    registry.register(load())
    rig.record_day(DATE, ["airbnb/snapshot", "mnist/raw"])
    generate_latest(registry)
    read.clear()
    rig.record_day(NEXT, ["airbnb/snapshot"])
    samples, _ = read_text(generate_latest(registry).decode())
    begin = datetime.fromisoformat(NEXT).replace(tzinfo=UTC).timestamp()
    assert samples["platform_newest_partition_timestamp_seconds", ("airbnb/snapshot",)] == begin
    assert read == ["airbnb/snapshot"]


def test_the_cost_of_an_endpoint_is_known_after_its_teardown_and_a_restart(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_PRICE_PER_HOUR", '{"ml.m5.large": 1000000}')

    def cost() -> float:
        return scrape()[0]["platform_estimated_spend", ("endpoint",)]

    assert cost() == 0
    rig.record("mnist/endpoint")
    first = cost()
    rig.succeed("teardown_endpoint")
    torn_down = cost()
    assert 0 < first < torn_down == cost()
    rig.record("mnist/endpoint")
    assert cost() > torn_down


def test_a_service_that_cannot_be_reached_gives_no_sample_and_no_error(
    rig: AlertsRig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.record("airbnb/snapshot", DATE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    samples, names = scrape()
    assert samples["platform_source_up", ("sagemaker",)] == 0
    assert "sagemaker could not be read: " in caplog.text
    assert "could not be done: " in caplog.text, "in a sentence"
    assert samples["platform_source_up", ("dagster",)] == 1
    assert "platform_endpoint_in_service" not in names
    assert ("platform_newest_partition_timestamp_seconds", ("airbnb/snapshot",)) in samples


@pytest.mark.usefixtures("rig")
def test_the_process_serves_the_metrics_until_it_is_terminated() -> None:
    """To a program that uses an allowed host name, and not to a web page of another origin."""
    port = int(free_port_base())
    process = subprocess.Popen(
        [sys.executable, "-m", "metrics", "--port", str(port)],
        cwd=CHECKOUT,
        env=os.environ | {"PLATFORM_ALLOWED_HOSTS": "metrics"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        answer = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=answer, timeout=120, trust_env=False) as client:

            def get(**headers: str) -> httpx.Response:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return client.get(f"http://127.0.0.1:{port}/metrics", headers=named)

            for foreign in (
                {"host": "evil.example"},
                {"origin": "http://evil.example"},
                {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
            ):
                refused = get(**foreign)
                assert refused.status_code == 403
                assert "platform_" not in refused.text
            assert get(x_padding="a" * 200_000).status_code == 431
            slow = Peer(port, SLOW_HEAD)
            for host in (f"127.0.0.1:{port}", f"metrics:{port}"):
                reply = get(host=host)
                assert reply.status_code == 200
                assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
                samples, _ = read_text(reply.text)
                assert samples["platform_source_up", ("dagster",)] == 1
            assert slow.answer()[0] == 408
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM, errors
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in errors + reply.text
