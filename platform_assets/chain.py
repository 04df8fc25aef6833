"""Several assets made by one step, date by date: who drops out on the way, and what Dagster hears.

Dagster skips all that is downstream of a step that failed, whichever dates it failed for. Where the
assets of a chain are made by one step, a date that fails, fails alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from platform_assets.outcomes import (
    Outcomes,
    Verdict,
    check_result,
    failure,
    failures_of,
    log_evaluations,
    log_unforeseen,
    materialized,
)


class CheckFailedError(Exception):
    """A blocking check refused a date."""


class Chain:
    """The dates of a run on their way through the assets of a step.

    Args:
        context: Of a step that makes partitioned assets, each of them skippable, and their checks.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._failed: dict[tuple[dg.AssetKey, str], Exception] = {}

    def dates(self, *keys: dg.AssetKey) -> list[str]:
        """The dates that have not dropped out, for these assets."""
        return [
            date
            for date in self._context.partition_keys
            if not any((key, date) in self._failed for key in keys)
        ]

    def wants(self, key: dg.AssetKey, check: str | None = None) -> bool:
        """Whether the run is to make the asset, or to evaluate its check."""
        if check is None:
            return key in self._context.selected_asset_keys
        return dg.AssetCheckKey(key, check) in self._context.selected_asset_check_keys

    def made(self, key: dg.AssetKey, outcomes: Outcomes) -> Iterator[dg.MaterializeResult[Any]]:
        """Tell Dagster what became of an asset; dates that failed drop out."""
        failed = failures_of(outcomes)
        log_unforeseen(self._context, failed)
        for date, error in failed.items():
            self._failed.setdefault((key, date), error)
        yield from materialized(self._context, outcomes, key=key)

    def checked(
        self, key: dg.AssetKey, check: str, verdicts: Mapping[str, Verdict]
    ) -> Iterator[dg.AssetCheckResult]:
        """Tell Dagster what a blocking check found; dates that it refuses drop out."""
        for date, verdict in verdicts.items():
            if verdict.stops:
                error = CheckFailedError(f"{check}: {verdict.description}")
                self._failed.setdefault((key, date), error)
        if verdicts and self.wants(key, check):
            log_evaluations(self._context, key, check, verdicts)
            yield check_result(self._context, key, check, verdicts)

    def finish(self) -> None:
        """End the step.

        Raises:
            dagster.Failure: Dates dropped out; it names each with its reason.
        """
        if self._failed:
            raise failure(self._failed) from next(iter(self._failed.values()))
