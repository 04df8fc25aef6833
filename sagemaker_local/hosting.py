"""The operations on models, endpoint configurations and endpoints.

They check and store documents. endpoints.py then brings an endpoint to the state of its document.
"""

import time
from collections.abc import Callable

from sagemaker_local import (
    data_capture,
    deployment_policy,
    image_lookup,
    model_packages,
    names,
    tags,
)
from sagemaker_local.aws_errors import existing, not_found, validation
from sagemaker_local.context import Context, Operation
from sagemaker_local.deployed_config import freeze, model_data_url, stored
from sagemaker_local.store import Document

_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


def create_model(context: Context, request: Document) -> Document:
    """CreateModel."""
    arn = names.arn(context.config, names.MODEL, request["ModelName"])
    _require_new(context, names.MODEL, request["ModelName"])
    if ("PrimaryContainer" in request) == ("Containers" in request):
        raise validation(
            "You must specify either PrimaryContainer or Containers to create the model, "
            "and not both."
        )
    if "ExecutionRoleArn" not in request:
        raise validation("ExecutionRoleArn is required to create the model.")
    containers = request.get("Containers", [request.get("PrimaryContainer")])
    if len(containers) != 1:
        raise validation("Inference pipelines are not supported: give one container.")
    container = model_packages.container(context, containers[0])
    _check_container(context, container, request["ExecutionRoleArn"])
    document = {
        **tags.without_tags(request),
        "ModelArn": arn,
        "CreationTime": time.time(),
        "EnableNetworkIsolation": request.get("EnableNetworkIsolation", False),
        "_container": container,
    }
    _insert(context, names.MODEL, request["ModelName"], request, document)
    return {"ModelArn": arn}


def _check_container(context: Context, container: Document, role: str) -> None:
    if "Image" not in container:
        raise validation("Image is required in the container definition.")
    image_lookup.check_image(context.config, container["Image"], role)
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise validation("ModelDataUrl and ModelDataSource cannot both be specified.")
    url = model_data_url(container)
    if url and not context.storage.exists(url):
        raise validation(f"Could not find model data at {url}.")


def create_config(context: Context, request: Document) -> Document:
    """CreateEndpointConfig."""
    name = request["EndpointConfigName"]
    arn = names.arn(context.config, names.ENDPOINT_CONFIG, name)
    _require_new(context, names.ENDPOINT_CONFIG, name)
    shadows = request.get("ShadowProductionVariants", [])
    if shadows and (len(shadows), len(request["ProductionVariants"])) != (1, 1):
        raise validation(
            "If you specify ShadowProductionVariants, you can specify only one variant for "
            "ProductionVariants and only one for ShadowProductionVariants."
        )
    seen: set[str] = set()
    for variant in request["ProductionVariants"] + shadows:
        if variant["VariantName"] in seen:
            raise validation(
                f"Production variant names must be unique: {variant['VariantName']} occurs twice."
            )
        seen.add(variant["VariantName"])
        _check_variant(context, variant)
    data_capture.check(request)
    variants = [
        {"InitialVariantWeight": 1.0, **variant} for variant in request["ProductionVariants"]
    ]
    document = {
        **tags.without_tags(request),
        "ProductionVariants": variants,
        "EndpointConfigArn": arn,
        "CreationTime": time.time(),
    }
    _insert(context, names.ENDPOINT_CONFIG, name, request, document)
    return {"EndpointConfigArn": arn}


def _check_variant(context: Context, variant: Document) -> None:
    name = variant["VariantName"]
    if "ModelName" not in variant:
        raise validation(f"ModelName is required for production variant {name}.")
    stored(context, names.MODEL, variant["ModelName"])
    if "ServerlessConfig" in variant:
        if "InstanceType" in variant or "InitialInstanceCount" in variant:
            raise validation(
                f"Production variant {name} cannot have both ServerlessConfig and instances."
            )
        return
    for member in ("InstanceType", "InitialInstanceCount"):
        if member not in variant:
            raise validation(f"{member} is required for production variant {name}.")


def create_endpoint(context: Context, request: Document) -> Document:
    """CreateEndpoint."""
    name = request["EndpointName"]
    arn = names.arn(context.config, names.ENDPOINT, name)
    _require_new(context, names.ENDPOINT, name)
    context.alarms.require(deployment_policy.rollback_alarms(request.get("DeploymentConfig")))
    pending = freeze(context, request["EndpointConfigName"])
    pending["faults"] = context.lasting_faults("CreateEndpoint")
    now = time.time()
    document: Document = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": request["EndpointConfigName"],
        "EndpointStatus": "Creating",
        "CreationTime": now,
        "LastModifiedTime": now,
        "_pending": pending,
        "_deployment": request.get("DeploymentConfig"),
    }
    _insert(context, names.ENDPOINT, name, request, document)
    context.wake_endpoint(name)
    return {"EndpointArn": arn}


def update_endpoint(context: Context, request: Document) -> Document:
    """UpdateEndpoint: acknowledged once the wanted configuration is stored."""
    name = request["EndpointName"]
    document = stored(context, names.ENDPOINT, name)
    _check_idle(document)
    pending = freeze(context, request["EndpointConfigName"])
    pending["faults"] = context.lasting_faults("UpdateEndpoint")
    if request.get("RetainAllVariantProperties"):
        _retain(pending, document, request.get("ExcludeRetainedVariantProperties", []))
    deployment = request.get("DeploymentConfig")
    if deployment is None and request.get("RetainDeploymentConfig"):
        deployment = document.get("LastDeploymentConfig")
    deployment_policy.check(deployment, pending, document["_live"])
    context.alarms.require(deployment_policy.rollback_alarms(deployment))

    def change(document: Document) -> str:
        _check_idle(document)
        document["EndpointStatus"] = "Updating"
        document["_pending"] = pending
        document["_deployment"] = deployment
        document.pop("FailureReason", None)
        return "Updating"

    _update(context, name, change)
    context.wake_endpoint(name)
    return {"EndpointArn": document["EndpointArn"]}


def update_weights(context: Context, request: Document) -> Document:
    """UpdateEndpointWeightsAndCapacities."""
    name = request["EndpointName"]
    requested = _by_variant(request["DesiredWeightsAndCapacities"])
    for variant, desired in requested.items():
        if desired.get("DesiredInstanceCount") == 0:
            raise validation(f"DesiredInstanceCount of variant {variant} must be at least 1.")

    def change(document: Document) -> str:
        _check_idle(document)
        variants = _by_variant(document["_live"]["variants"])
        for variant, desired in requested.items():
            if variant not in variants:
                raise validation(
                    f'Variant "{variant}" not found in endpoint "{document["EndpointArn"]}".'
                )
            for member in ("DesiredWeight", "DesiredInstanceCount"):
                if member in desired:
                    variants[variant][member] = desired[member]
        document["EndpointStatus"] = "Updating"
        document.pop("FailureReason", None)
        return "Updating"

    document = _update(context, name, change)
    context.wake_endpoint(name)
    return {"EndpointArn": document["EndpointArn"]}


def delete_endpoint(context: Context, request: Document) -> Document:
    """DeleteEndpoint."""

    def change(document: Document) -> str:
        if document["EndpointStatus"] in _BUSY:
            raise validation(f'Cannot update in-progress endpoint "{document["EndpointArn"]}".')
        document["EndpointStatus"] = "Deleting"
        return "Deleting"

    _update(context, request["EndpointName"], change)
    context.wake_endpoint(request["EndpointName"])
    return {}


def describe_endpoint(context: Context, request: Document) -> Document:
    """DescribeEndpoint."""
    document = stored(context, names.ENDPOINT, request["EndpointName"])
    live, pending = document.get("_live"), document.get("_pending")
    answer = dict(document)
    if live is not None:
        answer["ProductionVariants"] = live["variants"]
        if live.get("shadows"):
            answer["ShadowProductionVariants"] = live["shadows"]
        answer["DataCaptureConfig"] = data_capture.summary(live["config"].get("DataCaptureConfig"))
    if pending is not None and document["EndpointStatus"] in ("Creating", "Updating"):
        answer["PendingDeploymentSummary"] = {
            "EndpointConfigName": pending["config"]["EndpointConfigName"],
            "ProductionVariants": pending["variants"],
            "StartTime": document["LastModifiedTime"],
        }
        if pending.get("shadows"):
            answer["PendingDeploymentSummary"]["ShadowProductionVariants"] = pending["shadows"]
    return answer


def describing(kind: str, member: str) -> Operation:
    """DescribeModel and DescribeEndpointConfig: what was stored of the one named by `member`."""
    return lambda context, request: stored(context, kind, request[member])


def deleting(kind: str, member: str) -> Operation:
    """DeleteModel and DeleteEndpointConfig; an endpoint that uses it goes on doing so."""

    def delete(context: Context, request: Document) -> Document:
        arn = names.arn(context.config, kind, request[member])
        if not context.store.delete(kind, request[member], arn):
            raise not_found(kind, arn)
        return {}

    return delete


def _require_new(context: Context, kind: str, name: str) -> None:
    if context.store.get(kind, name) is not None:
        raise existing(kind, names.arn(context.config, kind, name))


def _insert(context: Context, kind: str, name: str, request: Document, document: Document) -> None:
    arn, status = names.arn(context.config, kind, name), document.get("EndpointStatus", "")
    if not tags.insert(context, kind, name, arn, request, document, status):
        raise existing(kind, arn)


def _update(context: Context, name: str, change: Callable[[Document], str]) -> Document:
    document = context.store.update(names.ENDPOINT, name, change)
    if document is None:
        raise not_found(names.ENDPOINT, names.arn(context.config, names.ENDPOINT, name))
    return document


def _check_idle(document: Document) -> None:
    arn, status = document["EndpointArn"], document["EndpointStatus"]
    if status in _BUSY:
        raise validation(f'Cannot update in-progress endpoint "{arn}".')
    if status != "InService":
        raise validation(
            f'Cannot update endpoint "{arn}" in status {status}. DeleteEndpoint is the only '
            "operation that can be performed on a failed endpoint."
        )


def _by_variant(items: list[Document]) -> dict[str, Document]:
    return {item["VariantName"]: item for item in items}


def _retain(pending: Document, document: Document, excluded: list[Document]) -> None:
    """Keeps weights and instance counts of variants that live on."""
    left_out = {item["VariantPropertyType"] for item in excluded}
    live = _by_variant(document["_live"]["variants"])
    for variant in pending["variants"]:
        before = live.get(variant["VariantName"])
        if before is None:
            continue
        for member in ("Weight", "InstanceCount"):
            desired = f"Desired{member}"
            if desired in before and desired not in left_out:
                variant[desired] = variant[f"Current{member}"] = before[desired]
