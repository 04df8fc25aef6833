"""What a day's rows must be like before they are published: pure judgements on their profile.

Where profiles come from, and what becomes of a day that is refused, stands in `snapshots.py`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from platform_assets.airbnb.listings import NEEDED, Limits
from platform_assets.outcomes import Verdict
from resources.columns import ColumnDifferences
from resources.postgres_profile import Profile

# Makes a median absolute deviation comparable with a standard deviation (of a normal law).
_MAD_TO_SIGMA = 1.4826
# A market that stands quite still has a deviation of nothing: 5 % of the median is the least.
_LEAST_SIGMA = 0.05


@dataclass(frozen=True)
class Candidate:
    """A day's rows that may be published.

    Attributes:
        profile: The rows in figures.
        differences: How the table's columns differ from the contract.
        trailing: Profiles of days before it (`snapshots.Trailing`), none of them empty.
    """

    profile: Profile
    differences: ColumnDifferences
    trailing: Sequence[Profile]


def judge_schema(differences: ColumnDifferences) -> Verdict:
    """A column that is missing or has another type stops the day; a new one is told of."""
    return Verdict(
        not differences.breaking,
        f"The columns: {differences.describe()}.",
        {"new_columns": [column.name for column in differences.new]},
    )


def judge_keys(profile: Profile) -> Verdict:
    """Each id once."""
    repeated = profile.rows - profile.distinct_keys
    found = {"rows": profile.rows, "distinct_ids": profile.distinct_keys}
    if repeated:
        return Verdict(False, f"{repeated} rows repeat an id: remove them from the table.", found)
    return Verdict(True, "Each id once.", found)


def judge_nulls(profile: Profile, limits: Limits) -> Verdict:
    """No row without what results are grouped by, and not too many without a price."""
    if not profile.rows:
        return Verdict(True, "There are no rows.")
    shares = {name: count / profile.rows for name, count in profile.nulls.items()}
    lacking = [name for name in sorted(NEEDED - {"price"}) if shares.get(name)]
    if lacking:
        said = ", ".join(f"{profile.nulls[name]} rows have no {name}" for name in lacking)
        return Verdict(False, f"{said}: correct them in the table.", shares)
    share = shares["price"]
    return _graded(
        share,
        limits,
        "null_prices",
        f"{share:.1%} of the rows have no price",
        shares,
    )


def judge_prices(profile: Profile, limits: Limits) -> Verdict:
    """Every price is a number from 0 on, and none is beyond what anybody pays for a night."""
    found = {"least": profile.least, "largest": profile.largest}
    if profile.least is None or profile.largest is None:
        return Verdict(True, "There are no prices.")
    if not math.isfinite(profile.largest) or profile.least < 0:
        said = f"Prices go from {profile.least} to {profile.largest}: correct them in the table."
        return Verdict(False, said, {name: str(value) for name, value in found.items()})
    return _graded(
        profile.largest,
        limits,
        "price",
        f"Prices go from {profile.least:,.2f} to {profile.largest:,.2f}",
        found,
    )


def judge_volume(candidate: Candidate, limits: Limits) -> Verdict:
    """About as many rows as on the trailing days; a day without any is odd and no more."""
    rows = candidate.profile.rows
    before = [float(each.rows) for each in candidate.trailing]
    if not rows:
        return Verdict(not before, "The table has no rows of this day.", severity="warn")
    return _drift(float(rows), before, "rows", limits)


def judge_price_level(candidate: Candidate, limits: Limits) -> Verdict:
    """The median price is about that of the trailing days."""
    median = candidate.profile.median
    if median is None:
        return Verdict(True, "There are no prices.")
    before = [each.median for each in candidate.trailing if each.median is not None]
    return _drift(median, before, "as the median price", limits)


CHECKS: Mapping[str, tuple[str, Callable[[Candidate, Limits], Verdict]]] = {
    "schema": (
        "The table has the columns that readers rely on, of their types.",
        lambda candidate, _: judge_schema(candidate.differences),
    ),
    "unique_ids": (
        "Each id once.",
        lambda candidate, _: judge_keys(candidate.profile),
    ),
    "null_rates": (
        "No row lacks what results are grouped by, and not too many lack a price.",
        lambda candidate, limits: judge_nulls(candidate.profile, limits),
    ),
    "price_range": (
        "Every price is a number from 0 on, within reason.",
        lambda candidate, limits: judge_prices(candidate.profile, limits),
    ),
    "volume_drift": ("About as many rows as on the trailing days.", judge_volume),
    "price_drift": ("The median price is about that of the trailing days.", judge_price_level),
}


def judge(candidate: Candidate, limits: Limits) -> dict[str, Verdict]:
    """The verdict of every check, by the check's name."""
    return {name: verify(candidate, limits) for name, (_, verify) in CHECKS.items()}


def _drift(value: float, before: Sequence[float], unit: str, limits: Limits) -> Verdict:
    if not math.isfinite(value):
        return Verdict(False, f"{value} {unit} is no number: correct the table.")
    if len(before) < limits.drift_least_days:
        said = f"{len(before)} days before it have listings, too few to compare with."
        return Verdict(True, said, {"value": value})
    median = statistics.median(before)
    deviation = statistics.median(abs(each - median) for each in before)
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
    value: float, limits: Limits, kind: str, said: str, found: Mapping[str, float | None]
) -> Verdict:
    """Passed up to the warning level; above the blocking one the day is not published."""
    shown = {name: each for name, each in found.items() if each is not None}
    warn, block = getattr(limits, f"{kind}_warn"), getattr(limits, f"{kind}_block")
    if value > block:
        return Verdict(
            False,
            f"{said}: more than {block:,g}, where a day is stopped. Correct the table, or let the "
            f"day through by a run with another {kind}_block among the limits of the resource "
            "listings_table.",
            shown,
        )
    if value > warn:
        return Verdict(False, f"{said}: more than {warn:,g}, which is odd.", shown, severity="warn")
    return Verdict(True, f"{said}.", shown)
