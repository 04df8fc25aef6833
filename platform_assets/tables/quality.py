"""What a day's rows must be like before they are published: pure judgements on their profile.

Where profiles come from, and what becomes of a day that is refused, stands in `exporter.py`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from formats.columns import ColumnDifferences
from formats.long_ids import LongIds
from platform_assets.checks import Verdict
from platform_assets.tables.limits import Limits
from platform_assets.tables.source_table import Rules
from resources.postgres import Profile

# Makes a median absolute deviation comparable with a standard deviation (of a normal law).
_MAD_TO_SIGMA = 1.4826
# Where nothing ever changes the deviation is 0: it counts as 5 % of the median at least.
_LEAST_SIGMA = 0.05


@dataclass(frozen=True)
class Candidate:
    """A day's rows that may be published.

    Attributes:
        profile: The rows in figures.
        differences: How the table's columns differ from the contract.
        trailing: Profiles of the days before it (`TrailingProfiles`), none of them empty.
        examples: Column → one of the values that have no place in its type.
    """

    profile: Profile
    differences: ColumnDifferences
    trailing: Sequence[Profile]
    examples: Mapping[str, str] = field(default_factory=dict[str, str])


def judge_schema(differences: ColumnDifferences, rules: Rules) -> Verdict:
    """A column that results need and is missing, or cannot be cast, stops the day.

    Other columns that are missing or new are named in the description.
    """
    advice = ""
    if rules.key_remedy and any(column.name == rules.key for column in differences.retyped):
        advice = f" {rules.key_remedy}"
    if differences.missing:
        advice += f" Where columns have other names, map them by {rules.columns_setting}."
    return Verdict(
        not differences.breaking,
        f"The columns: {differences.describe()}.{advice}",
        {
            "new_columns": [column.name for column in differences.new],
            "null_columns": [column.name for column in differences.absent],
        },
    )


def judge_values(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """Every value can be cast to the type that readers rely on, and nothing of it is lost."""
    profile = candidate.profile
    if not profile.lost:
        return Verdict(True, "Every value has a place.")
    name, count = max(profile.lost.items(), key=lambda lost: lost[1])
    example = candidate.examples.get(name)
    such_as = f", such as {example!r}," if example is not None else ""
    others = [other for other in profile.lost if other != name]
    also = f" (and of {', '.join(others)})" if others else ""
    return _graded(
        count / profile.rows,
        limits,
        rules,
        "lost_values",
        f"{count} values of column {name}{also}{such_as} have no place in the type that readers "
        "rely on without a loss",
        {f"lost_{column}": lost / profile.rows for column, lost in profile.lost.items()},
    )


def judge_keys(candidate: Candidate, _limits: Limits, rules: Rules) -> Verdict:
    """Each key once."""
    profile = candidate.profile
    without = profile.nulls.get(rules.key, 0)
    repeated = profile.rows - without - profile.distinct_keys
    counts = {"rows": profile.rows, "distinct_ids": profile.distinct_keys}
    if repeated > 0:
        message = f"{repeated} rows repeat {_a(rules.key)}: remove them from the table."
        return Verdict(False, message, counts)
    if without:
        message = f"{without} rows have no {rules.key}: correct them in the table."
        return Verdict(False, message, counts)
    return Verdict(True, f"Each {rules.key} once.", counts)


def judge_ids(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """Long ids are as they were given: no spreadsheet and no float has rounded them."""
    profile = candidate.profile
    long_ids = {name: LongIds(*figures) for name, figures in profile.long_ids.items()}
    # Some ids end in zeros by chance: as few as that count as none.
    shares = {
        name: ids.share if ids.exceed(0) else 0.0 for name, ids in long_ids.items() if ids.ids
    }
    if not shares:
        return Verdict(True, "No id is beyond 2**53.")
    name = max(shares, key=lambda column: shares[column])
    return _graded(
        shares[name],
        limits,
        rules,
        "rounded_ids",
        f"{shares[name]:.1%} of the {long_ids[name].ids} long ids in column {name} look as "
        "if a spreadsheet (15 digits) or a float (53 bits) had rounded them",
        {f"rounded_{column}": share for column, share in shares.items()},
        "Load the day again from the original file",
    )


def judge_nulls(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """Few rows lack what results are grouped by, and not too many the measure."""
    profile = candidate.profile
    if not profile.rows:
        return Verdict(True, "There are no rows.")
    shares = {name: count / profile.rows for name, count in profile.nulls.items()}
    verdicts: list[Verdict] = []
    if rules.filled:
        grouped = max(sorted(rules.filled), key=lambda name: shares.get(name, 0.0))
        share = shares.get(grouped, 0.0)
        finding = f"{profile.nulls.get(grouped, 0)} rows ({share:.1%}) have no {grouped}"
        verdicts.append(_graded(share, limits, rules, "null_keys", finding, shares))
    if rules.measure:
        share = shares[rules.measure]
        finding = f"{share:.1%} of the rows have no {rules.measure}"
        verdicts.append(_graded(share, limits, rules, "null_prices", finding, shares))
    return _worst(verdicts) if verdicts else Verdict(True, "No column has to be filled.", shares)


def judge_range(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """Every value of the measure is a number from 0 on, and none is beyond reason."""
    profile = candidate.profile
    many = f"{rules.measure}s"
    extremes = {"least": profile.least, "largest": profile.largest}
    if profile.least is None or profile.largest is None:
        return Verdict(True, f"There are no {many}.")
    if not math.isfinite(profile.largest) or not math.isfinite(profile.least):
        message = f"{many.capitalize()} go from {profile.least} to {profile.largest}: correct them "
        odd = {name: str(value) for name, value in extremes.items()}
        return Verdict(False, f"{message}in the table.", odd)
    negative = profile.negative or int(profile.least < 0)
    finding = f"{many.capitalize()} go from {profile.least:,.2f} to {profile.largest:,.2f}"
    below = f"{finding}, {negative} of them below 0"
    return _worst(
        [
            _graded(negative / profile.rows, limits, rules, "negative_prices", below, extremes),
            _graded(profile.largest, limits, rules, "price", finding, extremes),
        ]
    )


def judge_volume(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """About as many rows as on the trailing days; a day without any is odd and no more."""
    rows = candidate.profile.rows
    before = [float(profile.rows) for profile in candidate.trailing]
    if not rows:
        return Verdict(not before, "The table has no rows of this day.", severity="warn")
    return _drift(float(rows), before, "rows", limits, rules)


def judge_level(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """The measure's median is about that of the trailing days."""
    median = candidate.profile.median
    if median is None:
        return Verdict(True, f"There are no {rules.measure}s.")
    before = [profile.median for profile in candidate.trailing if profile.median is not None]
    return _drift(median, before, f"as the median {rules.measure}", limits, rules)


@dataclass(frozen=True)
class QualityCheck:
    """A check of a day's rows, made before they are published."""

    description: str
    judge: Callable[[Candidate, Limits, Rules], Verdict]


def checks_of(rules: Rules) -> Mapping[str, QualityCheck]:
    """The checks of a table's rows, by their names."""
    checks = {
        "schema": QualityCheck(
            "The table has the columns that readers rely on, of their types.",
            lambda candidate, _, rules: judge_schema(candidate.differences, rules),
        ),
        "values_fit": QualityCheck(
            "Every value can be cast to the type that readers rely on, and nothing of it is lost.",
            judge_values,
        ),
        "unique_ids": QualityCheck(f"Each {rules.key} once.", judge_keys),
        "ids_are_exact": QualityCheck(
            "Long ids are as they were given: no spreadsheet and no float has rounded them.",
            judge_ids,
        ),
        "null_rates": QualityCheck(
            "Few rows lack what results are grouped by"
            + (f", and not too many lack a {rules.measure}." if rules.measure else "."),
            judge_nulls,
        ),
    }
    if rules.measure:
        checks[f"{rules.measure}_range"] = QualityCheck(
            f"Every {rules.measure} is a number from 0 on, within reason.", judge_range
        )
    checks["volume_drift"] = QualityCheck(
        "About as many rows as on the trailing days.", judge_volume
    )
    if rules.measure:
        checks[f"{rules.measure}_drift"] = QualityCheck(
            f"The median {rules.measure} is about that of the trailing days.", judge_level
        )
    return checks


def judge(candidate: Candidate, limits: Limits, rules: Rules) -> dict[str, Verdict]:
    """The verdict of every check, by the check's name."""
    return {name: check.judge(candidate, limits, rules) for name, check in checks_of(rules).items()}


def _drift(
    value: float, before: Sequence[float], unit: str, limits: Limits, rules: Rules
) -> Verdict:
    if not math.isfinite(value):
        return Verdict(False, f"{value} {unit} is no number: correct the table.")
    if len(before) < limits.drift_least_days:
        message = f"{len(before)} days before it have listings, too few to compare with."
        return Verdict(True, message, {"value": value})
    median = statistics.median(before)
    deviation = statistics.median(abs(other - median) for other in before)
    sigma = max(_MAD_TO_SIGMA * deviation, _LEAST_SIGMA * median) or 1.0
    distance = abs(value - median) / sigma
    return _graded(
        distance,
        limits,
        rules,
        "drift",
        f"{value:,.6g} {unit}; the {len(before)} days before have {median:,.6g} in the middle, "
        f"{distance:.1f} robust standard deviations away",
        {"value": value, "trailing_median": median, "robust_deviations": distance},
    )


def _graded(
    value: float,
    limits: Limits,
    rules: Rules,
    kind: str,
    finding: str,
    figures: Mapping[str, float | None],
    remedy: str = "Correct the table",
) -> Verdict:
    """Passed up to the warning limit; above the blocking limit the day is not published.

    A day that the default limits would have stopped has `let_through` among its metadata.

    Args:
        value: What is compared with the limits.
        limits: Of this run.
        rules: Of the table.
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
    default = Limits.model_fields[f"{kind}_block"].default
    if value > default:
        metadata["let_through"] = f"{kind}_block is {block:,g} instead of {default:,g}"
    odd = min(warn, default)
    if value > odd:
        message = f"{finding}: more than {odd:,g}, which is odd."
        return Verdict(False, message, metadata, severity="warn")
    return Verdict(True, f"{finding}.", metadata)


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
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


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
