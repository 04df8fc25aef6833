"""Alarms: the requests about them, when they are judged, and who waits for one.

They are kept in the store. How a state follows from data is in alarm_states.py.
"""

import asyncio
import json
import logging
import time
from collections.abc import Collection

from sagemaker_local import alarm_states, names
from sagemaker_local.aws_errors import AwsError, validation
from sagemaker_local.config import Config
from sagemaker_local.metrics import KEPT_SECONDS, Metric, Metrics
from sagemaker_local.pages import fingerprint_of, page
from sagemaker_local.store import Document, Store

_log = logging.getLogger(__name__)
_KIND = names.ALARM
_AGAIN_SECONDS = 10.0
_PAGE = 100
_NEEDED = (
    "MetricName",
    "Namespace",
    "Statistic",
    "Period",
    "EvaluationPeriods",
    "Threshold",
    "ComparisonOperator",
)
# Members that are kept or change nothing; any other asks for what is not offered.
_TAKEN = (
    *_NEEDED,
    *("AlarmName", "AlarmDescription", "Dimensions", "Unit", "DatapointsToAlarm"),
    *("TreatMissingData", "ActionsEnabled", "OKActions", "AlarmActions"),
    *("InsufficientDataActions", "Tags"),
)
_STATE = (
    "StateValue",
    "StateReason",
    "StateReasonData",
    "StateUpdatedTimestamp",
    "StateTransitionedTimestamp",
)


class Alarms:
    """All alarms, and those who wait for one."""

    def __init__(self, config: Config, store: Store, metrics: Metrics) -> None:
        self._config = config
        self._store = store
        self._metrics = metrics
        # Name to when a state that was set by hand ends.
        self._held: dict[str, float] = {}
        self._waiting: dict[asyncio.Future[Document], Collection[str]] = {}

    def put(self, request: Document) -> Document:
        """PutMetricAlarm: a changed alarm keeps its state."""
        _check(request)
        now = time.time()
        document: Document = {
            "ActionsEnabled": True,
            "OKActions": [],
            "AlarmActions": [],
            "InsufficientDataActions": [],
            "Dimensions": [],
            **{member: value for member, value in request.items() if member != "Tags"},
            "AlarmArn": names.alarm_arn(self._config, request["AlarmName"]),
            "AlarmConfigurationUpdatedTimestamp": now,
        }
        state: Document = {
            "StateValue": "INSUFFICIENT_DATA",
            "StateReason": "Unchecked: Initial alarm creation",
            "StateUpdatedTimestamp": now,
            "StateTransitionedTimestamp": now,
        }

        def change(known: Document) -> str:
            kept = {member: known[member] for member in _STATE if member in known}
            known.clear()
            known.update(document, **kept)
            return known["StateValue"]

        name = request["AlarmName"]
        with self._store.transaction():
            if self._store.update(_KIND, name, change) is None:
                self._store.insert(_KIND, name, document | state, state["StateValue"])
        return {}

    def describe(self, request: Document) -> Document:
        """DescribeAlarms, in the order of names."""
        for member in ("ChildrenOfAlarmName", "ParentsOfAlarmName"):
            if member in request:
                raise validation(f"{member} is not supported here: there are no composite alarms.")
        if "MetricAlarm" not in request.get("AlarmTypes", ["MetricAlarm"]):
            return {"MetricAlarms": [], "CompositeAlarms": []}
        state, prefix = request.get("StateValue"), request.get("AlarmNamePrefix", "")
        wanted = request.get("AlarmNames")
        chosen = [
            alarm
            for alarm in self._all()
            if (wanted is None or alarm["AlarmName"] in wanted)
            and alarm["AlarmName"].startswith(prefix)
            and state in (None, alarm["StateValue"])
        ]
        limit = request.get("MaxRecords", _PAGE)
        fingerprint = fingerprint_of("MetricAlarms", request)
        shown, token = page(chosen, fingerprint, request.get("NextToken"), limit)
        return {"MetricAlarms": shown, "CompositeAlarms": [], "NextToken": token}

    def delete(self, request: Document) -> Document:
        """DeleteAlarms: all of them, or none where one does not exist."""
        with self._store.transaction():
            for name in set(request["AlarmNames"]):
                if not self._store.delete(_KIND, name, names.alarm_arn(self._config, name)):
                    raise _missing(name)
                self._held.pop(name, None)
        return {}

    def set_state(self, request: Document) -> Document:
        """SetAlarmState: the state holds for one period, and is judged anew then."""
        name = request["AlarmName"]
        alarm = self._store.get(_KIND, name)
        if alarm is None:
            raise _missing(name)
        seconds = max(alarm["Period"] * self._config.wait_scale, self._metrics.step_seconds)
        self._held[name] = time.monotonic() + seconds
        self._enter({member: request[member] for member in _STATE if member in request}, name)
        return {}

    def require(self, wanted: Collection[str]) -> None:
        """Refuses names that no alarm has.

        Raises:
            AwsError: The first of them.
        """
        for name in wanted:
            if self._store.get(_KIND, name) is None:
                raise validation(f'Could not find alarm "{names.alarm_arn(self._config, name)}".')

    async def run(self) -> None:
        """Judges all alarms whenever there may be new data; never returns."""
        while True:
            await asyncio.sleep(self._metrics.step_seconds)
            try:
                await asyncio.to_thread(self._judge_all)
            except AwsError as full:
                _log.warning("alarms: %s", full)
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:
                _log.exception("alarms")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def tripped(self, watched: Collection[str], seconds: float) -> Document | None:
        """Waits so long, or until one of these alarms is in ALARM; returns that one."""
        waiting: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = watched
        try:
            # After the line above: what happens in between is noticed twice rather than never.
            for name in watched:
                alarm = await asyncio.to_thread(self._store.get, _KIND, name)
                if alarm is not None and alarm["StateValue"] == "ALARM":
                    return alarm
            async with asyncio.timeout(seconds):
                return await waiting
        except TimeoutError:
            return None
        finally:
            del self._waiting[waiting]

    def _all(self) -> list[Document]:
        rows = self._store.execute(
            "SELECT document FROM resource WHERE kind = ? ORDER BY name", (_KIND,)
        )
        return [json.loads(row["document"]) for row in rows]

    def _judge_all(self) -> None:
        for alarm in self._all():
            if self._held.get(alarm["AlarmName"], 0.0) > time.monotonic():
                continue
            metric = Metric.parse(alarm["Namespace"], alarm)
            newest = self._metrics.newest(
                metric, alarm.get("Unit"), alarm["Period"], alarm["EvaluationPeriods"]
            )
            statistic = alarm["Statistic"]
            values = [(at, data.value(statistic) if data else None) for at, data in newest]
            state = alarm_states.judge(alarm, values)
            if state is not None and state["StateValue"] != alarm["StateValue"]:
                self._enter(state, alarm["AlarmName"], alarm)

    def _enter(self, state: Document, name: str, judged: Document | None = None) -> None:
        """Writes a state, unless the alarm is no longer the one that was judged."""
        now = time.time()

        def change(alarm: Document) -> str | None:
            if judged is not None and alarm != judged:
                return None
            if alarm["StateValue"] != state["StateValue"]:
                alarm["StateTransitionedTimestamp"] = now
            alarm.pop("StateReasonData", None)
            alarm.update(state, StateUpdatedTimestamp=now)
            return alarm["StateValue"]

        alarm = self._store.update(_KIND, name, change)
        if alarm is None or alarm["StateValue"] != "ALARM":
            return
        for waiting, watched in list(self._waiting.items()):
            if name in watched:
                waiting.get_loop().call_soon_threadsafe(_give, waiting, alarm)


def _give(waiting: asyncio.Future[Document], alarm: Document) -> None:
    if not waiting.done():
        waiting.set_result(alarm)


def _missing(name: str) -> AwsError:
    return AwsError("ResourceNotFound", f"There is no alarm {name}.", 404)


def _check(request: Document) -> None:
    """Refuses what no alarm can be made of, and what is not offered.

    Raises:
        AwsError: The first that is wrong.
    """
    for member in request:
        if member not in _TAKEN:
            raise validation(
                f"{member} is not supported here: an alarm is about one metric, by its Statistic."
            )
    for member in _NEEDED:
        if member not in request:
            raise validation(f"The parameter {member} is required for an alarm about a metric.")
    period, periods = request["Period"], request["EvaluationPeriods"]
    if period not in (10, 20, 30) and period % 60:
        raise validation("Period must be 10, 20, 30 or a multiple of 60.")
    if period * periods > KEPT_SECONDS:
        raise validation(
            f"Data is kept for three hours here: EvaluationPeriods * Period must be <= "
            f"{KEPT_SECONDS}."
        )
    if request.get("DatapointsToAlarm", 1) > periods:
        raise validation("DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
    for member, known in (
        ("ComparisonOperator", tuple(alarm_states.OPERATORS)),
        ("TreatMissingData", alarm_states.TREATMENTS),
    ):
        if request.get(member, known[0]) not in known:
            raise validation(f"{member} must be one of {', '.join(known)}.")
