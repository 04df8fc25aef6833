"""What becomes of an endpoint's document at the end of a change, for Store.update."""

from sagemaker_local.store import Document

# The service model's limit.
_REASON_CHARACTERS = 1024


def promote(pending: Document, document: Document) -> str:
    """What was asked for serves."""
    document["_live"] = pending
    document["EndpointConfigName"] = pending["config"]["EndpointConfigName"]
    document.pop("FailureReason", None)
    return _end(document, "InService")


def roll_back(reason: str, document: Document) -> str:
    """What served before serves again; after a kill, too, what was asked for does not come back."""
    document["FailureReason"] = reason[:_REASON_CHARACTERS]
    return _end(document, "RollingBack")


def fail(reason: str, document: Document) -> str:
    """What served before serves on, if anything did."""
    document["FailureReason"] = reason[:_REASON_CHARACTERS]
    return _end(document, "InService" if document.get("_live") else "Failed")


def reach_desired(document: Document) -> str:
    """Weights and instances are as UpdateEndpointWeightsAndCapacities wants them."""
    for variant in document["_live"]["variants"]:
        variant["CurrentWeight"] = variant["DesiredWeight"]
        if "DesiredInstanceCount" in variant:
            variant["CurrentInstanceCount"] = variant["DesiredInstanceCount"]
    document["EndpointStatus"] = "InService"
    return "InService"


def _end(document: Document, status: str) -> str:
    """Forgets what was asked for, not its DeploymentConfig: the next update may take it over."""
    document["EndpointStatus"] = status
    document.pop("_pending", None)
    deployment = document.pop("_deployment", None)
    if deployment:
        document["LastDeploymentConfig"] = deployment
    return status
