"""Versions of models that wait for a person's approval."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import dagster as dg

from monitoring.findings import Finding, Problem, Resolved
from platform_assets.alert_settings import AlertSettings
from platform_assets.models.endpoint import DECIDED_BY
from platform_assets.models.serving import DECISION, NOTHING_WAITS, WAITS

# How many observations of a model are read, newest first.
_MOST_OBSERVATIONS = 100
_KEY = "approval"


def approval_findings(
    instance: dg.DagsterInstance,
    specs: Iterable[dg.AssetSpec],
    settings: AlertSettings,
    now: datetime,
) -> Iterator[Finding]:
    """A notice of the newest version of each model that waits, until somebody decides over it."""
    for spec in specs:
        if DECIDED_BY in spec.metadata:
            yield from _find_waiting(instance, spec, settings, now)


def _find_waiting(
    instance: dg.DagsterInstance, spec: dg.AssetSpec, settings: AlertSettings, now: datetime
) -> Iterator[Finding]:
    records = instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=spec.key, after_timestamp=settings.since(now).timestamp()),
        limit=_MOST_OBSERVATIONS,
    ).records
    asset, decided, nothing_waits = spec.key.to_user_string(), set[str](), False
    for record in records:  # newest first
        observation = record.asset_observation
        metadata = observation.metadata if observation else {}
        values = {name: value.value for name, value in metadata.items()}
        version, decision = str(values.get("version")), values.get(DECISION)
        key = f"{_KEY} {asset} {version}"
        if decision is None or (decision == WAITS and version in decided):
            continue
        if decision == NOTHING_WAITS:
            nothing_waits = True
        elif decision == WAITS:
            if nothing_waits:
                yield Resolved(key)
            else:
                yield _waiting(key, version, spec, str(record.partition_key), settings)
            return
        else:
            if version not in decided:
                yield Resolved(key)
            decided.add(version)
            if decision != "rejected":  # it took effect at once, and said what waits since
                return


def _waiting(
    key: str, version: str, spec: dg.AssetSpec, date: str, settings: AlertSettings
) -> Problem:
    asset = spec.key.to_user_string()
    return Problem(
        key=key,
        title=f"A version of {asset} waits for approval",
        assets=[asset],
        dates=[date],
        reason=f"Version {version} passed its gate, and nobody has decided over it.",
        to_do=(
            f"Look at it, then run one of {spec.metadata[DECIDED_BY]} with its version. "
            "Until then what was live still is."
        ),
        link=settings.link(f"assets/{asset}"),
    )
