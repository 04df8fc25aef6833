"""Dagster's check of an endpoint: whether it serves the version that it should."""

from platform_assets.checks import Verdict
from platform_assets.models.deployed_models import M
from platform_assets.models.serving import Serving, served_versions
from resources.s3 import NotPublishedError


def judge_version(serving: Serving[M]) -> Verdict:
    """Compares what is in service with what the next run would put there."""
    endpoint, noun, asset = serving.endpoint, serving.models.deployed.noun, serving.models.served
    versions, state = serving.versions(), serving.state()
    missing = Verdict(
        False, f"There is no endpoint {endpoint.name}: materialise {asset.to_user_string()}."
    )
    try:
        choice = serving.choose(versions, serving.find_live())
    except NotPublishedError:
        if state is None:
            return missing
        raise
    wanted, waiting = choice.wanted, choice.waiting
    waits = f" The {noun} of {waiting.date} waits for approval." if waiting else ""
    if wanted is None:
        return Verdict(True, f"Nothing was approved, so that nothing is served.{waits}")
    if state is None:
        return missing
    wanted_version = endpoint.version(wanted.sha256)
    served = served_versions(state, versions)
    evidence = {
        "status": state.status,
        "endpoint_config": state.config_name,
        "served_version": ", ".join(served) or "none that was proved",
        "wanted_version": wanted_version,
        f"wanted_{noun}_date": wanted.date,
    }
    if served == [wanted_version]:
        message = f"It serves the {noun} of {wanted.date}, as it should.{waits}"
        return Verdict(True, message, evidence)
    return Verdict(
        False,
        f"Endpoint {endpoint.name} is {state.status} with {state.config_name}, and should serve "
        f"version {wanted_version}, the {noun} of {wanted.date}: materialise "
        f"{asset.to_user_string()}, or roll back if something else is meant to be live.",
        evidence,
    )
