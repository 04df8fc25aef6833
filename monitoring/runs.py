"""Runs that failed and were not made good since, and runs that hang."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from monitoring.problems import Problem
from monitoring.watch import Watch
from platform_assets.mnist.classifier import accuracy_above_gate
from platform_assets.mnist.endpoint import mnist_endpoint

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
# Set by Dagster on a run whose worker was lost, and which it starts again by itself.
_WILL_RETRY = "dagster/will_retry"
# What a step raises where a blocking check of another step has failed.
_CHECK_FAILED = "DagsterAssetCheckFailedError"
_GATE = frozenset(accuracy_above_gate.check_keys)
_MOST_RUNS = 200
_MOST_LATER_RUNS = 20
_PAGE = 1000
_MOST_REASONS = 3
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_WORKING = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_Missing = Mapping[dg.AssetKey, Set[str | None]]


def failed_runs(instance: dg.DagsterInstance, watch: Watch, now: datetime) -> Iterator[Problem]:
    """A problem for each failed run, until the same was done by a later run.

    A run that a person cancelled is none, and one that Dagster will start again is none yet. Of
    several failed runs of the same work the newest one counts.
    """
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=watch.since(now)),
        limit=_MOST_RUNS,
    )
    keys: set[str] = set()
    for record in records:
        key = work_key(record.dagster_run)
        if key in keys or record.dagster_run.tags.get(_WILL_RETRY) == "true":
            continue
        keys.add(key)
        if not _succeeded_later(instance, record):
            missing = _not_made(instance, record.dagster_run.run_id)
            failure = _read_failure(instance, record.dagster_run.run_id)
            if not _made_later(instance, record, missing, failure):
                yield _describe(watch, record.dagster_run, missing, failure, _end(record))


def stuck_runs(instance: dg.DagsterInstance, watch: Watch, now: datetime) -> Iterator[Problem]:
    """A problem for each run that has been at work for too long, and one for the whole queue."""
    limit = f"{watch.stuck_after_minutes:g} minutes"
    before = now - timedelta(minutes=watch.stuck_after_minutes)

    def unchanged(*statuses: dg.DagsterRunStatus) -> list[dg.RunRecord]:
        filters = dg.RunsFilter(statuses=list(statuses), updated_before=before)
        return list(instance.get_run_records(filters, limit=_MOST_RUNS))

    for record in unchanged(*_WORKING):
        run = record.dagster_run
        planned = instance.get_asset_partitions_for_run(
            run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        )
        yield Problem(
            key=work_key(run),
            title=f"A run of {run.job_name} hangs",
            assets=_asset_names(planned),
            dates=_dates(run, planned),
            reason=f"It has been {run.status.value} for longer than {limit}.",
            to_do="Read the run's log; terminate it if nothing happens, and run it again.",
            link=watch.link(f"runs/{run.run_id}"),
        )
    if unchanged(*_WAITING):
        yield Problem(
            key="queue",
            title="Runs wait in the queue",
            reason=f"A run has not been started for longer than {limit}.",
            to_do="Look whether Dagster's daemon works, and which runs hold the places.",
            link=watch.link("runs/queued"),
        )


def work_key(run: dg.DagsterRun) -> str:
    """What a run is to do, equal for a re-run of the same: job, partitions and selection."""
    selected = sorted(key.to_user_string() for key in run.asset_selection or ())
    checks = sorted(str(key) for key in run.asset_check_selection or ())
    partitions = [run.tags.get(tag, "") for tag in (PARTITION, RANGE_START, RANGE_END)]
    digest = hashlib.sha256(repr([partitions, selected, checks]).encode()).hexdigest()[:12]
    return f"run {run.job_name} {digest}"


def _succeeded_later(instance: dg.DagsterInstance, failed: dg.RunRecord) -> bool:
    run = failed.dagster_run
    tags = {tag: run.tags[tag] for tag in (PARTITION, RANGE_START, RANGE_END) if tag in run.tags}
    later = instance.get_run_records(
        dg.RunsFilter(
            job_name=run.job_name,
            statuses=[dg.DagsterRunStatus.SUCCESS],
            tags=tags,
            created_after=failed.create_timestamp,
        ),
        limit=_MOST_LATER_RUNS,
    )
    return any(work_key(record.dagster_run) == work_key(run) for record in later)


def _not_made(instance: dg.DagsterInstance, run_id: str) -> _Missing:
    """What a run was to materialise and did not: asset → partitions, None for an asset without."""
    planned = instance.get_asset_partitions_for_run(
        run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    done = instance.get_asset_partitions_for_run(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)
    missing = {key: set(parts) - set(done.get(key, ())) for key, parts in planned.items()}
    return {key: parts for key, parts in missing.items() if parts}


def _made_later(
    instance: dg.DagsterInstance, failed: dg.RunRecord, missing: _Missing, failure: "_Failure"
) -> bool:
    """Whether all that a run left out was materialised after its end, by whichever runs."""
    if not missing:
        return False
    end = _end(failed)
    if failure.gate_refused:
        dates = failure.refused_dates or _dates(failed.dagster_run, missing)
        return _deployed_later(instance, max(dates, default=""), end)
    return all(
        _all_materialized_since(instance, key, {date for date in partitions if date}, end)
        for key, partitions in missing.items()
    )


def _all_materialized_since(
    instance: dg.DagsterInstance, key: dg.AssetKey, dates: Set[str], end: float
) -> bool:
    """Whether each of these dates was materialised after a moment; without dates, the asset."""
    later = dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=sorted(dates) or None, after_timestamp=end
    )
    remaining, any_at_all, cursor = set(dates), False, None
    while True:
        page = instance.fetch_materializations(later, limit=_PAGE, cursor=cursor)
        any_at_all = any_at_all or bool(page.records)
        remaining -= {record.partition_key for record in page.records}
        if not page.has_more or (any_at_all and not remaining):
            return any_at_all and not remaining
        cursor = page.cursor


def _deployed_later(instance: dg.DagsterInstance, date: str, end: float) -> bool:
    """Whether a classifier of that date, or of a later one, came into service since."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=mnist_endpoint.key, after_timestamp=end),
        limit=_MOST_LATER_RUNS,
    ).records
    served = (record.asset_materialization for record in records)
    dates = (event.metadata.get("classifier_date") for event in served if event)
    return any(str(value.value) >= date for value in dates if value)


def _describe(
    watch: Watch, run: dg.DagsterRun, missing: _Missing, failure: "_Failure", ended: float
) -> Problem:
    title = f"{run.job_name} failed"
    to_do = "Read the run's log, mend what it says, and materialise the same again."
    assets, dates = _asset_names(missing), _dates(run, missing)
    if failure.gate_refused:
        title = "A classifier is not deployed: its gate refused it"
        to_do = (
            "What was live still is. Look at the check accuracy_above_gate of mnist/classifier; "
            "train on better digits, or change min_accuracy and max_drop."
        )
        assets, dates = ["mnist/classifier"], sorted(failure.refused_dates) or dates
    elif mnist_endpoint.key in missing and failure.steps == {mnist_endpoint.op.name}:
        title = "A deployment failed"
        to_do = "What was live before still is. Read the run's log and run digits again."
    return Problem(
        key=work_key(run),
        title=title,
        assets=assets,
        dates=dates,
        reason=" ".join(failure.reasons),
        to_do=to_do,
        link=watch.link(f"runs/{run.run_id}"),
        since=ended,
    )


def _end(record: dg.RunRecord) -> float:
    return record.update_timestamp.timestamp()


@dataclass(frozen=True)
class _Failure:
    """Why a run failed, by its own records.

    Attributes:
        steps: Keys of the steps that failed.
        reasons: In words.
        gate_refused: Whether a classifier was refused by its gate.
        refused_dates: Of these classifiers, where the run told them.
    """

    steps: Set[str]
    reasons: Sequence[str]
    gate_refused: bool
    refused_dates: Set[str]


def _read_failure(instance: dg.DagsterInstance, run_id: str) -> _Failure:
    steps: set[str] = set()
    reasons: list[str] = []
    lost: list[str] = []
    verdicts: dict[dg.AssetCheckKey, str] = {}
    refused_dates: set[str] = set()
    ends = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for log in instance.all_logs(run_id, of_type=ends):
        event = log.dagster_event
        if event and event.event_type is dg.DagsterEventType.STEP_FAILURE:
            steps.add(event.step_key or "")
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                reasons.append(data.user_failure_data.description)
            elif data.error and data.error.cls_name == _CHECK_FAILED:
                verdicts, refused_dates = _read_checks(instance, run_id)
            elif data.error:
                reasons.append(_first_line(data.error.message))
        elif event:
            lost.append(_first_line(event.message or "Its process ended without a word."))
    reasons += [f"{key.name}: {description}" for key, description in verdicts.items()]
    return _Failure(
        steps=steps,
        # Without a failed step its process was lost, or it could not be started.
        reasons=list(dict.fromkeys(reasons or lost))[:_MOST_REASONS],
        gate_refused=bool(verdicts.keys() & _GATE),
        refused_dates=refused_dates,
    )


def _read_checks(
    instance: dg.DagsterInstance, run_id: str
) -> tuple[dict[dg.AssetCheckKey, str], set[str]]:
    """What the failed blocking checks of a run said, and which dates the gate refused."""
    verdicts: dict[dg.AssetCheckKey, str] = {}
    refused_dates: set[str] = set()
    for log in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        if log.dagster_event is None:
            continue
        evaluation = log.dagster_event.asset_check_evaluation_data
        if evaluation.passed:
            continue
        if evaluation.blocking:  # those of single dates are not marked so
            verdicts[evaluation.asset_check_key] = evaluation.description or ""
        if evaluation.partition and evaluation.asset_check_key in _GATE:
            refused_dates.add(evaluation.partition)
    return verdicts, refused_dates


def _first_line(message: str) -> str:
    return message.strip().split("\n", 1)[0]


def _asset_names(assets: _Missing) -> list[str]:
    return sorted(key.to_user_string() for key in assets)


def _dates(run: dg.DagsterRun, missing: _Missing) -> list[str]:
    """The dates that are missing; those that the run was for where it is not known which are."""
    dates = {date for partitions in missing.values() for date in partitions if date}
    asked = [run.tags[tag] for tag in (PARTITION, RANGE_START, RANGE_END) if tag in run.tags]
    return sorted(dates) or sorted(set(asked))
