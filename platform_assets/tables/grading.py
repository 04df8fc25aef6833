"""Grading a figure of a day by limits: passed, odd, or not published."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import reduce

from platform_assets.checks import Verdict
from platform_assets.tables.limits import Limits
from platform_assets.tables.source_table import Rules

# Makes a median absolute deviation comparable with a standard deviation (of a normal law).
_MAD_TO_SIGMA = 1.4826
# Where nothing ever changes the deviation is 0: it counts as 5 % of the median at least.
_LEAST_SIGMA = 0.05


def judge_drift(
    value: float, before: Sequence[float], unit: str, limits: Limits, rules: Rules
) -> Verdict:
    """How far a day's value is from the median of the trailing days'.

    Args:
        unit: Words after the value, such as "rows".
    """
    if not math.isfinite(value):
        return Verdict(False, f"{value} {unit} is no number: correct the table.")
    if len(before) < limits.drift_least_days:
        message = f"{len(before)} days before it have rows, too few to compare with."
        return Verdict(True, message, {"value": value})
    median = statistics.median(before)
    deviation = statistics.median(abs(other - median) for other in before)
    sigma = max(_MAD_TO_SIGMA * deviation, _LEAST_SIGMA * median) or 1.0
    distance = abs(value - median) / sigma
    return grade(
        distance,
        limits,
        rules,
        "drift",
        f"{value:,.6g} {unit}; the {len(before)} days before have {median:,.6g} in the middle, "
        f"{distance:.1f} robust standard deviations away",
        {"value": value, "trailing_median": median, "robust_deviations": distance},
    )


def grade(
    value: float,
    limits: Limits,
    rules: Rules,
    kind: str,
    finding: str,
    figures: Mapping[str, float | None],
    remedy: str = "Correct the table",
) -> Verdict:
    """Passed up to the warning limit; above the blocking limit the day is not published.

    A day that the table's usual limits would have stopped has `let_through` among its metadata.

    Args:
        kind: Which of them: `{kind}_warn` and `{kind}_block`.
        finding: What the value is, in words.
        figures: Shown as the verdict's metadata.
        remedy: What to do about a day that is stopped.
    """
    metadata: dict[str, float | str] = {k: v for k, v in figures.items() if v is not None}
    warn, block = getattr(limits, f"{kind}_warn"), getattr(limits, f"{kind}_block")
    if value > block:
        return Verdict(
            False,
            f"{finding}: more than {block:,g}, where a day is stopped. {remedy}, or let the "
            f"day through by a run with another {kind}_block among the limits of the resource "
            f"{rules.resource}.",
            metadata,
        )
    usual = getattr(rules.usual, f"{kind}_block")
    if value > usual:
        metadata["let_through"] = f"{kind}_block is {block:,g} instead of {usual:,g}"
    odd = min(warn, usual)
    if value > odd:
        message = f"{finding}: more than {odd:,g}, which is odd."
        return Verdict(False, message, metadata, severity="warn")
    return Verdict(True, f"{finding}.", metadata)


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst, with the descriptions of all that have not passed."""
    return reduce(_worse, verdicts)


def _worse(one: Verdict, other: Verdict) -> Verdict:
    first, second = sorted((one, other), key=lambda verdict: (verdict.passed, not verdict.stops))
    descriptions = [first.description] + [second.description] * (not second.passed)
    metadata = {**second.metadata, **first.metadata}
    let_through = [
        verdict.metadata["let_through"]
        for verdict in (first, second)
        if "let_through" in verdict.metadata
    ]
    if let_through:
        metadata["let_through"] = "; ".join(let_through)
    return Verdict(first.passed, " ".join(descriptions), metadata, severity=first.severity)
