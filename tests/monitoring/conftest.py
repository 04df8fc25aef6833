"""The platform with records of its schedules, and a receiver of its alerts."""

import dataclasses
import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from platform_assets.airbnb import listings_chain
from tests.conftest import CHECKOUT, clean_environ
from tests.platform_assets.conftest import (  # noqa: F401 - fixtures are found by their names
    Platform,
    definitions,
    digits,
    endpoint,
    table,
)
from tests.platform_assets.conftest import platform as platform_with_records_in_memory  # noqa: F401
from tests.receivers import Receiver, webhook

LISTINGS = [asset.key.to_user_string() for asset in listings_chain.ASSETS]


@dataclass
class AlertsRig:
    """Evaluates the sensor, and reads what arrived.

    Attributes:
        platform: Is watched.
        receiver: Gets the messages.
        cursor: Of the last tick.
        skip_reason: Of the last tick.
    """

    platform: Platform
    receiver: Receiver
    cursor: str | None = None
    skip_reason: str = ""
    _read: int = field(default=0)

    def tick(self, at: datetime | None = None) -> list[str]:
        """Evaluate the sensor as if it were that time, and return the messages that it sent."""
        defs = definitions()
        names = ("alerts", "alert_settings", "endpoint", "sagemaker")
        with (
            pytest.MonkeyPatch.context() as patch,
            dg.build_sensor_context(
                instance=self.platform.instance,
                cursor=self.cursor,
                resources={name: (defs.resources or {})[name] for name in names},
                repository_def=defs.get_repository_def(),
            ) as context,
        ):
            patch.setattr("jobs.alerts.utc_now", lambda: at or datetime.now(UTC))
            answer = defs.resolve_sensor_def("alerts").evaluate_tick(context)
        self.cursor = answer.cursor if answer.cursor is not None else self.cursor
        self.skip_reason = str(answer.skip_message)
        texts = self.receiver.texts()[self._read :]
        self._read += len(texts)
        return texts

    def record_run(
        self,
        job: str,
        status: dg.DagsterRunStatus,
        tags: Mapping[str, str] | None = None,
        config: Mapping[str, Mapping[str, str]] | None = None,
    ) -> dg.DagsterRun:
        """Record a run, as Dagster's daemon does when it starts one; config: op → fields."""
        ops = {op: {"config": dict(fields)} for op, fields in (config or {}).items()}
        return self.platform.instance.create_run_for_job(
            _resolve_job(job),
            status=status,
            tags=tags,
            run_config={"ops": ops} if ops else None,
        )

    def fail(self, job: str, reason: str = "It broke.", **run: Any) -> None:
        """Record a run that failed."""
        started = self.record_run(job, dg.DagsterRunStatus.STARTED, **run)
        self.platform.instance.report_run_failed(started, reason)

    def succeed(self, job: str, **run: Any) -> None:
        """Record a run that succeeded."""
        started = self.record_run(job, dg.DagsterRunStatus.STARTED, **run)
        self.platform.instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job), started.run_id
        )

    def schedule_since(self, moment: datetime) -> None:
        """Record that the daily schedule of the listings has run since a moment."""
        for state in self.platform.instance.all_instigator_state():
            data: Any = state.instigator_data
            self.platform.instance.update_instigator_state(
                state.with_data(type(data)(data.cron_schedule, moment.timestamp()))
            )

    def record(self, asset: str, date: str | None = None, **metadata: Any) -> None:
        """Record that an asset was materialised."""
        self.platform.instance.report_runless_asset_event(
            dg.AssetMaterialization(asset.split("/"), partition=date, metadata=metadata)
        )

    def record_day(self, date: str, assets: Sequence[str]) -> None:
        """Record that a date of some assets was materialised, with rows."""
        for asset in assets:
            self.record(asset, date, **{"dagster/partition_row_count": 100})


@functools.cache
def _resolve_job(name: str) -> dg.JobDefinition:
    return definitions().resolve_job_def(name)


@pytest.fixture(scope="session")
def records_with_schedules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME in which a person has started the daily schedule of the listings."""
    home = tmp_path_factory.mktemp("records")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    subprocess.run(
        [
            *(Path(sys.executable).with_name("dagster"), "schedule", "start", "listings_daily"),
            *("-m", "platform_assets.definitions"),
        ],
        cwd=CHECKOUT,
        env=clean_environ(DAGSTER_HOME=str(home)),
        check=True,
        capture_output=True,
    )
    return home


@pytest.fixture
def platform(
    platform_with_records_in_memory: Platform,  # noqa: F811
    records_with_schedules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Platform]:
    """The platform, whose daily schedules run from now on."""
    home = tmp_path / "records"
    shutil.copytree(records_with_schedules, home)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        yield dataclasses.replace(platform_with_records_in_memory, instance=instance)


@pytest.fixture
def rig(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[AlertsRig]:
    """The sensor of the platform, with a webhook as its target."""
    with webhook() as receiver:
        monkeypatch.setenv("PLATFORM_ALERTS", receiver.url)
        # A machine with other work may be slower than an endpoint is allowed to be.
        monkeypatch.setattr("jobs.alerts.ANSWER_SECONDS", 60)
        yield AlertsRig(platform, receiver)
