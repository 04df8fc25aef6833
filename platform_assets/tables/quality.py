"""What a day's rows must be like before they are published: pure judgements on their profile.

The same for all tables: what holds of one alone is in its `Rules`, of the listings in
`airbnb/listings.py`. What becomes of a day that is refused stands in `exporter.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from formats.columns import ColumnDifferences
from formats.long_ids import LongIds
from platform_assets.checks import Verdict
from platform_assets.tables.grading import grade, judge_drift, worst_of
from platform_assets.tables.limits import Limits
from platform_assets.tables.source_table import Rules
from resources.postgres import Profile


@dataclass(frozen=True)
class Candidate:
    """A day's rows that may be published.

    Attributes:
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
    if any(column.name == rules.key for column in differences.retyped):
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
    of_keys = f". {rules.key_remedy.rstrip('.')}" if rules.key in profile.lost else ""
    return grade(
        count / profile.rows,
        limits,
        rules,
        "lost_values",
        f"{count} values of column {name}{also}{such_as} have no place in the type that readers "
        "rely on without a loss",
        {f"lost_{column}": lost / profile.rows for column, lost in profile.lost.items()},
        remedy=f"Correct the table{of_keys}",
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
    return grade(
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
    if rules.required:
        grouped = max(sorted(rules.required), key=lambda name: shares.get(name, 0.0))
        share = shares.get(grouped, 0.0)
        finding = f"{profile.nulls.get(grouped, 0)} rows ({share:.1%}) have no {grouped}"
        verdicts.append(grade(share, limits, rules, "null_keys", finding, shares))
    if rules.measure:
        share = shares[rules.measure]
        finding = f"{share:.1%} of the rows have no {rules.measure}"
        verdicts.append(grade(share, limits, rules, "null_prices", finding, shares))
    return worst_of(verdicts) if verdicts else Verdict(True, "No column has to be filled.", shares)


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
    return worst_of(
        [
            grade(negative / profile.rows, limits, rules, "negative_prices", below, extremes),
            grade(profile.largest, limits, rules, "price", finding, extremes),
        ]
    )


def judge_volume(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """About as many rows as on the trailing days; a day without any is odd and no more."""
    rows = candidate.profile.rows
    before = [float(profile.rows) for profile in candidate.trailing]
    if not rows:
        return Verdict(not before, "The table has no rows of this day.", severity="warn")
    return judge_drift(float(rows), before, "rows", limits, rules)


def judge_level(candidate: Candidate, limits: Limits, rules: Rules) -> Verdict:
    """The measure's median is about that of the trailing days."""
    median = candidate.profile.median
    if median is None:
        return Verdict(True, f"There are no {rules.measure}s.")
    before = [profile.median for profile in candidate.trailing if profile.median is not None]
    return judge_drift(median, before, f"as the median {rules.measure}", limits, rules)


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


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
