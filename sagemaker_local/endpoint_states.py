"""What an endpoint's document becomes at the end of a change: changes for Store.update."""

from collections.abc import Callable

from sagemaker_local.store import Document

Change = Callable[[Document], str]
# The service model's limit.
_REASON_CHARACTERS = 1024


def promoted(pending: Document) -> Change:
    """What was asked for serves."""

    def change(document: Document) -> str:
        document["_live"] = pending
        document["EndpointConfigName"] = pending["config"]["EndpointConfigName"]
        document.pop("FailureReason", None)
        return _ended(document, "InService")

    return change


def rolling_back(reason: str) -> Change:
    """What served before serves again; after a kill, too, what was asked for does not come back."""

    def change(document: Document) -> str:
        document["FailureReason"] = reason[:_REASON_CHARACTERS]
        return _ended(document, "RollingBack")

    return change


def failed(reason: str) -> Change:
    """What served before serves on, if anything did."""

    def change(document: Document) -> str:
        document["FailureReason"] = reason[:_REASON_CHARACTERS]
        return _ended(document, "InService" if document.get("_live") else "Failed")

    return change


def _ended(document: Document, status: str) -> str:
    """Forgets what was asked for, but not how: the next update may ask to be deployed alike."""
    document["EndpointStatus"] = status
    document.pop("_pending", None)
    deployment = document.pop("_deployment", None)
    if deployment:
        document["LastDeploymentConfig"] = deployment
    return status
