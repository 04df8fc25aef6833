"""The DeploymentConfig of an update: what may be asked for, and how traffic then moves."""

from collections.abc import Iterator

from sagemaker_local.aws_errors import validation
from sagemaker_local.deployed_config import instances
from sagemaker_local.store import Document

# The member that says how much traffic moves at once, and the least percent of a variant that it
# may be, by the documentation of TrafficRoutingConfig. The most is half of a variant.
_STEPS = {"CANARY": ("CanarySize", 0), "LINEAR": ("LinearStepSize", 10)}
_MOST_PERCENT = 50


def check(deployment: Document | None, pending: Document, live: Document) -> None:
    """Refuses what the two snapshots cannot be deployed by.

    Args:
        deployment: The request's DeploymentConfig.
        pending: What the new fleet serves.
        live: What the old fleet serves.

    Raises:
        AwsError: A step is missing or of the wrong size, or the variants differ.
    """
    routing = _routing(deployment)
    if routing is None or routing["Type"] == "ALL_AT_ONCE":
        return
    member, _ = _STEPS[routing["Type"]]
    if member not in routing:
        raise validation(f"{member} is required for traffic routing type {routing['Type']}.")
    before, after = (
        sorted(variant["VariantName"] for variant in snapshot["variants"])
        for snapshot in (live, pending)
    )
    if before != after:
        raise validation(
            "Traffic can be shifted between endpoint configurations only if their variants have "
            f"the same names: {before} and {after}."
        )
    _check_size(routing, pending)


def stages(snapshot: Document, deployment: Document | None) -> Iterator[tuple[float, float]]:
    """Percent of the traffic for a new fleet, and for how many seconds, step by step.

    Args:
        snapshot: What the new fleet serves.
        deployment: The request's DeploymentConfig, which `check` let pass.
    """
    if routing := _routing(deployment):
        yield from _steps(routing, sum(_counts(snapshot).values()))
    # All traffic, while there is an old fleet to go back to.
    if final := (deployment or {}).get("BlueGreenUpdatePolicy", {}).get("TerminationWaitInSeconds"):
        yield 100.0, float(final)


def rollback_alarms(deployment: Document | None) -> list[str]:
    """The names of the alarms that end a deployment."""
    alarms = (deployment or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    return [alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm]


def _routing(deployment: Document | None) -> Document | None:
    return (deployment or {}).get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration")


def _counts(snapshot: Document) -> dict[str, int]:
    """Variant to number of instances, of those that get traffic."""
    counts = instances(snapshot)
    return {name: counts[name] for name in (one["VariantName"] for one in snapshot["variants"])}


def _check_size(routing: Document, pending: Document) -> None:
    """Of each variant a step may be so much: a number of instances is a share of each."""
    member, least = _STEPS[routing["Type"]]
    size = routing[member]
    for variant, count in _counts(pending).items():
        whole = 100 if size["Type"] == "CAPACITY_PERCENT" else count
        # Whole numbers, so that half of a fleet is exactly half.
        if not least * whole <= 100 * size["Value"] <= _MOST_PERCENT * whole:
            limits = f"{least} to {_MOST_PERCENT}%" if least else f"at most {_MOST_PERCENT}%"
            raise validation(
                f"{member} must be {limits} of the total instance count of a variant: "
                f"{size['Type']} {size['Value']} is not, for variant {variant} with instance "
                f"count {count}."
            )


def _steps(routing: Document, fleet: int) -> Iterator[tuple[float, float]]:
    """The steps of a TrafficRoutingConfiguration for a fleet of so many instances."""
    if routing["Type"] == "ALL_AT_ONCE":
        return
    size = routing[_STEPS[routing["Type"]][0]]
    whole = 100 if size["Type"] == "CAPACITY_PERCENT" else fleet
    percent, seconds = 100.0 * size["Value"] / whole, float(routing["WaitIntervalInSeconds"])
    yield percent, seconds
    if routing["Type"] == "LINEAR":
        reached = 2 * percent
        while reached < 100:
            yield reached, seconds
            reached += percent
