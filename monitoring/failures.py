"""Why a run failed, as its own log tells."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import dagster as dg

from platform_assets.mnist.classifier import accuracy_above_gate

# What a step raises where a blocking check of another step has failed.
_CHECK_FAILED = "DagsterAssetCheckFailedError"
_GATE = frozenset(accuracy_above_gate.check_keys)
_MOST_REASONS = 3


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed, by its own records.

    Attributes:
        refused_dates: Of the classifiers that their gate refused, where the run told them.
    """

    steps: Set[str]
    reasons: Sequence[str]
    gate_refused: bool
    refused_dates: Set[str]


def read_failure(instance: dg.DagsterInstance, run_id: str) -> RunFailure:
    """Read a run's log for why it failed."""
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
    return RunFailure(
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
