"""How the state of an alarm follows from its data, and AWS's words for why.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
"""

import operator
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sagemaker_local.store import Document

OPERATORS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")
_FILLED = {"breaching": "Breaching", "notBreaching": "NonBreaching"}
# The service model's limit.
_REASON_CHARACTERS = 1023


def judge(alarm: Document, newest: Sequence[tuple[float, float | None]]) -> Document | None:
    """The state that an alarm has by its data.

    Args:
        alarm: What PutMetricAlarm stored.
        newest: When each of its periods began, and its statistic or None without data.

    Returns:
        `StateValue` and `StateReason`, or None where the state stays as it is.
    """
    compare, _ = OPERATORS[alarm["ComparisonOperator"]]
    treatment = alarm.get("TreatMissingData", "missing")
    present = [value for _, value in newest if value is not None]
    missing = len(newest) - len(present)
    breaching = sum(compare(value, alarm["Threshold"]) for value in present)
    # Where all data there is breaches, what lacks decides.
    undecided = missing > 0 and breaching == len(present)
    if treatment == "ignore" and undecided and breaching < _needed(alarm):
        return None
    if treatment == "missing" and not present:
        noun = "datapoint was" if missing == 1 else "datapoints were"
        reason = f"Insufficient Data: {missing} {noun} unknown."
        return {"StateValue": "INSUFFICIENT_DATA", "StateReason": reason}
    if treatment == "breaching":
        breaching += missing
    crossed = breaching >= _needed(alarm) or (treatment == "missing" and undecided)
    return {
        "StateValue": "ALARM" if crossed else "OK",
        "StateReason": _reason(alarm, newest, crossed=crossed)[:_REASON_CHARACTERS],
    }


def _needed(alarm: Document) -> int:
    return alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])


def _reason(alarm: Document, newest: Sequence[tuple[float, float | None]], *, crossed: bool) -> str:
    compare, words = OPERATORS[alarm["ComparisonOperator"]]
    threshold, periods = float(alarm["Threshold"]), len(newest)
    deciding = [
        f"{value} ({datetime.fromtimestamp(at, UTC):%d/%m/%y %H:%M:%S})"
        for at, value in newest
        if value is not None and compare(value, threshold) == crossed
    ]
    if deciding:
        verb = ("was" if len(deciding) == 1 else "were") + ("" if crossed else " not")
        text = (
            f"{len(deciding)} out of the last {periods} datapoints [{', '.join(deciding)}] "
            f"{verb} {words} the threshold ({threshold})"
        )
    else:
        noun = "period" if periods == 1 else "periods"
        text = f"no datapoints were received for {periods} {noun}"
    missing = sum(value is None for _, value in newest)
    filled = _FILLED.get(alarm.get("TreatMissingData", ""))
    if missing and filled:
        noun = "datapoint was" if missing == 1 else "datapoints were"
        text += f" and {missing} missing {noun} treated as [{filled}]"
    return f"Threshold Crossed: {text}."
