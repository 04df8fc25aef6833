"""What a day's rows must be like before they are published: pure judgements on their profile.

Where profiles come from, and what becomes of a day that is refused, stands in `exporter.py`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from formats.columns import ColumnDifferences
from formats.long_ids import LongIds
from platform_assets.airbnb.limits import Limits
from platform_assets.airbnb.listings import NEEDED
from platform_assets.checks import Verdict
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


def judge_schema(differences: ColumnDifferences) -> Verdict:
    """A column that results need and is missing, or cannot be cast, stops the day.

    Other columns that are missing or new are named in the description.
    """
    advice = ""
    if any(column.name == "id" for column in differences.retyped):
        advice = " Where ids are no numbers, set PLATFORM_LISTINGS_ID_TYPE=string."
    if differences.missing:
        advice += " Where columns have other names, map them by PLATFORM_LISTINGS_COLUMNS."
    return Verdict(
        not differences.breaking,
        f"The columns: {differences.describe()}.{advice}",
        {
            "new_columns": [column.name for column in differences.new],
            "null_columns": [column.name for column in differences.absent],
        },
    )


def judge_values(candidate: Candidate, limits: Limits) -> Verdict:
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
        "lost_values",
        f"{count} values of column {name}{also}{such_as} have no place in the type that readers "
        "rely on without a loss",
        {f"lost_{column}": lost / profile.rows for column, lost in profile.lost.items()},
    )


def judge_keys(candidate: Candidate, _limits: Limits) -> Verdict:
    """Each id once."""
    profile = candidate.profile
    repeated = profile.rows - profile.nulls.get("id", 0) - profile.distinct_keys
    counts = {"rows": profile.rows, "distinct_ids": profile.distinct_keys}
    if repeated > 0:
        return Verdict(False, f"{repeated} rows repeat an id: remove them from the table.", counts)
    if profile.nulls.get("id"):
        message = f"{profile.nulls['id']} rows have no id: correct them in the table."
        return Verdict(False, message, counts)
    return Verdict(True, "Each id once.", counts)


def judge_ids(candidate: Candidate, limits: Limits) -> Verdict:
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
        "rounded_ids",
        f"{shares[name]:.1%} of the {long_ids[name].ids} long ids in column {name} look as "
        "if a spreadsheet (15 digits) or a float (53 bits) had rounded them",
        {f"rounded_{column}": share for column, share in shares.items()},
        "Load the day again from the original file",
    )


def judge_nulls(candidate: Candidate, limits: Limits) -> Verdict:
    """Few rows lack what results are grouped by, and not too many a price."""
    profile = candidate.profile
    if not profile.rows:
        return Verdict(True, "There are no rows.")
    shares = {name: count / profile.rows for name, count in profile.nulls.items()}
    grouped = max(sorted(NEEDED - {"id", "price"}), key=lambda name: shares.get(name, 0.0))
    share = shares.get(grouped, 0.0)
    return _worse(
        _graded(
            share,
            limits,
            "null_keys",
            f"{profile.nulls.get(grouped, 0)} rows ({share:.1%}) have no {grouped}",
            shares,
        ),
        _graded(
            shares["price"],
            limits,
            "null_prices",
            f"{shares['price']:.1%} of the rows have no price",
            shares,
        ),
    )


def judge_prices(candidate: Candidate, limits: Limits) -> Verdict:
    """Every price is a number from 0 on, and none is beyond what anybody pays for a night."""
    profile = candidate.profile
    extremes = {"least": profile.least, "largest": profile.largest}
    if profile.least is None or profile.largest is None:
        return Verdict(True, "There are no prices.")
    if not math.isfinite(profile.largest) or not math.isfinite(profile.least):
        message = f"Prices go from {profile.least} to {profile.largest}: correct them in the table."
        return Verdict(False, message, {name: str(value) for name, value in extremes.items()})
    negative = profile.negative or int(profile.least < 0)
    price_range = f"Prices go from {profile.least:,.2f} to {profile.largest:,.2f}"
    return _worse(
        _graded(
            negative / profile.rows,
            limits,
            "negative_prices",
            f"{price_range}, {negative} of them below 0",
            extremes,
        ),
        _graded(profile.largest, limits, "price", price_range, extremes),
    )


def judge_volume(candidate: Candidate, limits: Limits) -> Verdict:
    """About as many rows as on the trailing days; a day without any is odd and no more."""
    rows = candidate.profile.rows
    before = [float(profile.rows) for profile in candidate.trailing]
    if not rows:
        return Verdict(not before, "The table has no rows of this day.", severity="warn")
    return _drift(float(rows), before, "rows", limits)


def judge_price_level(candidate: Candidate, limits: Limits) -> Verdict:
    """The median price is about that of the trailing days."""
    median = candidate.profile.median
    if median is None:
        return Verdict(True, "There are no prices.")
    before = [profile.median for profile in candidate.trailing if profile.median is not None]
    return _drift(median, before, "as the median price", limits)


@dataclass(frozen=True)
class QualityCheck:
    """A check of a day's rows, made before they are published."""

    description: str
    judge: Callable[[Candidate, Limits], Verdict]


CHECKS: Mapping[str, QualityCheck] = {
    "schema": QualityCheck(
        "The table has the columns that readers rely on, of their types.",
        lambda candidate, _: judge_schema(candidate.differences),
    ),
    "values_fit": QualityCheck(
        "Every value can be cast to the type that readers rely on, and nothing of it is lost.",
        judge_values,
    ),
    "unique_ids": QualityCheck(
        "Each id once.",
        judge_keys,
    ),
    "ids_are_exact": QualityCheck(
        "Long ids are as they were given: no spreadsheet and no float has rounded them.",
        judge_ids,
    ),
    "null_rates": QualityCheck(
        "Few rows lack what results are grouped by, and not too many lack a price.",
        judge_nulls,
    ),
    "price_range": QualityCheck(
        "Every price is a number from 0 on, within reason.",
        judge_prices,
    ),
    "volume_drift": QualityCheck("About as many rows as on the trailing days.", judge_volume),
    "price_drift": QualityCheck(
        "The median price is about that of the trailing days.", judge_price_level
    ),
}


def judge(candidate: Candidate, limits: Limits) -> dict[str, Verdict]:
    """The verdict of every check, by the check's name."""
    return {name: check.judge(candidate, limits) for name, check in CHECKS.items()}


def _drift(value: float, before: Sequence[float], unit: str, limits: Limits) -> Verdict:
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
        "drift",
        f"{value:,.6g} {unit}; the {len(before)} days before have {median:,.6g} in the middle, "
        f"{distance:.1f} robust standard deviations away",
        {"value": value, "trailing_median": median, "robust_deviations": distance},
    )


def _graded(
    value: float,
    limits: Limits,
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
            "listings_table.",
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


def _worse(one: Verdict, other: Verdict) -> Verdict:
    """The worse of two, with the descriptions of both where neither has passed."""
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
