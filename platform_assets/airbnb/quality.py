"""What a day's rows must be like before they are published: pure judgements on their profile.

Where profiles come from, and what becomes of a day that is refused, stands in `snapshots.py`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from formats.columns import ColumnDifferences
from formats.long_ids import LongIds
from platform_assets.airbnb.limits import Limits
from platform_assets.airbnb.listings import NEEDED
from platform_assets.outcomes import Verdict
from resources.postgres import Profile

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
        trailing: Profiles of days before it (`published.Trailing`), none of them empty.
        examples: Column → one of the values that have no place in its type.
    """

    profile: Profile
    differences: ColumnDifferences
    trailing: Sequence[Profile]
    examples: Mapping[str, str] = field(default_factory=dict[str, str])


def judge_schema(differences: ColumnDifferences) -> Verdict:
    """A column that results need and is not there, or cannot be cast, stops the day.

    Others that are not there, or new, are told of.
    """
    advice = ""
    if any(each.name == "id" for each in differences.retyped):
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
    name, count = max(profile.lost.items(), key=lambda each: each[1])
    example = candidate.examples.get(name)
    shown = f", such as {example!r}," if example is not None else ""
    others = [each for each in profile.lost if each != name]
    also = f" (and of {', '.join(others)})" if others else ""
    return _graded(
        count / profile.rows,
        limits,
        "lost_values",
        f"{count} values of column {name}{also}{shown} have no place in the type that readers rely "
        "on without a loss",
        {f"lost_{each}": lost / profile.rows for each, lost in profile.lost.items()},
    )


def judge_keys(profile: Profile) -> Verdict:
    """Each id once."""
    repeated = profile.rows - profile.nulls.get("id", 0) - profile.distinct_keys
    found = {"rows": profile.rows, "distinct_ids": profile.distinct_keys}
    if repeated > 0:
        return Verdict(False, f"{repeated} rows repeat an id: remove them from the table.", found)
    if profile.nulls.get("id"):
        said = f"{profile.nulls['id']} rows have no id: correct them in the table."
        return Verdict(False, said, found)
    return Verdict(True, "Each id once.", found)


def judge_ids(profile: Profile, limits: Limits) -> Verdict:
    """Long ids are as they were given: no spreadsheet and no float has rounded them."""
    # Some end in zeros by chance; so few that it may be chance are none.
    found = {name: LongIds(*figures) for name, figures in profile.long_ids.items()}
    shares = {name: ids.share if ids.exceed(0) else 0.0 for name, ids in found.items() if ids.ids}
    if not shares:
        return Verdict(True, "No id is beyond 2**53.")
    name = max(shares, key=lambda each: shares[each])
    return _graded(
        shares[name],
        limits,
        "rounded_ids",
        f"{shares[name]:.1%} of the {found[name].ids} long ids in column {name} look as "
        "if a spreadsheet (15 digits) or a float (53 bits) had rounded them",
        {f"rounded_{each}": share for each, share in shares.items()},
        "Load the day again from the original file",
    )


def judge_nulls(profile: Profile, limits: Limits) -> Verdict:
    """Few rows lack what results are grouped by, and not too many a price."""
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


def judge_prices(profile: Profile, limits: Limits) -> Verdict:
    """Every price is a number from 0 on, and none is beyond what anybody pays for a night."""
    found = {"least": profile.least, "largest": profile.largest}
    if profile.least is None or profile.largest is None:
        return Verdict(True, "There are no prices.")
    if not math.isfinite(profile.largest) or not math.isfinite(profile.least):
        said = f"Prices go from {profile.least} to {profile.largest}: correct them in the table."
        return Verdict(False, said, {name: str(value) for name, value in found.items()})
    negative = profile.negative or int(profile.least < 0)
    between = f"Prices go from {profile.least:,.2f} to {profile.largest:,.2f}"
    return _worse(
        _graded(
            negative / profile.rows,
            limits,
            "negative_prices",
            f"{between}, {negative} of them below 0",
            found,
        ),
        _graded(profile.largest, limits, "price", between, found),
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
    "values_fit": (
        "Every value can be cast to the type that readers rely on, and nothing of it is lost.",
        judge_values,
    ),
    "unique_ids": (
        "Each id once.",
        lambda candidate, _: judge_keys(candidate.profile),
    ),
    "ids_are_exact": (
        "Long ids are as they were given: no spreadsheet and no float has rounded them.",
        lambda candidate, limits: judge_ids(candidate.profile, limits),
    ),
    "null_rates": (
        "Few rows lack what results are grouped by, and not too many lack a price.",
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
    value: float,
    limits: Limits,
    kind: str,
    said: str,
    found: Mapping[str, float | None],
    remedy: str = "Correct the table",
) -> Verdict:
    """Passed up to the warning level; above the blocking one the day is not published.

    Where it would have been stopped by the limits that there are by themselves, it is told.
    """
    shown: dict[str, float | str] = {k: each for k, each in found.items() if each is not None}
    warn, block = getattr(limits, f"{kind}_warn"), getattr(limits, f"{kind}_block")
    if value > block:
        return Verdict(
            False,
            f"{said}: more than {block:,g}, where a day is stopped. {remedy}, or let the "
            f"day through by a run with another {kind}_block among the limits of the resource "
            "listings_table.",
            shown,
        )
    usual = Limits.model_fields[f"{kind}_block"].default
    if value > usual:
        shown["let_through"] = f"{kind}_block is {block:,g} instead of {usual:,g}"
    if value > min(warn, usual):
        odd = min(warn, usual)
        return Verdict(False, f"{said}: more than {odd:,g}, which is odd.", shown, severity="warn")
    return Verdict(True, f"{said}.", shown)


def _worse(one: Verdict, other: Verdict) -> Verdict:
    """The worse of two, with what both say where neither is good."""
    first, second = sorted((one, other), key=lambda each: (each.passed, not each.stops))
    said = [first.description] + [second.description] * (not second.passed)
    joined = {**second.metadata, **first.metadata}
    let = [
        each.metadata["let_through"] for each in (first, second) if "let_through" in each.metadata
    ]
    if let:
        joined["let_through"] = "; ".join(let)
    return Verdict(first.passed, " ".join(said), joined, severity=first.severity)
