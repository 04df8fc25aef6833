"""A person between the gate and the endpoint: approving, rejecting, and overriding the gate."""

import json
from datetime import UTC, datetime
from typing import Any

import boto3
import dagster as dg
import pytest

from platform_assets.mnist.gate import Gate
from platform_assets.models.decisions import DecisionError, DecisionForm
from platform_assets.models.endpoint import Endpoint
from resources.sagemaker import EndpointVersion, Security
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.mnist_rig import live_config, put_classifier, put_digits

DATE, NEXT = "2026-01-05", "2026-01-06"
CLASSIFIER, ENDPOINT = "mnist/classifier", "mnist/endpoint"
GATE = (CLASSIFIER, "accuracy_above_gate")


def deploy(platform: Platform) -> dict[str, Any]:
    """What a run of the endpoint's asset says of it; nothing where it made nothing."""
    result = platform.run("digits", NEXT, assets=[ENDPOINT])
    assert result.success
    events = result.asset_materializations_for_node("mnist__endpoint")
    return {name: value.value for event in events for name, value in event.metadata.items()}


def press(
    platform: Platform, job: str, version: str, *, by: str = "Ada", why: str = "Looked at it."
) -> dg.ExecuteInProcessResult:
    form = {"version": version, "by": by, "why": why}
    return platform.run(job, NEXT, config={"ops": {f"{job}_form": {"config": form}}})


def refusal(platform: Platform, job: str, version: str, **form: str) -> str:
    return reason_of(press(platform, job, version, **form))


def kept(platform: Platform) -> list[dict[str, Any]]:
    """What the store keeps of decisions, the oldest first."""
    manifests = [
        json.loads(platform.store.get_bytes(item.key, max_bytes=2**20))
        for item in platform.store.list("mnist/decisions/")
    ]
    return sorted((manifest["extra"] for manifest in manifests), key=lambda one: one["at"])


def shown(platform: Platform) -> list[tuple[str | None, Any, Any]]:
    """Date, decision and who decided, as Dagster shows them, the oldest first."""
    records = platform.instance.fetch_observations(
        dg.AssetKey(["mnist", "classifier"]), limit=100
    ).records
    observed = [record.asset_observation for record in reversed(records)]
    return [
        (one.partition, one.metadata["decision"].value, getattr(one.metadata.get("by"), "text", ""))
        for one in observed
        if one
    ]


def test_what_passed_its_gate_waits_for_a_person_and_goes_live_once_approved(
    digits: Platform, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_APPROVAL", "required")
    put_digits(digits, DATE, NEXT)
    outdated = put_classifier(digits, DATE, 400).sha256
    assert deploy(digits) == {}
    assert not boto3.client("sagemaker").list_endpoints(NameContains=endpoint)["Endpoints"]

    # The date was made anew: what a person has seen is not what would go live.
    first = put_classifier(digits, DATE, 420).sha256
    assert "another version" in refusal(digits, "approve_classifier", outdated)
    assert "Fill in by and why" in refusal(digits, "approve_classifier", first, by=" ", why="")
    assert kept(digits) == []
    assert not boto3.client("sagemaker").list_endpoints(NameContains=endpoint)["Endpoints"]

    approval = press(digits, "approve_classifier", first[:12], why="Better sevens.")
    assert approval.success
    (event,) = approval.get_asset_materialization_events()
    assert event.materialization.metadata["classifier_date"].value == DATE
    live = live_config(endpoint)
    (decision,) = kept(digits)
    assert decision.pop("at") > "2026"
    assert decision == {
        "outcome": "approved",
        "version": first,
        "date": DATE,
        "by": "Ada",
        "why": "Better sevens.",
        "run_id": approval.run_id,
    }

    # It was approved, and what is newer was not.
    newer = put_classifier(digits, NEXT, 440).sha256
    assert deploy(digits)["waits_for_approval"] == NEXT
    assert "is live already" in refusal(digits, "approve_classifier", first)
    assert live_config(endpoint) == live
    assert press(digits, "reject_classifier", newer).success
    rejected = deploy(digits)
    assert (rejected["outcome"], "waits_for_approval" in rejected) == ("unchanged", False)
    assert live_config(endpoint) == live

    best = put_classifier(digits, NEXT, 1000).sha256
    assert press(digits, "approve_classifier", best).success
    assert live_config(endpoint) != live
    assert "rollback_endpoint" in refusal(digits, "reject_classifier", best)
    assert [decision["outcome"] for decision in kept(digits)] == [
        "approved",
        "rejected",
        "approved",
    ]
    assert shown(digits) == [
        (DATE, "waits for approval", ""),
        (DATE, "approved", "Ada"),
        (NEXT, "waits for approval", ""),
        (NEXT, "rejected", "Ada"),
        (NEXT, "approved", "Ada"),
    ]


def test_a_gate_is_overridden_for_one_version_with_a_reason_that_is_kept(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 1000)
    deploy(digits)
    live = live_config(endpoint)
    # Below its own floor, too: that it is live does not make its check pass.
    worse = put_classifier(digits, NEXT, 30, Gate(min_accuracy=0.99)).sha256
    assert deploy(digits)["outcome"] == "unchanged"

    assert "override_gate" in refusal(digits, "approve_classifier", worse)
    assert "Fill in why" in refusal(digits, "override_gate", worse, why="")
    assert live_config(endpoint) == live
    override = press(digits, "override_gate", worse, why="The old one reads no sevens.")
    assert override.success
    (judged,) = override.get_asset_check_evaluations()
    assert (judged.check_name, judged.passed, judged.partition) == (GATE[1], True, NEXT)
    assert live_config(endpoint) != live
    (decision,) = kept(digits)
    assert (decision["outcome"], decision["why"]) == ("overridden", "The old one reads no sevens.")

    # From now on the check itself says so, and the version stays.
    assert failed_checks(digits.check(NEXT, NEXT, [GATE])) == {}
    assert deploy(digits)["outcome"] == "unchanged"
    # Another version of the same date needs a reason of its own.
    put_classifier(digits, NEXT, 20, Gate())
    assert GATE[1] in failed_checks(digits.check(NEXT, NEXT, [GATE]))


def test_a_form_is_refused_as_it_opens() -> None:
    blank = DecisionForm.blank()
    with pytest.raises(DecisionError, match="Fill in version, by and why"):
        blank.check()
    filled = blank.model_copy(update={"version": "a" * 64, "by": "Ada"})
    with pytest.raises(DecisionError, match="Fill in why"):
        filled.check()


def version_of(endpoint: Endpoint, sha256: str, *, rolled_back: bool) -> EndpointVersion:
    now, name = datetime.now(UTC), endpoint.version(sha256)
    return EndpointVersion(
        name, name, f"arn:{name}", (name,), now, now, now if rolled_back else None
    )


def test_a_model_that_was_rolled_back_stays_out_whatever_it_would_run_on() -> None:
    bad, other = "b" * 64, "0" * 64
    small, large = Endpoint(name="e"), Endpoint(name="e", instance_type="ml.m5.xlarge")
    secured = Endpoint(name="e", security=Security(network_isolation=True))
    back = version_of(small, bad, rolled_back=True)
    versions = [version_of(small, other, rolled_back=False), back]
    assert [e.find_rolled_back(bad, versions) for e in (small, large, secured)] == [back] * 3
    assert small.find_rolled_back(other, versions) is None
    # It was taken back from the large instances alone, and serves on the small ones.
    versions = [version_of(large, bad, rolled_back=True), version_of(small, bad, rolled_back=False)]
    assert small.find_rolled_back(bad, versions) is None
    assert large.find_rolled_back(bad, versions) == versions[0]
